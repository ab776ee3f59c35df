"""What a site costs with very many live sessions: its lists and counts, an export, a worker's pass, and
ending some or all of them.

`make bench ARGS="scale --sizes 10000,100000,1000000 --sqlite 100000"`. Each size has a population of its
own (`benchmarks.population`), with Valkey beside the database. What is measured are the functions that
pages, commands and worker call. Beside the revocations another process goes on to sign people in.
"""

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from queue import Empty
from threading import Thread
from typing import Any, ClassVar

from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import insert, select, text
from werkzeug.test import Client, EnvironBuilder

from app import create_app
from app.audit.trail import Actor
from app.auth.access import public
from app.auth.sign_in import Verified, sign_in
from app.columns import clock
from app.people.models import Role, User
from app.sessions import revocation, search, upkeep
from app.sessions.filter import SessionFilter
from app.sessions.freeze import Targets, freeze, review
from app.sessions.models import UserSession
from app.sessions.receipt import Receipt, receipt
from app.sessions.stores import budget
from app.sessions.system import system_of
from benchmarks import figures
from benchmarks.population import BRANCH, CLIENT, DESK, IDLE, OFFICE, Population, populate
from tests.servers import (
    PostgresServer,
    RedisServer,
    postgresql_binaries,
    valkey_binary,
)

KEY = "a key of the benchmark, which guards nothing at all"
CLI = Actor.cli("benchmark")
DEADLINE = 0.8
PAGE = 50
MOST_EXPORTED = 100_000
EVERYBODY = "everybody"
"""Who is signed in by name here: an administrator for the pages, and who is seen to be denied."""


class Postgres(PostgresServer):
    """PostgreSQL set up for a site of this size on a small machine; what it has committed is kept."""

    settings: ClassVar = {
        "fsync": "on",
        "shared_buffers": "2GB",
        "effective_cache_size": "4GB",
        "max_wal_size": "4GB",
        "random_page_cost": "1.1",
        "wal_compression": "lz4",
    }

    def command(self) -> list[str]:
        more = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        return super().command() + more


def site(database: str, redis_url: str) -> Flask:
    """Return a site in which nobody's session expires while it is measured."""
    hours = int(IDLE.total_seconds())
    app = create_app(
        {
            "ROLLCALL_ENV": "development",
            "SECRET_KEY": KEY,
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "REQUEST_DEADLINE": 30.0,
            "SESSION_LIMIT": 3,
            "SESSION_LIMIT_BY_ROLE": {role.value: 3 for role in Role},
            "SESSION_IDLE_TIMEOUT": hours,
            "SESSION_IDLE_TIMEOUT_BY_ROLE": {role.value: hours for role in Role},
        }
    )

    @app.get("/sign-in/<name>")
    @public
    def sign_in_as(name: str) -> str:
        sign_in(_verified(app, User.name == name))
        return name

    return app


def _verified(app: Flask, which: Any) -> Verified:
    columns = select(User.id, User.name, User.role, User.password_hash)
    row = system_of(app).ledger.read(columns.where(which).limit(1))[0]
    return Verified(row.id, row.name, row.role, row.password_hash)


def go_on_signing_in(database: str, redis_url: str, people: int, stop: Any, out: Any) -> None:
    """Sign in one person after the other until told to stop, and hand out how long each took, in seconds."""
    app = site(database, redis_url)
    while not stop.is_set():
        whom = _verified(app, User.name == f"person{random.randrange(people):07}")
        with app.test_request_context("/", environ_base={"REMOTE_ADDR": "198.51.100.7"}):
            begun = time.perf_counter()
            sign_in(whom)
            out.put(time.perf_counter() - begun)
        stop.wait(0.02)


