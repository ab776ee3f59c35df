"""The configured set of stores: looked up by name, asked together, one of them silent."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

import config
from app.sessions.store import DataKey
from app.sessions.stores import StoreNotConfigured, Stores
from app.sessions.stores.configured import BUILDERS, configured
from app.sessions.stores.connections import redis_client
from app.sessions.stores.engines import sql_engine
from app.sessions.stores.redis import RedisStore
from app.sessions.stores.sql import SqlStore
from tests.servers import RedisServer
from tests.site import settings
from tests.stores import PAYLOADS

HOUR = timedelta(hours=1)
KEY = DataKey("a" * 32)


@pytest.fixture
def stores(valkey: RedisServer, sqlite_url: str) -> Iterator[Stores]:
    engine = sql_engine(sqlite_url)
    PAYLOADS.metadata.create_all(engine)
    made = Stores(
        {
            "redis": RedisStore("redis", redis_client(valkey.url), "session:"),
            "sql": SqlStore("sql", engine, PAYLOADS),
        }
    )
    with closing(made):
        for store in made.values():
            store.create(KEY, b"alice", HOUR)
        yield made


def test_the_settings_name_the_stores_that_can_be_built_and_no_other() -> None:
    assert set(BUILDERS) == set(config.STORES.values())


def test_a_store_without_a_server_is_not_built(sqlite_url: str) -> None:
    given = settings(sqlite_url, None)
    with closing(
        configured(config.load(given, {}), {"pool_size": 1, "statement_timeout": 1})
    ) as made:
        assert made.names == ("sql",)


def test_stores_are_found_by_name(stores: Stores) -> None:
    assert stores.names == ("redis", "sql")
    assert stores["sql"].name == "sql"


def test_an_unconfigured_store_is_named_with_those_that_are(stores: Stores) -> None:
    with pytest.raises(
        StoreNotConfigured,
        match=r"filesystem did not answer: no such store is configured; there are: redis, sql",
    ):
        stores["filesystem"]


def test_present_asks_each_store_for_its_own_keys(stores: Stores) -> None:
    found, silent = stores.present({"redis": [KEY, DataKey("b" * 32)], "sql": [KEY]})
    assert {name: list(keys) for name, keys in found.items()} == {"redis": [KEY], "sql": [KEY]}
    assert not silent


def test_present_names_a_silent_store_and_answers_for_the_other(
    stores: Stores, valkey: RedisServer
) -> None:
    valkey.kill()
    found, silent = stores.present({"redis": [KEY], "sql": [KEY], "gone": [KEY]})
    assert list(found) == ["sql"]
    assert silent == {"redis", "gone"}
