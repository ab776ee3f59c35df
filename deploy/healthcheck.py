# ruff: noqa: INP001 -- a script, not a module of a package
"""Say by the exit code whether this container is well; Compose asks every few seconds.

`healthcheck.py web URL`: the web server answers, under the first of TRUSTED_HOSTS.
`healthcheck.py worker PID`: the worker's process runs and reaches its servers.
It imports nothing of the application, so that asking costs little.
"""

import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

WITHIN = 3.0
_PORTS = {"postgresql": 5432, "redis": 6379}


def web(url: str) -> None:
    """Raise unless the web server answers 200."""
    host = os.environ.get("TRUSTED_HOSTS", "localhost").split(",")[0].strip()
    request = Request(url, headers={"Host": host})  # noqa: S310 -- our own loopback address
    with urlopen(request, timeout=WITHIN):  # noqa: S310
        pass


def worker(pid: str) -> None:
    """Raise unless the worker runs (is neither stopped nor dead) and its servers accept a connection."""
    process = Path("/proc", pid)
    command = process.joinpath("cmdline").read_bytes().split(b"\0")
    if b"worker" not in command:
        raise OSError(f"process {pid} is not the worker")
    state = process.joinpath("stat").read_text().rpartition(")")[2].split()[0]
    if state not in "RSD":
        raise OSError(f"process {pid} is in state {state}")
    for name in ("DATABASE_URL", "REDIS_URL"):
        url = urlsplit(Path(os.environ[f"{name}_FILE"]).read_text().strip())
        address = (url.hostname or "", url.port or _PORTS[url.scheme])
        socket.create_connection(address, WITHIN).close()


def main(check: str, argument: str) -> int:
    try:
        {"web": web, "worker": worker}[check](argument)
    except OSError as error:
        print(f"unhealthy: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