class Scale:
    """One population, and what is measured over it."""

    def __init__(self, kind: str, size: int, database: str, redis_url: str) -> None:
        self.kind, self.size, self.database, self.redis_url = kind, size, database, redis_url
        self.app = site(database, redis_url)
        self.system = system_of(self.app)
        self.made = Population(0, 0, 0)

    def run(self, runs: int) -> None:
        print(f"{self.size} live sessions on {self.kind}", flush=True)
        self.populate()
        for measure in (self.lists, self.counts, self.pages):
            measure(runs)
        self.export()
        self.worker()
        self.revocations()

    def say(self, part: str, name: str, value: float, unit: str, n: int = 1) -> None:
        figures.record(f"{part}.{self.kind}.{self.size}.{name}", value, unit, n)
        print(f"  {part + ' ' + name:36}{value:14,.2f} {unit:9} n={n}", flush=True)

    def median(self, part: str, name: str, call: Callable[[], object], runs: int) -> None:
        """Measure a call after a first one: the median and the 95th percentile, in milliseconds."""
        call()
        taken = sorted(self.timed(call) * 1000 for _ in range(runs))
        self.say(part, f"{name}_ms", statistics.median(taken), "ms", runs)
        self.say(part, f"{name}_p95_ms", taken[round(0.95 * (runs - 1))], "ms", runs)

    @staticmethod
    def timed(call: Callable[[], object]) -> float:
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun

    def populate(self) -> None:
        with self.app.app_context():
            upgrade(directory=str(Path(self.app.root_path) / "migrations"))
        seconds = self.timed(self._populate)
        self.say("population", "seconds", seconds, "s")
        if self.kind == "postgresql":
            size = text("SELECT pg_total_relation_size('user_sessions')")
            rows = self.made.live + self.made.ended
            each = self.system.ledger.read(size)[0][0] / rows
            self.say("population", "bytes_a_row_with_indexes", each, "bytes", rows)

    def _populate(self) -> None:
        self.made = populate(self.app, self.redis_url, self.size)
        somebody = {
            "name": EVERYBODY, "name_key": EVERYBODY, "role": Role.ADMIN.value, "active": True,
            "password_hash": "-", "created_at": clock(), "password_changed_at": clock(),
        }  # fmt: skip
        with self.system.ledger.transaction() as tx:
            tx.connection.execute(insert(User).values(somebody))

    # What staff look at

    def lists(self, runs: int) -> None:
        """Measure the first page of each list, and one in the middle: rows, and a look into their stores."""
        with self.app.test_request_context("/"):
            for name, where in self._filters().items():
                self.median("list", name, partial(search.page_of, where, PAGE), runs)
            middle = self._middle()
            self.median(
                "list", "middle_page", partial(search.page_of, SessionFilter(), PAGE, middle), runs
            )

    def counts(self, runs: int) -> None:
        """Measure the exact count that stands above each list, and those of the overview."""
        with self.app.test_request_context("/"):
            for name, where in self._filters().items():
                self.median("count", name, partial(search.count_of, where), runs)

    def _filters(self) -> dict[str, SessionFilter]:
        return {
            "first_page": SessionFilter(),
            "user": SessionFilter(user="person0000777"),
            "name_begins": SessionFilter(q="person00007"),
            "network_16": SessionFilter(ip=BRANCH),
            "network_24": SessionFilter(ip=DESK),
            "client": SessionFilter(client=CLIENT),
            "role_admin": SessionFilter(role="admin"),
            "role_member": SessionFilter(role="member"),
            "store_sql": SessionFilter(store="sql"),
            "idle": SessionFilter(idle=">1h"),
            "ended": SessionFilter(state="ended"),
        }

    def _middle(self) -> str:
        rows = (
            select(UserSession.id, UserSession.last_seen_at, UserSession.ended_at)
            .where(UserSession.ended_at.is_(None))
            .order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
        )
        (row,) = self.system.ledger.read(rows.offset(self.size // 2).limit(1))
        return search.cursor_after(SessionFilter(), row)

    def pages(self, runs: int) -> None:
        """Measure whole requests, counts and rendering included."""
        get = self._signed_in()
        self.median("page", "sessions", partial(get, "/admin/sessions"), runs)
        self.median("page", "sessions_json", partial(get, "/admin/sessions?format=json"), runs)
        self.median("page", "overview", partial(get, "/admin/"), runs)

    def _signed_in(self) -> Callable[[str], Iterator[bytes]]:
        """Return what gets a page as an administrator, and its chunks."""
        headers = Client(self.app).get(f"/sign-in/{EVERYBODY}").headers.getlist("Set-Cookie")
        cookie = "; ".join(header.partition(";")[0] for header in headers)

        def get(path: str) -> Iterator[bytes]:
            environ = EnvironBuilder(path, headers={"Cookie": cookie}).get_environ()
            answers: list[str] = []
            body = self.app.wsgi_app(environ, lambda status, *_: answers.append(status))
            chunks = list(body)
            if not answers[0].startswith("200"):
                raise SystemExit(f"{path} answered {answers[0]}: {b''.join(chunks)[:300]!r}")
            return iter(chunks)

        return get

    def export(self) -> None:
        """Measure a CSV export of at most 100,000 rows."""
        get = self._signed_in()
        rows = min(self.size, MOST_EXPORTED)
        seconds = self.timed(partial(get, "/admin/sessions?format=csv"))
        self.say("export", "csv_rows_a_second", rows / seconds, "rows/s", rows)
        self.say("export", "csv_s", seconds, "s")

    # What the worker does

    def worker(self) -> None:
        """Measure passes in which there is nothing to find: what they cost is looking."""
        walk = upkeep.Walk()
        with self.app.app_context():
            taken = [self.timed(lambda: upkeep.run(self.system, walk=walk)) for _ in range(3)]
        self.say("worker", "pass_s", statistics.median(taken), "s", len(taken))

    # Ending sessions

    def revocations(self) -> None:
        """Measure ending 1, 1,000, a tenth of all, and all sessions, while others sign in."""
        with self._sign_ins("revoke_some"), self.app.test_request_context("/"):
            for number in (1, 1000):
                live = select(UserSession.reference).where(UserSession.ended_at.is_(None))
                rows = self.system.ledger.read(
                    live.order_by(UserSession.last_seen_at).limit(number)
                )
                targets = Targets(references=tuple(row.reference for row in rows))
                self.say("revoke", f"{number}_s", self.timed(partial(self._revoke, targets)), "s")
            tenth = Targets(matching=SessionFilter(ip=OFFICE))
            begun = time.perf_counter()
            frozen = freeze(tenth, actor=CLI)
            self.say("freeze", "tenth_s", time.perf_counter() - begun, "s", frozen.size)
            done = revocation.revoke(frozen, actor=CLI, reason="incident")
            self.say("revoke", "tenth_s", time.perf_counter() - begun, "s", done.ended)
            self._check(done)
        with self._sign_ins("revoke_everyone"), self.app.test_request_context("/"):
            self._everyone()

    def _revoke(self, targets: Targets) -> None:
        frozen = freeze(targets, actor=CLI)
        self._check(revocation.revoke(frozen, actor=CLI, reason="incident"))

    def _check(self, done: Receipt) -> None:
        if not done.finished or done.purge_pending or done.present:
            raise SystemExit(f"a revocation was not done: {done}")

    def _everyone(self) -> None:
        begun = time.perf_counter()
        frozen = freeze(Targets(everyone=True), actor=CLI)
        self.say("freeze", "everyone_s", time.perf_counter() - begun, "s", frozen.size)
        self.say(
            "freeze", "everyone_review_s", self.timed(lambda: review(frozen.id, actor=CLI)), "s"
        )
        # An application of its own, whose connections know a request's deadline.
        web = site(self.database, self.redis_url)
        confirmed = time.perf_counter()
        with (
            closing(system_of(web)),
            self._seen_denied(confirmed),
            web.test_request_context("/"),
        ):
            budget.start(DEADLINE)
            revocation.confirm(frozen.id, actor=CLI, reason="incident")
            self.say("revoke", "everyone_confirm_s", time.perf_counter() - confirmed, "s")
            budget.start(DEADLINE)
            took = self.timed(lambda: receipt(system_of(web), frozen.id))
            self.say("revoke", "everyone_receipt_under_way_s", took, "s")
            budget.clear()
        revocation.resume(self.system)
        done = receipt(self.system, frozen.id)
        assert done is not None
        self._check(done)
        self.say("revoke", "everyone_s", time.perf_counter() - confirmed, "s", done.ended)
        took = self.timed(lambda: receipt(self.system, frozen.id))
        self.say("revoke", "everyone_receipt_s", took, "s")

    @contextmanager
    def _seen_denied(self, since: float) -> Iterator[None]:
        """Ask again and again about the oldest session, and say when it was denied."""
        live = select(UserSession.id).where(UserSession.ended_at.is_(None))
        (row,) = self.system.ledger.read(live.order_by(UserSession.id).limit(1))
        denied: list[float] = []

        def ask() -> None:
            while not denied:
                found = self.system.ledger.reopen(row.id)
                if found is None or not found.live:
                    denied.append(time.perf_counter() - since)

        asking = Thread(target=ask, daemon=True)
        asking.start()
        yield
        asking.join()
        self.say("revoke", "everyone_denied_s", denied[0], "s")

    @contextmanager
    def _sign_ins(self, name: str) -> Iterator[None]:
        """Let another process sign people in for the block, and say how long the slowest one waited."""
        spawned = multiprocessing.get_context("spawn")
        stop, out = spawned.Event(), spawned.Queue()
        arguments = (self.database, self.redis_url, self.made.people, stop, out)
        process = spawned.Process(target=go_on_signing_in, args=arguments)
        process.start()
        try:
            out.get(timeout=60)
            yield
        finally:
            stop.set()
        taken = []
        while process.is_alive() or not out.empty():
            try:
                taken.append(out.get(timeout=0.1))
            except Empty:
                continue
        process.join()
        if process.exitcode != 0 or not taken:
            raise SystemExit("the process that signs in beside a revocation has failed")
        self.say("sign_in", f"beside_{name}_longest_s", max(taken), "s", len(taken))
        self.say("sign_in", f"beside_{name}_s", statistics.median(taken), "s", len(taken))


def main(arguments: list[str]) -> None:
    """Measure each size on servers of its own."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=scale", description=__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="on PostgreSQL")
    parser.add_argument("--sqlite", default="100000", help="sizes on SQLite")
    parser.add_argument("--runs", type=int, default=15, help="of each thing that is looked at")
    given = parser.parse_args(arguments)
    valkey = RedisServer(valkey_binary())
    try:
        for size in _sizes(given.sizes):
            _on_postgresql(valkey, size, given.runs)
        for size in _sizes(given.sqlite):
            _on_sqlite(valkey, size, given.runs)
    finally:
        valkey.close()


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]


def _on_postgresql(valkey: RedisServer, size: int, runs: int) -> None:
    server = Postgres(postgresql_binaries())
    try:
        _run(Scale("postgresql", size, server.url, valkey.url), runs, valkey)
    finally:
        server.close()


def _on_sqlite(valkey: RedisServer, size: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(Scale("sqlite", size, f"sqlite:///{folder}/rollcall.db", valkey.url), runs, valkey)


def _run(scale: Scale, runs: int, valkey: RedisServer) -> None:
    try:
        scale.run(runs)
    finally:
        scale.system.close()
        valkey.reset()
