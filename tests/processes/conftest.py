"""What the tests of processes share: two web servers on one ledger, and four processes that act at once.

What the servers printed is shown on failure.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app import create_app
from tests import servers
from tests import site as site_module
from tests.processes.barrier import Barrier
from tests.processes.crowd import AtOnce, Crowd, Order
from tests.processes.web import Person, Web
from tests.site import CAST, Site

DATABASES = ("sqlite", "postgresql")
STORES = ("valkey", "redis", "sql")
PROCESSES = 4
_running: list[Web] = []
_marks = count()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show what the servers printed beside a failure."""
    report = yield
    if report.failed:
        for web in _running:
            report.sections.append((f"server on port {web.port}", web.printed[-8000:]))
    return report


@dataclass
class Deployment:
    """Two web server processes, the same site seen from the test's own process, and the barrier."""

    site: Site
    webs: tuple[Web, Web]
    barrier: Barrier
    store: str

    def entered(self, name: str) -> Person:
        """Return a person who has signed in, at the first server."""
        person = Person()
        person.enter(self.webs[0], name)
        return person

    @property
    def cookie_name(self) -> str:
        return str(self.site.app.config["SESSION_COOKIE_NAME"])

    def holdings(self) -> list[bytes]:
        """Return every payload in either store."""
        return holdings(self.site)


def holdings(site: Site) -> list[bytes]:
    """Return every payload in either store."""
    found: list[bytes] = []
    redis = getattr(site.system.stores.get("redis"), "_client", None)
    if redis is not None:
        prefix = site.app.config["SESSION_KEY_PREFIX"]
        found += [redis.get(key) or b"" for key in redis.scan_iter(f"{prefix}*")]
    rows = site.system.ledger.read(text("SELECT payload FROM session_payloads"))
    return found + [bytes(row.payload) for row in rows]


def waiters(site: Site) -> int:
    """Return how many of PostgreSQL's sessions on this database wait for a lock."""
    asked = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return int(site.system.ledger.read(asked)[0][0])


@pytest.fixture
def barrier() -> Iterator[Barrier]:
    with Barrier() as made:
        yield made


@pytest.fixture
def mark() -> str:
    """A text that no other test writes."""
    return f"mark-{next(_marks)}-of-this-test"


def redis_of(request: pytest.FixtureRequest, store: str) -> str | None:
    """Return the URL of an emptied server, None for the SQL store."""
    if store == "sql":
        return None
    server: servers.RedisServer = request.getfixturevalue(f"{store}_process")
    server.reset()
    return server.url


_SERVED = {
    "postgresql": (site_module.copied_postgresql, servers.drop_postgresql_database),
    "mariadb": (site_module.copied_mariadb, servers.drop_mariadb_database),
}


@pytest.fixture(scope="package")
def new_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """Make a migrated database with the cast, on the backend that is asked for."""
    made: list[Callable[[], None]] = []

    def new(backend: str) -> str:
        if backend == "sqlite":
            template: Path = request.getfixturevalue("sqlite_template")
            return site_module.copied_sqlite(template, tmp_path_factory.mktemp("served"))
        name = servers.unique_name()
        copied, drop = _SERVED[backend]
        admin_url = request.getfixturevalue(f"{backend}_admin_url")
        made.append(partial(drop, admin_url, name))
        return copied(admin_url, request.getfixturevalue(f"{backend}_template"), name)

    yield new
    for drop in made:
        drop()


def settings_for(url: str, redis: str | None, **overrides: object) -> dict[str, object]:
    """Return a site's settings; tests that fail on purpose want a 500, not a traceback."""
    if redis is None:
        overrides["SESSION_STORE_BY_ROLE"] = dict.fromkeys(set(CAST.values()), "sql")
    return site_module.settings(url, redis, **overrides) | {"TESTING": False}


@pytest.fixture(
    scope="package",
    params=[
        *[(database, store) for database in DATABASES for store in STORES],
        ("mariadb", "sql"),
    ],
    ids="-".join,
)
def deployment(
    request: pytest.FixtureRequest, new_url: Callable[[str], str]
) -> Iterator[Deployment]:
    """Two server processes, on each database and each store of members' sessions in turn."""
    database, store = request.param
    redis = redis_of(request, store)
    settings = settings_for(new_url(database), redis)
    with serving("tests.processes.served", settings) as (webs, barrier):
        site = Site(create_app(settings))
        yield Deployment(site, webs, barrier, "sql" if redis is None else "redis")
        site.close()


@contextmanager
def serving(
    application: str, settings: dict[str, object]
) -> Iterator[tuple[tuple[Web, Web], Barrier]]:
    """Serve an application from two processes for a block; both are stopped by their own pid."""
    with ExitStack() as stack:
        barrier = Barrier()
        webs = (
            Web(application, settings, barrier.port),
            Web(application, settings, barrier.port),
        )
        for web in webs:
            _running.append(web)
            stack.callback(web.close)
            stack.callback(_running.remove, web)
        stack.callback(barrier.close)
        for web in webs:
            web.until_up()
        yield webs, barrier


@pytest.fixture(scope="package")
def crowd() -> Iterator[Crowd]:
    """Four processes for the whole package: to start them takes longer than most of what they do."""
    made = Crowd(PROCESSES)
    yield made
    made.close()


@dataclass
class Square:
    """A ledger and both stores, on which four processes act: two sign members in to each store."""

    database: str
    url: str
    redis: str
    barrier: Barrier
    _crowd: Crowd

    def order(
        self, act: str, store: str = "redis", *, order: Order | None = None, **overrides: object
    ) -> Order:
        """Return an order for a process that signs members in to a store."""
        stores = {"member": store, "viewer": store, "admin": "sql"}
        settings = settings_for(self.url, self.redis, SESSION_STORE_BY_ROLE=stores, **overrides)
        return {"act": act, "settings": settings, **(order or {})}

    def at_once(self, orders: list[Order], rounds: int = 1) -> AtOnce:
        """Give each order to a process of its own."""
        return AtOnce(self._crowd, self.barrier, orders, rounds)

    def crowd(self, act: str, whom: str, times: int, **overrides: object) -> Counter[str]:
        """Let the four processes act `times` times in all."""
        more = {"whom": [whom], "times": times // PROCESSES}
        stores = ("redis", "sql") * (PROCESSES // 2)
        under_way = self.at_once(
            [self.order(act, store, order=more, **overrides) for store in stores]
        )
        under_way.start()
        return sum(under_way.finish(), Counter())


@pytest.fixture(params=DATABASES)
def square(
    request: pytest.FixtureRequest,
    new_url: Callable[[str], str],
    valkey: servers.RedisServer,
    barrier: Barrier,
    crowd: Crowd,
) -> Square:
    return Square(request.param, new_url(request.param), valkey.url, barrier, crowd)


@pytest.fixture
def site(square: Square) -> Iterator[Site]:
    """The site of a square, in the test's own process."""
    made = Site(create_app(settings_for(square.url, square.redis)))
    yield made
    made.close()
