"""What a store's server says of itself, and what of it is unsafe."""

from datetime import timedelta

import pytest
from sqlalchemy import MetaData

from app.sessions.store import DataKey
from app.sessions.stores import ServedStore, budget
from app.sessions.stores.connections import redis_client
from app.sessions.stores.engines import sql_engine
from app.sessions.stores.facts import Facts, TellsFacts, Unsafe, redis_facts
from app.sessions.stores.redis import RedisStore
from app.sessions.stores.sql import SqlStore, payload_table
from tests.servers import RedisServer
from tests.stores import with_payload_table

INFO = {
    "redis_version": "7.2.4", "used_memory": 1_000_000, "maxmemory": 0, "aof_enabled": 1,
    "maxmemory_policy": "noeviction", "evicted_keys": 0, "db0": {"keys": 3, "expires": 3},
}  # fmt: skip


def test_every_store_tells_what_its_server_is(any_store: ServedStore) -> None:
    for number in range(3):
        any_store.create(DataKey(f"facts-{number}"), b"x", timedelta(minutes=1))
    assert isinstance(any_store, TellsFacts)
    with budget.limit(5.0):
        facts = any_store.facts()
    if not facts.told:  # its user has the rights that docs/stores.md asks for, and no more
        assert facts == Facts("Redis", told=False)
        return
    assert facts.version is not None
    assert facts.version[0].isdigit()
    assert facts.product in ("Redis", "Valkey", "PostgreSQL", "MariaDB", "SQLite")
    assert (facts.rows, facts.exact, facts.told) == (3, True, True)
    assert facts.nodes >= 1
    assert (facts.memory is None) == (any_store.name == "sql")
    # The servers of the tests are quick rather than durable, and say so.
    of_databases = {Unsafe.NO_FSYNC, Unsafe.TORN_PAGES, Unsafe.LATE_COMMITS}
    assert {unsafe for unsafe, _value in facts.unsafe} <= {Unsafe.FORGETS, *of_databases}


def unsafe(info: dict[str, object], save: str | None = "60 1", host: str = "127.0.0.1") -> Facts:
    return redis_facts([INFO | info], [save], [host], has_password=False)


def test_settings_that_lose_sessions_or_show_them_are_named() -> None:
    assert unsafe({}).unsafe == ()
    assert unsafe({"maxmemory_policy": "allkeys-lru"}).unsafe == ((Unsafe.EVICTS, "allkeys-lru"),)
    assert unsafe({"evicted_keys": 7}).unsafe == ((Unsafe.EVICTED, "7"),)
    assert [u for u, _ in unsafe({"aof_enabled": 0}, "").unsafe] == [Unsafe.FORGETS]
    assert unsafe({"aof_enabled": 0}, "60 1").unsafe == ()
    assert unsafe({"aof_enabled": 0}, None).unsafe == ()
    assert unsafe({}, host="10.0.0.7").unsafe == ((Unsafe.OPEN, "10.0.0.7"),)
    assert unsafe({}, host="redis").unsafe == ((Unsafe.OPEN, "redis"),)
    assert unsafe({}, host="::1").unsafe == unsafe({}, host="localhost").unsafe == ()
    assert redis_facts([INFO], [None], ["10.0.0.7"], has_password=True).unsafe == ()


def test_the_masters_of_a_cluster_are_added_up() -> None:
    facts = redis_facts([INFO, INFO], ["", ""], [], has_password=True)
    assert (facts.nodes, facts.memory, facts.rows, facts.unsafe) == (2, 2_000_000, 6, ())


def test_a_server_says_how_it_is_set(valkey: RedisServer) -> None:
    store = RedisStore("redis", redis_client(valkey.url), "p:")
    with valkey.client() as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("maxmemory", "100mb")
        try:
            facts = store.facts()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "0")
    store.close()
    assert facts.memory_limit == 100 * 2**20
    assert {Unsafe.EVICTS} == {unsafe for unsafe, _value in facts.unsafe}


@pytest.mark.parametrize("name", ["postgresql", "sqlite"])
def test_a_database_that_does_not_wait_for_the_disk_is_named(
    name: str, request: pytest.FixtureRequest
) -> None:
    url = with_payload_table(request.getfixturevalue(f"{name}_url"))
    engine = sql_engine(url, pool_size=1)
    store = SqlStore("sql", engine, payload_table("session_payloads", MetaData()))
    off = "SET synchronous_commit = off" if name == "postgresql" else "PRAGMA synchronous = OFF"
    with engine.connect() as connection:
        connection.exec_driver_sql(off)
    found = [unsafe for unsafe, _value in store.facts().unsafe]
    store.close()
    assert (Unsafe.LATE_COMMITS if name == "postgresql" else Unsafe.NO_FSYNC) in found
