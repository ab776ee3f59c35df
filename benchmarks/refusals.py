"""`make bench ARGS=refusals`: whether the time of a refused sign-in tells who exists (ASVS 6.3.8).

Refusals of each kind are interleaved, each from a network of its own, and their times ranked against
those of a name that nobody has, by the wall and by this process's own time, which a busy machine does
not blur. A z beyond 3 is more than chance: that kind can be told apart by whoever may ask that often.
The throttle lets nobody, so this looks at the code, before an attacker could.
"""

import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from flask import Flask
from sqlalchemy import select

from app import create_app
from app.audit.trail import Actor
from app.auth.changes import disable_user
from app.auth.sign_in import sign_in
from app.extensions import db
from app.people.models import User
from app.sessions.system import system_of
from benchmarks.figures import record
from benchmarks.requests import Taken
from benchmarks.tables import machine, table
from tests.site import PASSWORD, SECRET, migrate

KINDS = {
    "a name that nobody has": ("nobody", "wrong"),
    "wrong password": ("vera", "wrong"),
    "wrong password, 60 sessions lately": ("alice", "wrong"),
    "right password, disabled": ("bob", PASSWORD),
}
"""The first is what the others are held against."""

LATELY = 60
WARM_UP = 5


def main(arguments: list[str]) -> None:
    """Refuse, rank, print a table and record the figures."""
    parser = ArgumentParser(prog="make bench ARGS=refusals", description=__doc__)
    parser.add_argument("--samples", type=int, default=200, help="of each kind")
    samples = parser.parse_args(arguments).samples
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        app = _site(Path(folder))
        taken = _refused(app, samples)
        system_of(app).close()
    print(f"Taken on {machine()}\n### Refused sign-ins, {samples} of each kind\n")
    print(table(["", "median, ms", "z", "median, ms CPU", "z, CPU"], list(_rows(taken))))


def _rows(taken: dict[str, Taken]) -> Iterator[list[str]]:
    nobody, *_ = taken.values()
    for kind, times in taken.items():
        row = [kind]
        for clock, some, others in (
            ("wall", times.wall, nobody.wall),
            ("cpu", times.cpu, nobody.cpu),
        ):
            z = z_of(some, others)
            row += [f"{statistics.median(some) * 1000:.1f}", f"{z:+.1f}"]
            record(
                f"refusal.{kind.replace(',', '').replace(' ', '_')}.{clock}_z", z, "z", len(some)
            )
        yield row


def _site(folder: Path) -> Flask:
    """Make a site on SQLite alone, where alice has signed in often and bob is disabled."""
    app = create_app(
        {
            "ROLLCALL_ENV": "development",
            "SECRET_KEY": SECRET,
            "DATABASE_URL": f"sqlite:///{folder}/rollcall.db",
            "SESSION_TYPE": "sqlalchemy",
            "REDIS_URL": None,
            "WTF_CSRF_ENABLED": False,
        }
    )
    migrate(app)
    with app.app_context():
        people = {user.name: user for user in db.session.scalars(select(User))}
    for _ in range(LATELY):
        with app.test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.1"}):
            sign_in(people["alice"])
    with app.test_request_context():
        disable_user(people["bob"].id, actor=Actor.system())
    return app


def _refused(app: Flask, samples: int) -> dict[str, Taken]:
    """Return the seconds of each kind's refusals."""
    client = app.test_client(use_cookies=False)
    networks = (f"10.{number // 250}.{number % 250}.1" for number in count())
    taken = {kind: Taken() for kind in KINDS}
    for round_ in range(samples + WARM_UP):
        for kind, (name, password) in KINDS.items():
            data = {"username": name, "password": password}
            network = {"REMOTE_ADDR": next(networks)}
            began, own = time.perf_counter(), time.process_time()
            answer = client.post("/login", data=data, environ_base=network)
            wall, cpu = time.perf_counter() - began, time.process_time() - own
            assert answer.status_code == 422, answer.status
            if round_ >= WARM_UP:
                taken[kind].wall.append(wall)
                taken[kind].cpu.append(cpu)
    return taken


def z_of(some: list[float], others: list[float]) -> float:
    """Return by how many standard deviations `some` rank above `others` (Mann and Whitney)."""
    above = sum((one > other) + (one == other) / 2 for one in some for other in others)
    pairs = len(some) * len(others)
    return (above - pairs / 2) / (pairs * (len(some) + len(others) + 1) / 12) ** 0.5
