"""One process of a crowd: it does the same thing many times, when the test opens the door.

Run as `python -m tests.processes.crowd`, with its orders as JSON on standard input; it prints what came
out as JSON. `Crowd` is the test's side.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from flask import Flask

from app import create_app
from app.audit.trail import Actor
from app.auth.sign_in import SessionLimitReached, sign_in
from app.sessions.revocation import revoke
from tests.logged import keeping
from tests.processes.barrier import PATIENCE, Barrier, wait_at
from tests.processes.served import verified
from tests.processes.web import ROOT, environment
from tests.site import Site

THREADS = 4


def main() -> None:
    orders = json.load(sys.stdin)
    app = create_app(orders["settings"])
    act: Callable[[Flask, str], str] = {"sign_in": _sign_in, "revoke": _revoke}[orders["act"]]
    with app.test_request_context():
        Site(app).rows()
    wait_at(orders["barrier"], orders["name"])
    with ThreadPoolExecutor(THREADS) as pool:
        came = Counter(pool.map(lambda _: act(app, orders["whom"]), range(orders["times"])))
    Site(app).close()
    json.dump(came, sys.stdout)


def _sign_in(app: Flask, name: str) -> str:
    """Sign in as a new browser would, but for the password."""
    with app.test_request_context("/login", environ_base={"REMOTE_ADDR": "192.0.2.1"}):
        try:
            sign_in(verified(name))
        except SessionLimitReached:
            return "denied"
        return "signed in"


def _revoke(app: Flask, reference: str) -> str:
    with app.test_request_context():
        receipt = revoke([reference], actor=Actor.cli("crowd"), reason="incident")
    return f"ended {receipt.ended}, already ended {receipt.already_ended}"


class Crowd:
    """Some processes that do the same thing at the same time."""

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier

    def run(
        self, act: str, whom: str, times: int, settings: list[Mapping[str, object]]
    ) -> Counter[str]:
        """Let one process for each of the settings act `times` times; return what came out."""
        processes = []
        try:
            for number, given in enumerate(settings):
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.processes.crowd"],
                    cwd=ROOT,
                    env=environment(),
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                processes.append(process)
                orders = {
                    "act": act,
                    "whom": whom,
                    "times": times,
                    "settings": given,
                    "barrier": self._barrier.port,
                    "name": f"crowd-{number}",
                }
                assert process.stdin is not None
                json.dump(orders, process.stdin)
                process.stdin.close()
                process.stdin = None
            doors = [self._barrier.arrived(f"crowd-{number}") for number in range(len(settings))]
            for door in doors:
                door.open()
            came: Counter[str] = Counter()
            for process in processes:
                out, err = process.communicate(timeout=2 * PATIENCE)
                keeping.keep(err, "Crowd")
                assert process.returncode == 0, err
                came.update(json.loads(out))
            return came
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                if process.stderr is not None and not process.stderr.closed:
                    # Captured, and shown if the test fails.
                    print(process.communicate()[1], file=sys.stderr)


if __name__ == "__main__":
    main()
