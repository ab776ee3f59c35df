"""What every call does when its server refuses, freezes, resets, trickles or can no longer write.

The bound is the design's: 0.8 s of waiting for a request, answered within a second.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from app.sessions.store import DataKey, Saved, StoreUnavailable, Version
from app.sessions.stores import ServedStore
from app.sessions.stores.breaker import COSTLY, Breaker, BreakerState
from app.sessions.stores.budget import limit, remaining
from app.sessions.stores.connections import redis_client
from app.sessions.stores.engines import sql_engine, transaction
from app.sessions.stores.redis import RedisStore
from app.sessions.stores.sql import SqlStore
from tests.faults import watch
from tests.faults.proxy import Mode, Proxy
from tests.servers import PostgresServer, RedisServer, wait_until
from tests.stores import PAYLOADS

BUDGET = 0.8
BOUND = 1.0
HOUR = timedelta(hours=1)
KEY = DataKey("a" * 32)
PAYLOAD = b"alice" * 200

CALLS: dict[str, Callable[[ServedStore], object]] = {
    "load": lambda store: store.load(KEY),
    "extend": lambda store: store.load(KEY, extend_to=HOUR),
    "create": lambda store: store.create(DataKey("b" * 32), PAYLOAD, HOUR),
    "save": lambda store: store.save(KEY, PAYLOAD, Version(b"12345678"), HOUR),
    "delete": lambda store: store.delete([KEY]),
    "present": lambda store: store.present([KEY]),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
NETWORK_FAULTS = [Mode.REFUSE, Mode.HANG, Mode.RESET, Mode.TRICKLE]
faults = pytest.mark.parametrize("fault", NETWORK_FAULTS, ids=lambda mode: mode.name.lower())


@contextmanager
def unavailable(words: str | None = None) -> Iterator[None]:
    """Hold the block to a request's budget and expect StoreUnavailable within the bound."""
    began = watch.seconds()
    with limit(BUDGET), pytest.raises(StoreUnavailable, match=words) as raised:
        yield
    assert watch.seconds() - began < BOUND
    assert KEY not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)


def quick() -> Breaker:
    """A breaker like any other that rests for less, so that the suite is quick."""
    return Breaker("store", open_for=0.2)


def answers(store: ServedStore) -> bool:
    try:
        with limit(BUDGET):
            store.load(KEY)
            return True
    except StoreUnavailable:
        return False


def recovers(store: ServedStore) -> None:
    """Expect the store to answer again within 5 s of its server's return, the breaker closed."""
    wait_until(lambda: answers(store), within=5)
    assert store.breaker.state is BreakerState.CLOSED


@pytest.fixture(params=["valkey", "postgresql"])
def behind_proxy(request: pytest.FixtureRequest) -> Iterator[tuple[ServedStore, Proxy]]:
    """A store with a payload in it, reached through a proxy, with connections open and pooled."""
    store: ServedStore
    if request.param == "valkey":
        proxy = Proxy(request.getfixturevalue("valkey").port, pause=0.3)
        client = redis_client(f"redis://127.0.0.1:{proxy.port}/0")
        store = RedisStore("redis", client, "session:", breaker=quick())
    else:
        url = make_url(request.getfixturevalue("payloads_in_postgresql"))
        proxy = Proxy(url.port or 5432, pause=0.3)
        near = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        store = SqlStore("sql", sql_engine(near), PAYLOADS, breaker=quick())
    with proxy, closing(store):
        store.delete([KEY])
        store.create(KEY, PAYLOAD, HOUR)
        yield store, proxy


@faults
@calls
def test_a_network_fault_ends_each_call_in_time(
    behind_proxy: tuple[ServedStore, Proxy], fault: Mode, call: Callable[[ServedStore], object]
) -> None:
    store, proxy = behind_proxy
    proxy.switch(fault)
    with unavailable():
        call(store)
    proxy.switch(Mode.PASS)
    recovers(store)


@faults
def test_a_network_fault_ends_a_first_connection_in_time(
    behind_proxy: tuple[ServedStore, Proxy], fault: Mode
) -> None:
    store, proxy = behind_proxy
    store.close()
    proxy.switch(fault)
    with unavailable():
        store.load(KEY)
    proxy.switch(Mode.PASS)
    recovers(store)


