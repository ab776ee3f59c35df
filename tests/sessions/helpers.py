"""What the session layer's tests share: views of their own, and counters of what a request asks for."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event

from app.auth.access import public, requires
from app.extensions import csrf, db
from app.people.models import Permission
from app.sessions.stores.breaker import BreakerState
from tests.servers import RedisServer, wait_until
from tests.site import Browser, Site


def add_view(
    site: Site | Flask,
    path: str,
    view: Callable[..., Any],
    *,
    signed_in: bool = False,
    methods: tuple[str, ...] = ("GET",),
) -> None:
    """Give the site a view that only this test has. Call it before the site's first request."""
    app = site.app if isinstance(site, Site) else site

    def named(**values: Any) -> Any:
        return view(**values)

    for name, value in vars(view).items():
        setattr(named, name, value)
    marked = requires(Permission.OWN)(named) if signed_in else public(named)
    app.add_url_rule(path, path.replace(".", "-"), csrf.exempt(marked), methods=list(methods))


@dataclass
class Calls:
    """What was asked of the servers: SQL by engine, Redis commands by name."""

    ledger: list[str] = field(default_factory=list)
    sql_store: list[str] = field(default_factory=list)
    application: list[str] = field(default_factory=list)
    redis: Counter[str] = field(default_factory=Counter)

    @property
    def none(self) -> bool:
        return not (self.ledger or self.sql_store or self.application or self.redis)


@contextmanager
def counted(site: Site, valkey: RedisServer | None = None) -> Iterator[Calls]:
    """Count what the block asks of the ledger, the SQL store, the application's engine and Redis."""
    calls = Calls()
    with site.app.app_context():
        application = db.engine
    engines: list[tuple[Engine, list[str]]] = [
        (site.system.ledger.engine, calls.ledger),
        (site.system.stores["sql"]._engine, calls.sql_store),  # type: ignore[attr-defined]
        (application, calls.application),
    ]
    with ExitStack() as stack:
        for engine, seen in engines:
            stack.enter_context(_statements(engine, seen))
        calls.redis = stack.enter_context(counted_on_valkey(valkey))
        yield calls


@contextmanager
def _statements(engine: Engine, seen: list[str]) -> Iterator[None]:
    """Note what SQLite itself says it runs, on each connection that the engine gives out."""

    def note(statement: str) -> None:
        if not statement.startswith("PRAGMA busy_timeout"):
            seen.append(statement)

    def given(connection: Any, *_: object) -> None:
        connection.set_trace_callback(note)

    def returned(connection: Any, *_: object) -> None:
        if connection is not None:
            connection.set_trace_callback(None)

    event.listen(engine, "checkout", given)
    event.listen(engine, "checkin", returned)
    try:
        yield
    finally:
        event.remove(engine, "checkout", given)
        event.remove(engine, "checkin", returned)


@contextmanager
def traced(engines: Sequence[Engine]) -> Iterator[list[str]]:
    """Yield a list that has, after the block, each message on PostgreSQL's connections, by libpq's word.

    It traces the connection that each engine's pool gives out next: use it where requests run one by one.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile("w+") as file:
        _trace(engines, lambda connection: connection.trace(file.fileno()))
        try:
            yield lines
        finally:
            _trace(engines, lambda connection: connection.untrace())
        file.seek(0)
        lines += file.readlines()


def _trace(engines: Sequence[Engine], switch: Callable[[Any], None]) -> None:
    for engine in engines:
        with closing(engine.raw_connection()) as connection:
            driver: Any = connection.driver_connection
            switch(driver.pgconn)


@contextmanager
def counted_on_valkey(valkey: RedisServer | None) -> Iterator[Counter[str]]:
    """Count the commands that the block sends to Valkey, by its own count."""
    counts: Counter[str] = Counter()
    before = _commands(valkey)
    try:
        yield counts
    finally:
        counts.update(_commands(valkey) - before)


def _commands(valkey: RedisServer | None) -> Counter[str]:
    """Return the server's own counts by command, but for those that connecting and counting take."""
    if valkey is None:
        return Counter()
    with valkey.client() as client:
        stats = client.info("commandstats")
    ours = {"info", "hello", "auth", "select", "ping", "flushall"}
    counts = {name.removeprefix("cmdstat_"): int(value["calls"]) for name, value in stats.items()}
    return Counter(
        {
            name: calls
            for name, calls in counts.items()
            if name not in ours and not name.startswith(("client", "config", "replicaof"))
        }
    )


def with_cookie(site: Site, value: str, name: str | None = None) -> Browser:
    """Return a browser that sends this session cookie."""
    browser = site.browser()
    browser.client.set_cookie(name or site.app.config["SESSION_COOKIE_NAME"], value)
    return browser


def reference_of(site: Site, name: str) -> str:
    (row,) = site.live(name)
    return str(row.reference)


def bring_back(site: Site, valkey: RedisServer) -> None:
    """Start a killed server, and wait until the site asks it again: a breaker may rest."""
    valkey.start()
    breaker = site.system.stores["redis"].breaker
    wait_until(lambda: breaker.state is not BreakerState.OPEN)
