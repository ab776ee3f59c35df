"""Processes that end themselves by SIGKILL at a step of their work: before its k-th call to a server.

Run as `python -m tests.processes.killed`, with settings and then orders as lines of JSON on standard
input. Each order is carried out by a child of its own, which prints every step that it comes to.
`Mortals` is the test's side.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from flask import Flask
from sqlalchemy import Engine, event

from app import create_app
from app.audit.trail import Actor
from app.extensions import db
from app.sessions import revocation, upkeep
from app.sessions.freeze import Targets, freeze
from app.sessions.stores.connections import BudgetConnection
from app.sessions.system import system_of
from tests.logged import keeping
from tests.processes.served import views
from tests.processes.web import ROOT, environment

_NAME = re.compile(rb"\$\d+\r\n([A-Z]+)\r\n")


def main() -> None:
    app = create_app(json.loads(sys.stdin.readline()))
    app.register_blueprint(views)
    # Small, so that one is killed between two of them.
    revocation.BATCH = 2
    for line in sys.stdin:
        order = json.loads(line)
        if order["at"] is None:
            # Nobody dies: statements are compiled and views made, so that the children need not.
            _carry_out(app, order)
            _disconnect(app)
            status = 0
        elif (child := os.fork()) == 0:
            _count(app, order["at"])
            _carry_out(app, order)
            _Steps.take("answer")
            # What ends here is a copy: nothing of the parent's is to be flushed or closed by it.
            os._exit(0)
        else:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        _say({"status": status})


def _carry_out(app: Flask, order: Mapping[str, Any]) -> None:
    acts: dict[str, Callable[[Flask, Mapping[str, Any]], None]] = {
        "sign in": _sign_in,
        "revoke": _revoke,
        "work": _work,
    }
    acts[order["act"]](app, order)


def _sign_in(app: Flask, order: Mapping[str, Any]) -> None:
    """Sign somebody in with a browser that the ledger has not seen before."""
    client = app.test_client()
    answer = client.get(f"/t/enter/{order['whom']}", headers={"User-Agent": order["browser"]})
    assert answer.status_code == 200, answer.text


def _revoke(app: Flask, order: Mapping[str, Any]) -> None:
    """End sessions by reference, or everyone's where none is named."""
    by, references = Actor.cli("killed"), tuple(order["references"])
    targets = Targets(references=references, everyone=not references)
    with app.test_request_context():
        revocation.revoke(freeze(targets, actor=by), actor=by, reason="incident")


def _work(app: Flask, _order: Mapping[str, Any]) -> None:
    """Do what the worker does: a pass, and then what revocations have left for it."""
    with app.app_context():
        upkeep.run(system_of(app))
        revocation.resume(system_of(app))


def _disconnect(app: Flask) -> None:
    system_of(app).close()
    with app.app_context():
        db.engine.dispose()


class _Steps:
    """Counts the calls of this process and ends it before the one at which it is to die."""

    taken = 0
    last = 0

    @classmethod
    def take(cls, name: str) -> None:
        _say({"step": name})
        cls.taken += 1
        if cls.taken == cls.last:
            os.kill(os.getpid(), signal.SIGKILL)


def _count(app: Flask, at: int) -> None:
    """Make every statement, commit and command a step from here on."""
    _Steps.last = at
    system = system_of(app)
    with app.app_context():
        _watch("application", db.engine)
    _watch("ledger", system.ledger.engine)
    _watch("store", system.stores["sql"]._engine)  # type: ignore[attr-defined]
    send = BudgetConnection.send_packed_command

    def counted(self: Any, command: Any, *rest: Any, **more: Any) -> Any:
        packed = command if isinstance(command, bytes) else b"".join(command)
        _Steps.take(f"store: {b' '.join(_NAME.findall(packed)).decode()}")
        return send(self, command, *rest, **more)

    BudgetConnection.send_packed_command = counted  # type: ignore[method-assign]


def _watch(name: str, engine: Engine) -> None:
    @event.listens_for(engine, "before_cursor_execute")
    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        _Steps.take(f"{name}: {' '.join(text.split())[:60]}")

    @event.listens_for(engine, "commit")
    def commit(_connection: Any) -> None:
        _Steps.take(f"{name}: COMMIT")


def _say(what: Mapping[str, object]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


@dataclass(frozen=True)
class Death:
    """The steps to which a process came; it was killed before it took the last one, unless it `survived`."""

    steps: tuple[str, ...]
    survived: bool


class Mortals:
    """The test's side: one process for each order, from one parent that has the application loaded."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.killed"],
            cwd=ROOT,
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._tell(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _, err = self._parent.communicate(timeout=30)
        keeping.keep(err, "Mortals")
        # Captured, and shown if the test fails.
        print(err, file=sys.stderr)

    def run(self, act: str, at: int | None, **order: object) -> Death:
        """Let a process act until it comes to step `at`, from 1; None rehearses it without dying."""
        self._tell({"act": act, "at": at, **order})
        steps: list[str] = []
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            said = json.loads(line)
            if "status" in said:
                assert said["status"] in (0, -signal.SIGKILL), steps
                return Death(tuple(steps), said["status"] == 0)
            steps.append(said["step"])
        raise AssertionError(f"the parent ended after {steps}")

    def _tell(self, what: Mapping[str, object]) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(what) + "\n")
        self._parent.stdin.flush()


if __name__ == "__main__":
    main()
