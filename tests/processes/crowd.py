"""Processes that act at once: each does what its order says when the test opens the door.

Run as `python -m tests.processes.crowd`: an order is a line of JSON on standard input, its answer a line
on standard output. `Crowd` is the test's side; its processes take any number of orders, for any site.
"""

import json
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle, islice
from threading import Lock
from typing import Any

from flask import Flask
from sqlalchemy import event

from app import create_app
from app.audit.trail import Actor
from app.auth import changes
from app.auth.sign_in import SessionLimitReached, SignInRefused, sign_in
from app.people.models import User
from app.sessions import revocation, upkeep
from app.sessions.freeze import NothingToRevoke, Targets, freeze
from app.sessions.receipt import Receipt
from tests.logged import keeping
from tests.processes.barrier import PATIENCE, Barrier, Door, wait_at
from tests.processes.served import verified
from tests.processes.web import ROOT, environment
from tests.site import Site

THREADS = 4

Order = Mapping[str, Any]
"""`act`, `settings`, and what the act asks for: `whom`, `times` in each of `rounds`; `stop` names the
point of its first transaction at which it stands still, `dawdle` spreads its rounds' beginnings."""


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"came": obey(order)}
        except Exception:  # noqa: BLE001 - the test shows it
            answer = {"failed": traceback.format_exc()}
        print(json.dumps({"id": order["id"], **answer}), flush=True)


def obey(order: Order) -> Counter[str]:
    """Do an order's rounds, each from a door on, and return what came out."""
    app = create_app(order["settings"])
    site = Site(app)
    try:
        with app.test_request_context():
            site.rows()
        if order.get("stop"):
            _stop_once(site, order["stop"], order)
        came: Counter[str] = Counter()
        with ThreadPoolExecutor(THREADS) as pool:
            for number in range(order["rounds"]):
                wait_at(order["barrier"], f"{order['name']}-{number}")
                for _ in range(number % order.get("dawdle", 1)):
                    site.rows()
                whom = islice(cycle(order["whom"]), order["times"])
                came.update(pool.map(lambda name: ACTS[order["act"]](app, name), whom))
        return came
    finally:
        site.close()