def test_calls_of_one_request_share_its_budget(behind_proxy: tuple[ServedStore, Proxy]) -> None:
    store, proxy = behind_proxy
    proxy.switch(Mode.HANG)
    began = watch.seconds()
    with limit(BUDGET):
        for call in CALLS.values():
            with pytest.raises(StoreUnavailable):
                call(store)
    assert watch.seconds() - began < BOUND


def test_a_late_answer_never_reaches_another_call(
    behind_proxy: tuple[ServedStore, Proxy],
) -> None:
    store, proxy = behind_proxy
    other = DataKey("c" * 32)
    store.delete([other])
    proxy.switch(Mode.HANG)
    with unavailable("timed out"):
        store.load(KEY)
    proxy.switch(Mode.PASS)
    recovers(store)
    assert store.load(other) is None
    assert store.present([other]) == {}


def test_the_breaker_answers_at_once_after_a_failure_that_cost_time(
    behind_proxy: tuple[ServedStore, Proxy],
) -> None:
    store, proxy = behind_proxy
    rest_for(store, 3600)
    proxy.switch(Mode.HANG)
    with unavailable("timed out"):
        store.load(KEY)
    assert store.breaker.state is BreakerState.OPEN
    with limit(BUDGET):
        for call in CALLS.values():
            with pytest.raises(StoreUnavailable, match="not asked again yet"):
                call(store)
        assert remaining() == BUDGET
    rest_for(store, 0)
    assert store.breaker.state is BreakerState.HALF_OPEN
    with unavailable("timed out"):
        store.load(KEY)
    rest_for(store, 3600)
    assert store.breaker.state is BreakerState.OPEN
    rest_for(store, 0.2)
    proxy.switch(Mode.PASS)
    recovers(store)


def rest_for(store: ServedStore, seconds: float) -> None:
    """Let the store's breaker, once it is open, answer at once for so long."""
    store.breaker._open_for = seconds


def test_a_refusal_costs_nothing_and_leaves_the_breaker_closed(
    behind_proxy: tuple[ServedStore, Proxy],
) -> None:
    store, proxy = behind_proxy
    proxy.switch(Mode.REFUSE)
    with unavailable("not reachable"):
        store.load(KEY)
    assert store.breaker.state is BreakerState.CLOSED
    proxy.switch(Mode.PASS)
    assert answers(store)


@pytest.fixture(params=["valkey", "redis_server", "unix socket"])
def redis_like(request: pytest.FixtureRequest) -> Iterator[tuple[RedisStore, RedisServer]]:
    name = "valkey" if request.param == "unix socket" else request.param
    server: RedisServer = request.getfixturevalue(name)
    url = server.socket_url if request.param == "unix socket" else server.url
    with closing(RedisStore("redis", redis_client(url), "session:", breaker=quick())) as store:
        store.create(KEY, PAYLOAD, HOUR)
        yield store, server


@calls
def test_a_frozen_redis_ends_each_call_in_time(
    redis_like: tuple[RedisStore, RedisServer], call: Callable[[ServedStore], object]
) -> None:
    store, server = redis_like
    with server.frozen(), unavailable("timed out"):
        call(store)
    recovers(store)


def test_a_frozen_redis_ends_a_first_connection_in_time(
    redis_like: tuple[RedisStore, RedisServer],
) -> None:
    store, server = redis_like
    store.close()
    with server.frozen(), unavailable("timed out"):
        store.load(KEY)
    recovers(store)


def test_a_frozen_redis_does_not_swallow_a_large_payload(
    redis_like: tuple[RedisStore, RedisServer],
) -> None:
    store, server = redis_like
    with server.frozen(), unavailable("timed out"):
        store.create(DataKey("d" * 32), b"x" * 5_000_000, HOUR)
    recovers(store)


def test_a_killed_redis_comes_back_with_its_sessions(
    redis_like: tuple[RedisStore, RedisServer],
) -> None:
    store, server = redis_like
    server.kill()
    with unavailable():
        store.load(KEY)
    server.start()
    recovers(store)
    stored = store.load(KEY)
    assert stored is not None
    assert store.save(KEY, b"after", stored.version, None) is Saved.SAVED


WRITES = [name for name in CALLS if name in ("create", "delete", "extend")]


@pytest.mark.parametrize("name", WRITES)
def test_a_read_only_redis_says_so(redis_like: tuple[RedisStore, RedisServer], name: str) -> None:
    store, server = redis_like
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        with unavailable("read-only"):
            CALLS[name](store)
        assert answers(store)
        stored = store.load(KEY)
        assert stored is not None
        with unavailable("read-only"):
            store.save(KEY, PAYLOAD, stored.version, None)
        client.replicaof("NO", "ONE")
    CALLS[name](store)


