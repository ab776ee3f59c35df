"""The servers that tests ask for by name. See `tests.servers` for what they are."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from app import create_app
from app.columns import skew
from app.sessions.stores import ServedStore
from tests import order, redis_servers, servers
from tests import site as site_module
from tests.logged import keeping
from tests.site import Site
from tests.stores import KINDS, with_payload_table

DATABASES = ("sqlite", "postgresql", "mariadb")

# The same examples in every run, however slow the machine is at one of them;
# `make test ARGS=--hypothesis-profile=default` tries others.
settings.register_profile(
    "rollcall", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("rollcall")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.sort(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> order.ByFile | None:
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return order.ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def everything_is_kept() -> Iterator[None]:
    """Keep what the applications log, for the last step of `make test`."""
    with keeping.own_lines():
        yield


@pytest.fixture(scope="session")
def valkey_process() -> Iterator[servers.RedisServer]:
    server = servers.RedisServer(servers.valkey_binary())
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_process() -> Iterator[servers.RedisServer]:
    server = servers.RedisServer(servers.redis_binary())
    yield server
    server.close()


@pytest.fixture
def valkey(valkey_process: servers.RedisServer) -> Iterator[servers.RedisServer]:
    """Valkey, empty; a test may stop, kill or restart it."""
    valkey_process.reset()
    yield valkey_process
    valkey_process.reset()


@pytest.fixture
def redis_server(redis_process: servers.RedisServer) -> Iterator[servers.RedisServer]:
    """Redis of the system, empty; a test may stop, kill or restart it."""
    redis_process.reset()
    yield redis_process
    redis_process.reset()


@pytest.fixture(scope="session")
def password_process() -> Iterator[redis_servers.PasswordRedis]:
    server = redis_servers.PasswordRedis(servers.redis_binary())
    yield server
    server.close()


@pytest.fixture
def password_redis(password_process: redis_servers.PasswordRedis) -> redis_servers.PasswordRedis:
    """Redis with a password and a user, empty."""
    password_process.reset()
    return password_process


@pytest.fixture(scope="session")
def tls_process() -> Iterator[redis_servers.TlsRedis]:
    server = redis_servers.TlsRedis(servers.redis_binary())
    yield server
    server.close()


@pytest.fixture
def tls_redis(tls_process: redis_servers.TlsRedis) -> redis_servers.TlsRedis:
    """Redis over TLS, empty."""
    tls_process.reset()
    return tls_process


@pytest.fixture(scope="session")
def cluster_process() -> Iterator[redis_servers.Cluster]:
    cluster = redis_servers.Cluster(servers.valkey_binary())
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(cluster_process: redis_servers.Cluster) -> redis_servers.Cluster:
    """A Cluster of three masters, whole and empty; a test may stop, kill or promote its nodes."""
    cluster_process.reset()
    return cluster_process


@pytest.fixture(scope="session")
def sentinels_process() -> Iterator[redis_servers.Sentinels]:
    sentinels = redis_servers.Sentinels(servers.redis_binary())
    yield sentinels
    sentinels.close()


@pytest.fixture
def sentinels(sentinels_process: redis_servers.Sentinels) -> redis_servers.Sentinels:
    """A master under three Sentinels, whole and empty; a test may stop or kill any of them."""
    sentinels_process.reset()
    return sentinels_process


@pytest.fixture(scope="session")
def postgresql_process() -> Iterator[servers.PostgresServer]:
    server = servers.PostgresServer(servers.postgresql_binaries())
    yield server
    server.close()


@pytest.fixture
def postgresql(postgresql_process: servers.PostgresServer) -> Iterator[servers.PostgresServer]:
    """A PostgreSQL of our own, which a test may stop, kill or restart."""
    yield postgresql_process
    if not postgresql_process.running:
        postgresql_process.start()
    postgresql_process.cont()


@pytest.fixture(scope="session")
def postgresql_admin_url(request: pytest.FixtureRequest) -> str:
    """The server named by TEST_POSTGRESQL_URL, or one of our own."""
    named = os.environ.get("TEST_POSTGRESQL_URL")
    if named:
        return named
    process: servers.PostgresServer = request.getfixturevalue("postgresql_process")
    return process.url


@pytest.fixture(scope="session")
def mariadb_process() -> Iterator[servers.MariadbServer]:
    server = servers.MariadbServer(servers.mariadb_binary())
    yield server
    server.close()


@pytest.fixture
def mariadb(mariadb_process: servers.MariadbServer) -> Iterator[servers.MariadbServer]:
    """A MariaDB of our own, which a test may stop, kill or restart."""
    yield mariadb_process
    if not mariadb_process.running:
        mariadb_process.start()
    mariadb_process.cont()


@pytest.fixture(scope="session")
def mariadb_admin_url(request: pytest.FixtureRequest) -> str:
    """The server named by TEST_MARIADB_URL, or one of our own."""
    named = os.environ.get("TEST_MARIADB_URL")
    if named:
        return named
    process: servers.MariadbServer = request.getfixturevalue("mariadb_process")
    return process.url


@pytest.fixture
def new_database(postgresql_admin_url: str) -> Iterator[Callable[[], str]]:
    """Make an empty PostgreSQL database per call and return its URL."""
    made: list[str] = []

    def new() -> str:
        made.append(servers.unique_name())
        return servers.create_postgresql_database(postgresql_admin_url, made[-1])

    yield new
    for name in made:
        servers.drop_postgresql_database(postgresql_admin_url, name)


@pytest.fixture
def postgresql_url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def mariadb_url(mariadb_admin_url: str) -> Iterator[str]:
    """An empty MariaDB database."""
    name = servers.unique_name()
    yield servers.create_mariadb_database(mariadb_admin_url, name)
    servers.drop_mariadb_database(mariadb_admin_url, name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/rollcall.db"


@pytest.fixture(scope="session")
def payloads_in_postgresql(postgresql_admin_url: str) -> Iterator[str]:
    """A database with the table of payloads, made once; `any_store` empties it."""
    name = servers.unique_name()
    url = servers.create_postgresql_database(postgresql_admin_url, name)
    with_payload_table(url)
    yield url
    servers.drop_postgresql_database(postgresql_admin_url, name)


@pytest.fixture(scope="session")
def payloads_in_mariadb(mariadb_admin_url: str) -> Iterator[str]:
    name = servers.unique_name()
    url = servers.create_mariadb_database(mariadb_admin_url, name)
    with_payload_table(url)
    yield url
    servers.drop_mariadb_database(mariadb_admin_url, name)


@pytest.fixture(params=KINDS)
def any_store(request: pytest.FixtureRequest) -> Iterator[ServedStore]:
    """Every store in turn, empty."""
    store = KINDS[request.param](request)
    yield store
    store.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site_module.made_sqlite(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def postgresql_template(postgresql_admin_url: str) -> Iterator[str]:
    """The name of a migrated database with the cast, from which tests get copies."""
    name = servers.unique_name()
    url = servers.create_postgresql_database(postgresql_admin_url, name)
    site = Site(create_app(site_module.settings(url, None)))
    site_module.migrate(site.app)
    site.close()
    yield name
    servers.drop_postgresql_database(postgresql_admin_url, name)


@pytest.fixture(scope="session")
def mariadb_template(mariadb_admin_url: str) -> Iterator[str]:
    """The name of a migrated MariaDB database with the cast, from which tests get copies."""
    name = servers.unique_name()
    url = servers.create_mariadb_database(mariadb_admin_url, name)
    site = Site(create_app(site_module.settings(url, None)))
    site_module.migrate(site.app)
    site.close()
    yield name
    servers.drop_mariadb_database(mariadb_admin_url, name)


@pytest.fixture
def migrated_sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A SQLite database with the cast."""
    return site_module.copied_sqlite(sqlite_template, tmp_path)