def _stop_once(site: Site, point: str, order: Order) -> None:
    """Stand at the barrier when the first transaction begins ("begin"), or before its commit ("commit").

    The process's other threads come no further than that either.
    """
    left, one_at_a_time = [point], Lock()

    def stop() -> None:
        with one_at_a_time:
            if left:
                left.clear()
                wait_at(order["barrier"], f"{order['name']}-{point}")

    engine = site.system.ledger.engine
    if point == "commit":
        event.listen(engine, "commit", lambda _connection: stop())
        return

    @event.listens_for(engine, "before_cursor_execute")
    def begins(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("BEGIN"):
            stop()


def _sign_in(app: Flask, name: str) -> str:
    """Sign in as a new browser would, but for the password: what was verified must still hold."""
    with app.test_request_context("/login", environ_base={"REMOTE_ADDR": "192.0.2.1"}):
        try:
            checked = verified(name)
            sign_in(checked, checked.password_hash)
        except SessionLimitReached:
            return "denied"
        except SignInRefused:
            return "refused"
        return "signed in"


def _revoke(app: Flask, references: str) -> str:
    """End sessions, whose references stand in one text with spaces."""
    with app.test_request_context():
        return _words(revocation.revoke(references.split(), actor=_OPS, reason="incident"))


def _revoke_user(app: Flask, name: str) -> str:
    return _freeze_and_confirm(app, Targets(user_id=Site(app).user_id(name)))


def _revoke_everyone(app: Flask, _name: str) -> str:
    return _freeze_and_confirm(app, Targets(everyone=True))


def _freeze_and_confirm(app: Flask, targets: Targets) -> str:
    with app.test_request_context():
        try:
            frozen = freeze(targets, actor=_OPS)
        except NothingToRevoke:
            return "nothing to revoke"
        return _words(revocation.revoke(frozen, actor=_OPS, reason="incident"))


def _words(receipt: Receipt) -> str:
    return f"ended {receipt.ended}, already ended {receipt.already_ended}"


def _disable(app: Flask, name: str) -> str:
    with app.test_request_context():
        changes.disable_user(Site(app).user_id(name), actor=_OPS)
    return "disabled"


def _reset_password(app: Flask, name: str) -> str:
    with app.test_request_context():
        changes.reset_password(Site(app).user_id(name), "a lantern above the harbour", actor=_OPS)
    return "reset"


def _change_role(app: Flask, name: str) -> str:
    site = Site(app)
    with app.test_request_context():
        (user,) = site.system.ledger.read(User.__table__.select().where(User.name == name))
        changes.change_role(user.id, "viewer" if user.role == "member" else "member", actor=_OPS)
    return "changed"


def _pass(app: Flask, _name: str) -> str:
    """Do what the worker does on its clock."""
    with app.test_request_context():
        revocation.resume(Site(app).system)
        upkeep.run(Site(app).system)
    return "passed"


_OPS = Actor.cli("crowd")

ACTS: dict[str, Callable[[Flask, str], str]] = {
    "sign_in": _sign_in,
    "revoke": _revoke,
    "revoke_user": _revoke_user,
    "revoke_everyone": _revoke_everyone,
    "disable": _disable,
    "reset_password": _reset_password,
    "change_role": _change_role,
    "pass": _pass,
}
"""What a process can do. An act names one of `whom` and answers in a word or two."""


class Crowd:
    """Some processes that act at the same time."""

    def __init__(self, size: int) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `close` closes it
        self._ids = count()
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.processes.crowd"],
                cwd=ROOT,
                env=environment(),
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
            for _ in range(size)
        ]

    def send(self, number: int, order: Order) -> int:
        """Give a process an order and return the order's id."""
        to = self._processes[number].stdin
        assert to is not None
        order_id = next(self._ids)
        to.write(json.dumps({"id": order_id, **order}) + "\n")
        to.flush()
        return order_id

    def answer(self, number: int, order_id: int) -> Counter[str]:
        """Return what came out of a process's order. It fails the test if the process did."""
        said = self._processes[number].stdout
        assert said is not None
        for line in said:
            answer = json.loads(line)
            # A test that failed may have left an answer behind.
            if answer["id"] == order_id:
                assert "failed" not in answer, answer["failed"]
                return Counter(answer["came"])
        self._errors.seek(0)
        raise AssertionError(f"a process of the crowd ended: {self._errors.read()[-4000:]}")

    def close(self) -> None:
        """End the processes: they end with their input."""
        for process in self._processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        self._errors.seek(0)
        keeping.keep(self._errors.read(), "Crowd")
        self._errors.close()


class AtOnce:
    """Orders under way. Between two rounds all processes stand still, so that the test can look."""

    def __init__(
        self, crowd: Crowd, barrier: Barrier, orders: Sequence[Order], rounds: int = 1
    ) -> None:
        self._crowd = crowd
        self._barrier = barrier
        self._rounds = rounds
        self.came: list[Counter[str]] = []
        self._ids = [
            crowd.send(
                number,
                {
                    "whom": [""],
                    "times": 1,
                    **order,
                    "rounds": rounds,
                    "barrier": barrier.port,
                    "name": f"crowd-{number}",
                },
            )
            for number, order in enumerate(orders)
        ]

    def rounds(self) -> Iterator[int]:
        """Open the doors of each round, and yield its number when everybody has done it."""
        doors = self._doors(0)
        for number in range(self._rounds):
            for door in doors:
                door.open()
            if number + 1 < self._rounds:
                doors = self._doors(number + 1)
            else:
                self.finish()
            yield number

    def start(self) -> None:
        """Open the doors of the first round, and wait for nobody."""
        for door in self._doors(0):
            door.open()

    def finish(self) -> list[Counter[str]]:
        """Wait for everybody, and return what came out of each order."""
        self.came = [self._crowd.answer(at, own) for at, own in enumerate(self._ids)]
        return self.came

    def _doors(self, number: int) -> list[Door]:
        return [self._barrier.arrived(f"crowd-{at}-{number}") for at in range(len(self._ids))]


if __name__ == "__main__":
    main()