def test_a_redis_without_its_replicas_refuses_writes(
    redis_like: tuple[RedisStore, RedisServer],
) -> None:
    store, server = redis_like
    with server.client() as client:
        client.config_set("min-replicas-to-write", "1")
    stored = store.load(KEY)
    assert stored is not None
    with unavailable("read-only"):
        store.save(KEY, PAYLOAD, stored.version, None)
    with unavailable("read-only"):
        store.delete([KEY])


def test_a_full_redis_says_so_and_still_reads_and_deletes(
    redis_like: tuple[RedisStore, RedisServer],
) -> None:
    store, server = redis_like
    stored = store.load(KEY)
    assert stored is not None
    with server.client() as client:
        client.config_set("maxmemory", "1")
    with unavailable("out of memory"):
        CALLS["create"](store)
    with unavailable("out of memory"):
        store.save(KEY, PAYLOAD, stored.version, HOUR)
    assert store.load(KEY) == stored
    assert store.delete([KEY]) == 1


def test_a_redis_that_wants_a_password_says_so(valkey: RedisServer) -> None:
    with valkey.client() as client:
        client.config_set("requirepass", "secret")
        try:
            for url in (valkey.url, f"redis://:wrong-password@127.0.0.1:{valkey.port}/0"):
                with closing(
                    RedisStore("redis", redis_client(url), "session:", breaker=quick())
                ) as store:
                    with unavailable("refused our credentials"):
                        store.load(KEY)
        finally:
            client.config_set("requirepass", "")


def test_a_redis_that_has_forgotten_the_script_is_sent_it_again(valkey: RedisServer) -> None:
    with closing(
        RedisStore("redis", redis_client(valkey.url), "session:", breaker=quick())
    ) as store:
        store.create(KEY, PAYLOAD, HOUR)
        with valkey.client() as client:
            client.script_flush()
        stored = store.load(KEY)
        assert stored is not None
        assert store.save(KEY, b"after", stored.version, HOUR) is Saved.SAVED


@calls
def test_a_frozen_postgresql_ends_each_call_in_time(
    postgresql: PostgresServer, postgresql_url: str, call: Callable[[ServedStore], object]
) -> None:
    with closing(_sql_store(postgresql_url)) as store:
        with postgresql.frozen(), unavailable("timed out"):
            call(store)
        recovers(store)


def test_a_frozen_postgresql_ends_a_first_connection_in_time(
    postgresql: PostgresServer, postgresql_url: str
) -> None:
    with closing(_sql_store(postgresql_url)) as store:
        store.close()
        with postgresql.frozen(), unavailable("timed out"):
            store.load(KEY)
        recovers(store)


def test_a_restarted_postgresql_is_met_with_new_connections(
    postgresql: PostgresServer, postgresql_url: str
) -> None:
    with closing(_sql_store(postgresql_url)) as store:
        postgresql.kill()
        with unavailable("not reachable"):
            store.load(KEY)
        postgresql.start()
        with limit(BUDGET):
            assert store.load(KEY) is not None
        postgresql.restart()
        with limit(BUDGET):
            assert store.load(KEY) is not None


def test_a_transaction_on_a_frozen_postgresql_ends_in_time(
    postgresql: PostgresServer, postgresql_url: str
) -> None:
    store = _sql_store(postgresql_url)
    with closing(store):
        try:
            with (
                unavailable("timed out"),
                store.breaker.answering(),
                transaction(store._engine) as connection,
            ):
                connection.execute(PAYLOADS.delete())
                postgresql.stop()
        finally:
            postgresql.cont()
        recovers(store)


def test_a_read_only_postgresql_says_so(postgresql_url: str) -> None:
    with closing(_sql_store(postgresql_url)) as store:
        _alter(postgresql_url, "SET default_transaction_read_only = on")
        store.close()
        with unavailable("read-only"):
            CALLS["create"](store)
        assert answers(store)
        assert store.breaker.state is BreakerState.CLOSED


