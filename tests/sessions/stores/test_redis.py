"""What the Redis store costs its server: round trips, memory, and commands that it never runs."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from app.sessions.store import DataKey
from app.sessions.stores.connections import redis_client
from app.sessions.stores.redis import RedisStore
from tests.servers import RedisServer

HOUR = timedelta(hours=1)


@pytest.fixture
def store(valkey: RedisServer) -> Iterator[RedisStore]:
    with closing(RedisStore("redis", redis_client(valkey.url), "session:")) as made:
        yield made


def commands(server: RedisServer) -> dict[str, int]:
    with server.client() as client:
        stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


def test_each_call_is_one_command_and_none_looks_for_keys(
    valkey: RedisServer, store: RedisStore
) -> None:
    with valkey.client() as client:
        client.config_resetstat()
    key, other = DataKey("a" * 32), DataKey("b" * 32)
    store.create(key, b"alice", HOUR)
    stored = store.load(key)
    assert stored is not None
    store.save(key, b"after", stored.version, None)
    store.load(key, extend_to=HOUR)
    store.present([key, other])
    store.delete([key, other])
    store.delete_expired()
    ours = {name: calls for name, calls in commands(valkey).items() if "config" not in name}
    ours = {name: calls for name, calls in ours.items() if name not in ("info", "select")}
    ours = {name: calls for name, calls in ours.items() if not name.startswith("client")}
    expected = {"set": 2, "get": 1, "getrange": 1, "getex": 1, "pttl": 2, "unlink": 1}
    scripts = {name: ours.pop(name) for name in ("evalsha", "eval") if name in ours}
    assert ours == expected
    assert sum(scripts.values()) <= 2


def test_many_that_are_gone_cost_a_command_for_hundreds(
    valkey: RedisServer, store: RedisStore
) -> None:
    keys = [DataKey(secrets.token_hex(16)) for _ in range(1001)]
    store.create(keys[-1], b"alice", HOUR)
    with valkey.client() as client:
        client.config_resetstat()
    assert set(store.present(keys)) == {keys[-1]}
    assert store.delete(keys) == 1
    assert store.present(keys) == {}
    called = commands(valkey)
    assert {name: called[name] for name in ("exists", "pttl", "unlink")} == {
        "exists": 4,
        "pttl": 2,
        "unlink": 3,
    }


@pytest.mark.parametrize("size", [200, 500, 1000, 4000])
def test_the_version_costs_at_most_a_twentieth_of_the_memory(
    valkey: RedisServer, store: RedisStore, size: int
) -> None:
    ours = plain = 0
    with valkey.client() as client:
        for extra in range(0, size // 4, 7):
            key, payload = secrets.token_hex(16), secrets.token_bytes(size + extra)
            store.create(DataKey(key), payload, HOUR)
            client.set(f"plainly:{key[1:]}", payload, px=3_600_000)
            ours += client.memory_usage(f"session:{key}") or 0
            plain += client.memory_usage(f"plainly:{key[1:]}") or 0
    assert ours <= plain * 1.05


def test_a_key_is_the_prefix_and_the_data_key(valkey: RedisServer, store: RedisStore) -> None:
    store.create(DataKey("a" * 32), b"alice", HOUR)
    with valkey.client() as client:
        assert client.keys() == [b"session:" + b"a" * 32]


def test_a_client_for_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="scheme"):
        redis_client("http://127.0.0.1/0")