@pytest.fixture
def migrated_postgresql_url(postgresql_admin_url: str, postgresql_template: str) -> Iterator[str]:
    """A PostgreSQL database with the cast."""
    name = servers.unique_name()
    yield site_module.copied_postgresql(postgresql_admin_url, postgresql_template, name)
    servers.drop_postgresql_database(postgresql_admin_url, name)


@pytest.fixture
def migrated_mariadb_url(mariadb_admin_url: str, mariadb_template: str) -> Iterator[str]:
    """A MariaDB database with the cast."""
    name = servers.unique_name()
    yield site_module.copied_mariadb(mariadb_admin_url, mariadb_template, name)
    servers.drop_mariadb_database(mariadb_admin_url, name)


@pytest.fixture
def make_site(
    migrated_sqlite_url: str, valkey: servers.RedisServer
) -> Iterator[Callable[..., Site]]:
    """Make sites on SQLite and Valkey, with settings of the test's choice, on one database."""
    made: list[Site] = []

    def make(**overrides: object) -> Site:
        given = site_module.settings(migrated_sqlite_url, valkey.url, **overrides)
        made.append(Site(create_app(given)))
        return made[-1]

    yield make
    for each in made:
        each.close()
    skew.seconds = 0.0


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site on SQLite and Valkey: members' sessions in Redis, staff's in SQL."""
    return make_site()


@pytest.fixture(params=DATABASES)
def any_site(request: pytest.FixtureRequest, valkey: servers.RedisServer) -> Iterator[Site]:
    """A site on each database in turn."""
    url = request.getfixturevalue(f"migrated_{request.param}_url")
    made = Site(create_app(site_module.settings(url, valkey.url)))
    yield made
    made.close()
    skew.seconds = 0.0


@pytest.fixture(params=DATABASES[1:])
def shared_site(request: pytest.FixtureRequest, valkey: servers.RedisServer) -> Iterator[Site]:
    """A site on each database in turn that many write at once."""
    url = request.getfixturevalue(f"migrated_{request.param}_url")
    made = Site(create_app(site_module.settings(url, valkey.url)))
    yield made
    made.close()
