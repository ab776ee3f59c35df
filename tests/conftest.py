"""The servers that tests ask for by name. See `tests.servers` for what they are."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, delete

from app.sessions.stores import ServedStore
from app.sessions.stores.connections import redis_client
from app.sessions.stores.engines import sql_engine
from app.sessions.stores.redis import RedisStore
from app.sessions.stores.sql import SqlStore, payload_table
from tests import servers

PAYLOADS = payload_table("session_payloads", MetaData())


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
def mariadb_admin_url() -> str:
    named = os.environ.get("TEST_MARIADB_URL")
    if not named:
        pytest.skip("TEST_MARIADB_URL is not set")
    return named


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
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/rollcall.db"


@pytest.fixture(scope="session")
def payloads_in_postgresql(postgresql_admin_url: str) -> Iterator[str]:
    """A database with the table of payloads, made once; `any_store` empties it."""
    name = servers.unique_name()
    url = servers.create_postgresql_database(postgresql_admin_url, name)
    _with_payload_table(url)
    yield url
    servers.drop_postgresql_database(postgresql_admin_url, name)


@pytest.fixture(scope="session")
def payloads_in_mariadb(mariadb_admin_url: str) -> str:
    url = servers.create_mariadb_database(mariadb_admin_url, servers.unique_name())
    _with_payload_table(url)
    return url


def _with_payload_table(url: str) -> str:
    engine = sql_engine(url)
    PAYLOADS.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(delete(PAYLOADS))
    engine.dispose()
    return url


@pytest.fixture(params=["valkey", "redis", "sqlite", "postgresql", "mariadb"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServedStore]:
    """Every store in turn, empty."""
    store = _store(request, tmp_path)
    yield store
    store.close()


def _store(request: pytest.FixtureRequest, tmp_path: Path) -> ServedStore:
    match request.param:
        case "valkey":
            url = request.getfixturevalue("valkey").url
            return RedisStore("redis", redis_client(url), "session:")
        case "redis":
            url = request.getfixturevalue("redis_server").url
            return RedisStore("redis", redis_client(url), "session:")
        case "postgresql" | "mariadb":
            url = request.getfixturevalue(f"payloads_in_{request.param}")
        case _:
            url = f"sqlite:///{tmp_path}/payloads.db"
    return SqlStore("sql", sql_engine(_with_payload_table(url)), PAYLOADS)
