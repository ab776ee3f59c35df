"""Every kind of store, empty: the contract suite runs on each. A new one is a line in `KINDS`."""

from collections.abc import Callable

import pytest
from sqlalchemy import MetaData, delete

from app.sessions.stores import ServedStore
from app.sessions.stores.connections import redis_client
from app.sessions.stores.engines import sql_engine
from app.sessions.stores.redis import RedisStore
from app.sessions.stores.sql import SqlStore, payload_table

PAYLOADS = payload_table("session_payloads", MetaData())

Kind = Callable[[pytest.FixtureRequest], ServedStore]
"""Makes an empty store for one test. What it needs it gets by `request.getfixturevalue`."""


def with_payload_table(url: str) -> str:
    """Give a database the table of payloads, empty, and return its URL."""
    engine = sql_engine(url)
    PAYLOADS.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(delete(PAYLOADS))
    engine.dispose()
    return url


def _redis(request: pytest.FixtureRequest, server: str, url: str = "url") -> ServedStore:
    client = redis_client(getattr(request.getfixturevalue(server), url))
    return RedisStore("redis", client, "session:")


def _sql(request: pytest.FixtureRequest, url: str) -> ServedStore:
    return SqlStore("sql", sql_engine(with_payload_table(request.getfixturevalue(url))), PAYLOADS)


KINDS: dict[str, Kind] = {
    "valkey": lambda request: _redis(request, "valkey"),
    "redis": lambda request: _redis(request, "redis_server"),
    "redis-password": lambda request: _redis(request, "password_redis"),
    "redis-user": lambda request: _redis(request, "password_redis", "user_url"),
    "redis-tls": lambda request: _redis(request, "tls_redis"),
    "redis-socket": lambda request: _redis(request, "redis_server", "socket_url"),
    "redis-cluster": lambda request: _redis(request, "cluster"),
    "redis-sentinel": lambda request: _redis(request, "sentinels"),
    "sqlite": lambda request: _sql(request, "sqlite_url"),
    "postgresql": lambda request: _sql(request, "payloads_in_postgresql"),
    "mariadb": lambda request: _sql(request, "payloads_in_mariadb"),
}