def test_a_write_that_is_refused_late_does_not_rest_a_server_that_can_be_read(
    postgresql_url: str,
) -> None:
    with closing(_sql_store(postgresql_url)) as store:
        _alter(postgresql_url, "SET default_transaction_read_only = on")
        store.close()
        with (
            unavailable("read-only"),
            store.breaker.answering(),
            transaction(store._engine) as connection,
        ):
            connection.execute(text(f"SELECT pg_sleep({2 * COSTLY})"))
            connection.execute(PAYLOADS.delete())
        assert store.breaker.state is BreakerState.CLOSED
        assert answers(store)


def test_a_lock_that_is_held_too_long_ends_the_call_and_not_the_server(postgresql_url: str) -> None:
    with closing(_sql_store(postgresql_url)) as store, psycopg.connect(postgresql_url) as other:
        other.execute("LOCK TABLE session_payloads")
        with unavailable("lock"):
            store.load(KEY)
        assert store.breaker.state is BreakerState.CLOSED
        other.rollback()
        assert answers(store)


def test_a_pool_of_one_connection_answers_within_the_deadline(postgresql_url: str) -> None:
    store = _sql_store(postgresql_url, pool_size=1)
    engine = store._engine
    with closing(store), engine.connect(), engine.connect():
        with unavailable("too many connections"):
            store.load(KEY)
        assert store.breaker.state is BreakerState.CLOSED


def test_bad_sql_is_not_taken_for_a_broken_server(postgresql_url: str) -> None:
    with closing(_sql_store(postgresql_url)) as store:
        with (
            pytest.raises(Exception, match="no_such_table"),
            store.breaker.answering(),
            store._engine.connect() as connection,
        ):
            connection.execute(text("SELECT * FROM no_such_table"))
        assert store.breaker.state is BreakerState.CLOSED


@calls
def test_a_read_only_sqlite_says_so(
    sqlite_url: str, tmp_path: Path, call: Callable[[ServedStore], object]
) -> None:
    _sql_store(sqlite_url).close()
    read_only = f"sqlite:///file:{tmp_path}/rollcall.db?mode=ro&uri=true"
    with closing(SqlStore("sql", sql_engine(read_only), PAYLOADS, breaker=quick())) as store:
        if call in (CALLS["load"], CALLS["present"]):
            assert call(store)
        else:
            with unavailable("read-only"):
                call(store)


def test_a_full_sqlite_says_so(sqlite_url: str) -> None:
    store = _sql_store(sqlite_url, pool_size=1)
    with closing(store):
        with store._engine.connect() as connection:
            connection.execute(text("PRAGMA max_page_count = 1"))
        with unavailable("disk space"):
            store.create(DataKey("d" * 32), b"x" * 1_000_000, HOUR)
        assert answers(store)


def test_a_busy_sqlite_ends_each_write_in_time_and_reads_go_on(
    sqlite_url: str, tmp_path: Path
) -> None:
    with closing(_sql_store(sqlite_url)) as store:
        with closing(sqlite3.connect(tmp_path / "rollcall.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            assert answers(store)
            for name in ("create", "delete", "extend"):
                with unavailable("lock"):
                    CALLS[name](store)
            begin = transaction(store._engine)
            with unavailable("lock"), store.breaker.answering(), begin as connection:
                connection.execute(text("SELECT 1"))
        CALLS["create"](store)


def test_a_missing_sqlite_directory_is_a_broken_server() -> None:
    engine = sql_engine("sqlite:////nonexistent/directory/rollcall.db")
    with (
        closing(SqlStore("sql", engine, PAYLOADS, breaker=quick())) as store,
        unavailable("not reachable"),
    ):
        store.load(KEY)


@pytest.mark.parametrize("fault", [Mode.REFUSE, Mode.HANG, Mode.RESET])
def test_a_mariadb_that_does_not_answer_ends_the_call_in_time(fault: Mode) -> None:
    with Proxy(1) as proxy:
        proxy.switch(fault)
        engine = sql_engine(f"mariadb://root@127.0.0.1:{proxy.port}/rollcall")
        with closing(SqlStore("sql", engine, PAYLOADS, breaker=quick())) as store, unavailable():
            store.load(KEY)


def _sql_store(url: str, *, pool_size: int = 5) -> SqlStore:
    engine = sql_engine(url, pool_size=pool_size)
    PAYLOADS.metadata.create_all(engine)
    store = SqlStore("sql", engine, PAYLOADS, breaker=quick())
    store.create(KEY, PAYLOAD, HOUR)
    return store


def _alter(url: str, what: str) -> None:
    name = make_url(url).database
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" {what}'.encode())
