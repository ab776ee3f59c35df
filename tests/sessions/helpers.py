"""What the session layer's tests share: views of their own, and counters of what a request asks for."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    listeners = []
    for engine, seen in engines:

        def note(_c: Any, _cursor: Any, statement: str, *_: Any, seen: list[str] = seen) -> None:
            seen.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        listeners.append((engine, note))
    before = _commands(valkey)
    try:
        yield calls
    finally:
        calls.redis.update(_commands(valkey) - before)
        for engine, note in listeners:
            event.remove(engine, "before_cursor_execute", note)


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
