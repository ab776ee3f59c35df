"""The Redis store under Sentinels: a master that goes, one that comes, and Sentinels that are silent."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from app.sessions.store import DataKey, Saved, StoreUnavailable
from app.sessions.stores.breaker import Breaker
from app.sessions.stores.budget import limit
from app.sessions.stores.connections import redis_client
from app.sessions.stores.redis import RedisStore
from app.sessions.stores.sentinel import ASKING_FOR
from tests.faults import watch
from tests.redis_servers import SENTINEL_PASSWORD, SERVICE, Sentinels, TlsRedis, TlsSentinel
from tests.servers import redis_binary, wait_until

HOUR = timedelta(hours=1)
KEY = DataKey("a" * 32)
BUDGET, BOUND, RETURN = 0.8, 1.0, 5.0


@contextmanager
def store_at(url: str) -> Iterator[RedisStore]:
    """A store whose breaker rests for so short that each call reaches the servers."""
    breaker = Breaker("redis", open_for=0.0)
    with closing(RedisStore("redis", redis_client(url), "session:", breaker=breaker)) as made:
        yield made


@pytest.fixture
def store(sentinels: Sentinels) -> Iterator[RedisStore]:
    with store_at(sentinels.url) as made:
        yield made


def works(store: RedisStore) -> bool:
    """Say whether the store answers, in a request's time whatever happens."""
    began = watch.seconds()
    try:
        with limit(BUDGET):
            store.load(KEY)
    except StoreUnavailable:
        return False
    finally:
        assert watch.seconds() - began < BOUND
    return True


def create_on_both(store: RedisStore, sentinels: Sentinels) -> None:
    store.create(KEY, b"alice", HOUR)
    with sentinels.client() as client:
        assert client.wait(1, 5000) == 1


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_promoted_replica_is_found_within_five_seconds(
    sentinels: Sentinels, store: RedisStore, fault: str
) -> None:
    create_on_both(store, sentinels)
    before = sentinels.master
    sentinels.be_sudden()
    getattr(before, fault)()
    began = time.monotonic()
    while not sentinels.replaced(before):
        works(store)
        assert time.monotonic() - began < 30
    wait_until(lambda: works(store), RETURN)
    stored = store.load(KEY)
    assert stored is not None
    assert stored.payload == b"alice"
    assert store.save(KEY, b"after", stored.version, None) is Saved.SAVED


def test_a_master_that_comes_back_as_a_replica_is_not_written_to(
    sentinels: Sentinels, store: RedisStore
) -> None:
    create_on_both(store, sentinels)
    before = sentinels.master
    with store_at(sentinels.url) as sleeping:
        assert works(sleeping)
        sentinels.be_sudden()
        with before.frozen():
            wait_until(lambda: sentinels.replaced(before), 30)
        wait_until(sentinels.is_well, 30)
        wait_until(lambda: works(sleeping), RETURN)
        stored = sleeping.load(KEY)
        assert stored is not None
        assert sleeping.save(KEY, b"after", stored.version, None) is Saved.SAVED
    with sentinels.client() as client:
        assert client.get(f"session:{KEY}")[8:] == b"after"


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_sentinels_that_are_gone_leave_time_to_ask_the_last_one(
    sentinels: Sentinels, store: RedisStore, fault: str
) -> None:
    for sentinel in sentinels.sentinels[:2]:
        getattr(sentinel, fault)()
    assert works(store)


def test_a_sentinel_that_hung_is_asked_last_from_then_on(
    sentinels: Sentinels, store: RedisStore
) -> None:
    took: list[float] = []
    with sentinels.sentinels[0].frozen():
        assert works(store)
        for _ in range(5):
            with sentinels.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            began = time.monotonic()
            assert works(store)
            took.append(time.monotonic() - began)
    assert min(took) < ASKING_FOR


def test_without_any_sentinel_open_connections_work_and_new_ones_fail_in_time(
    sentinels: Sentinels, store: RedisStore
) -> None:
    assert works(store)
    for sentinel in sentinels.sentinels:
        sentinel.stop()
    assert works(store)
    with store_at(sentinels.url) as other:
        assert not works(other)
    for sentinel in sentinels.sentinels:
        sentinel.cont()
    with store_at(sentinels.url) as other:
        wait_until(lambda: works(other), RETURN)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (SENTINEL_PASSWORD, "wrong", "refused our credentials"),
        (f"?sentinel_password={SENTINEL_PASSWORD}", "", "refused our credentials"),
        (SERVICE, "another", "not reachable"),
    ],
)
def test_a_wrong_password_or_service_is_told_apart(
    sentinels: Sentinels, right: str, wrong: str, words: str
) -> None:
    with store_at(sentinels.url.replace(right, wrong)) as store:
        with pytest.raises(StoreUnavailable, match=words):
            store.load(KEY)


def test_sentinels_and_master_are_reached_over_tls(tls_redis: TlsRedis) -> None:
    sentinel = TlsSentinel(redis_binary(), tls_redis)
    with closing(sentinel), store_at(sentinel.url) as store:
        wait_until(lambda: works(store))
        store.create(KEY, b"alice", HOUR)
        assert set(store.present([KEY])) == {KEY}
    with tls_redis.client() as client:
        assert client.exists(f"session:{KEY}")
