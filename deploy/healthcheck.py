# ruff: noqa: INP001 -- a script, not a module of a package
"""Say by the exit code whether this container is well; Compose asks every few seconds.

`healthcheck.py web URL`: the web server answers, under the first of TRUSTED_HOSTS.
`healthcheck.py worker URL`: the worker has finished a pass lately, by its metrics.
It imports nothing of the application, so that asking costs little.
"""

import os
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

WITHIN = 3.0
STUCK_AFTER = 300.0
"""Seconds without a finished pass; there is one every 30 seconds, and some take long."""
LAST_PASS = "rollcall_worker_last_pass_timestamp_seconds"


def web(url: str) -> None:
    """Raise unless the web server answers 200."""
    host = os.environ.get("TRUSTED_HOSTS", "localhost").split(",")[0].strip()
    request = Request(url, headers={"Host": host})  # noqa: S310 -- our own loopback address
    with urlopen(request, timeout=WITHIN):  # noqa: S310
        pass


def worker(url: str) -> None:
    """Raise unless a pass has finished lately: a process that runs and does nothing is not well."""
    request = Request(url, headers=_authorization())  # noqa: S310 -- our own loopback address
    with urlopen(request, timeout=WITHIN) as answer:  # noqa: S310
        lines = answer.read().decode().splitlines()
    ended = [float(line.split()[1]) for line in lines if line.startswith(f"{LAST_PASS} ")]
    if not ended:
        raise OSError("no pass has finished yet")
    if (age := time.time() - ended[0]) > STUCK_AFTER:
        raise OSError(f"the last pass finished {age:.0f} seconds ago")


def _authorization() -> dict[str, str]:
    file = os.environ.get("METRICS_TOKEN_FILE")
    token = Path(file).read_text().strip() if file else os.environ.get("METRICS_TOKEN", "")
    return {"Authorization": f"Bearer {token}"} if token else {}


def main(check: str, argument: str) -> int:
    try:
        {"web": web, "worker": worker}[check](argument)
    except OSError as error:
        print(f"unhealthy: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
