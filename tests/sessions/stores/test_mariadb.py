"""What MariaDB does otherwise than the others: how it fails, and what its defaults would do to us."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, make_url, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from app import create_app
from app.columns import clock, skew
from app.people.models import User
from app.sessions.models import UserAgent, UserSession
from app.sessions.revocation import revoke
from app.sessions.store import DataKey, Saved
from app.sessions.stores import ServedStore
from app.sessions.stores.breaker import BreakerState
from app.sessions.stores.budget import limit
from app.sessions.stores.engines import sql_engine, transaction
from app.sessions.stores.sql import SqlStore
from tests.faults.proxy import Mode, Proxy
from tests.servers import MariadbServer, RedisServer, mariadb_connection, wait_until
from tests.sessions.stores.test_faults import (
    BUDGET,
    CALLS,
    HOUR,
    KEY,
    answers,
    faults,
    quick,
    recovers,
    unavailable,
)
from tests.sessions.test_revocation import CLI, commanding, start
from tests.site import PASSWORD, Site, settings
from tests.stores import PAYLOADS


def _store(url: str, *, pool_size: int = 5) -> SqlStore:
    engine = sql_engine(url, pool_size=pool_size)
    PAYLOADS.metadata.create_all(engine)
    store = SqlStore("sql", engine, PAYLOADS, breaker=quick())
    store.create(KEY, b"alice" * 200, HOUR)
    return store


def _unmade(url: str) -> SqlStore:
    return SqlStore("sql", sql_engine(url), PAYLOADS, breaker=quick())


@pytest.fixture
def store(mariadb_url: str) -> Iterator[SqlStore]:
    with closing(_store(mariadb_url)) as made:
        yield made


@pytest.fixture
def site(migrated_mariadb_url: str, valkey: RedisServer) -> Iterator[Site]:
    """A site on MariaDB: members' sessions in Redis, staff's in SQL."""
    made = Site(create_app(settings(migrated_mariadb_url, valkey.url)))
    yield made
    made.close()
    skew.seconds = 0.0


@contextmanager
def other(url: str) -> Iterator[Any]:
    """Somebody else's transaction, as a cursor; it is rolled back at the end."""
    with mariadb_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute("START TRANSACTION")
        yield cursor
        connection.rollback()


def waiting_for_a_lock(url: str) -> Callable[[], bool]:
    """Tell whether anybody waits for a row of this server."""

    def waits() -> bool:
        with mariadb_connection(url) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
            return int(cursor.fetchone()[1]) > 0

    return waits


@pytest.mark.parametrize("call", [CALLS["load"], CALLS["save"]], ids=["load", "save"])
def test_a_frozen_mariadb_ends_each_call_in_time(
    mariadb: MariadbServer, store: SqlStore, call: Callable[[ServedStore], object]
) -> None:
    with mariadb.frozen(), unavailable("timed out"):
        call(store)
    recovers(store)


def test_a_frozen_mariadb_ends_a_first_connection_in_time(
    mariadb: MariadbServer, store: SqlStore
) -> None:
    store.close()
    with mariadb.frozen(), unavailable("timed out"):
        store.load(KEY)
    recovers(store)


def test_a_transaction_on_a_frozen_mariadb_ends_in_time(
    mariadb: MariadbServer, store: SqlStore
) -> None:
    try:
        with (
            unavailable("timed out"),
            store.breaker.answering(),
            transaction(store._engine) as connection,
        ):
            connection.execute(PAYLOADS.delete())
            mariadb.stop()
    finally:
        mariadb.cont()
    recovers(store)


def test_a_restarted_mariadb_is_met_with_new_connections(
    mariadb: MariadbServer, store: SqlStore
) -> None:
    mariadb.kill()
    with unavailable("not reachable"):
        store.load(KEY)
    mariadb.start()
    with limit(BUDGET):
        assert store.load(KEY) is not None
    mariadb.restart()
    with limit(BUDGET):
        assert store.load(KEY) is not None


@pytest.fixture
def behind(mariadb_admin_url: str, mariadb_url: str) -> Iterator[tuple[SqlStore, Proxy]]:
    """A store with a payload in it, reached through a proxy, with a connection open and pooled."""
    _store(mariadb_url).close()
    with Proxy(make_url(mariadb_admin_url).port or 3306, pause=0.3) as proxy:
        near = make_url(mariadb_url).set(host="127.0.0.1", port=proxy.port)
        with closing(_unmade(near.render_as_string(hide_password=False))) as store:
            store.load(KEY)
            yield store, proxy


@faults
@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "first"])
def test_a_network_fault_ends_a_call_to_mariadb_in_time(
    behind: tuple[SqlStore, Proxy], fault: Mode, pooled: bool
) -> None:
    store, proxy = behind
    if not pooled:
        store.close()
    proxy.switch(fault)
    with unavailable():
        store.load(KEY)
    proxy.switch(Mode.PASS)
    recovers(store)


def test_a_late_answer_of_mariadb_never_reaches_another_call(
    behind: tuple[SqlStore, Proxy],
) -> None:
    store, proxy = behind
    proxy.switch(Mode.HANG)
    with unavailable("timed out"):
        store.load(KEY)
    proxy.switch(Mode.PASS)
    recovers(store)
    assert store.load(DataKey("c" * 32)) is None


def test_a_read_only_mariadb_says_so(mariadb: MariadbServer, mariadb_url: str) -> None:
    with mariadb_connection(mariadb.url) as admin, admin.cursor() as cursor:
        with closing(_store(mariadb_url)):
            cursor.execute("CREATE USER app@'%'")
            cursor.execute("GRANT ALL ON *.* TO app@'%'")
            cursor.execute("REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM app@'%'")
            cursor.execute("SET GLOBAL read_only = 1")
        try:
            engine = sql_engine(mariadb_url.replace("root@", "app@"))
            with closing(SqlStore("sql", engine, PAYLOADS, breaker=quick())) as store:
                with unavailable("read-only"):
                    CALLS["create"](store)
                recovers(store)
        finally:
            cursor.execute("SET GLOBAL read_only = 0")
            cursor.execute("DROP USER app@'%'")


def test_a_lock_that_is_held_too_long_ends_the_call_and_not_the_server(
    store: SqlStore, mariadb_url: str
) -> None:
    with other(mariadb_url) as cursor:
        cursor.execute("SELECT * FROM session_payloads FOR UPDATE")
        with unavailable("lock"):
            CALLS["delete"](store)
        assert store.breaker.state is BreakerState.CLOSED
        assert answers(store)
    assert store.delete([KEY]) == 1


def test_a_pool_of_one_connection_answers_within_the_deadline(mariadb_url: str) -> None:
    store = _store(mariadb_url, pool_size=1)
    engine = store._engine
    with closing(store), engine.connect(), engine.connect():
        with unavailable("too many connections"):
            store.load(KEY)
        assert store.breaker.state is BreakerState.CLOSED


def test_a_server_without_a_connection_to_spare_is_busy_and_not_down(
    mariadb: MariadbServer, mariadb_url: str, store: SqlStore
) -> None:
    with mariadb_connection(mariadb.url) as admin, admin.cursor() as cursor:
        cursor.execute("CREATE USER few@'%' WITH MAX_USER_CONNECTIONS 1")
        cursor.execute("GRANT ALL ON *.* TO few@'%'")
        cursor.execute("REVOKE SUPER, CONNECTION ADMIN ON *.* FROM few@'%'")
        few = mariadb_url.replace("root@", "few@")
        with mariadb_connection(few), closing(_unmade(few)) as denied:
            with unavailable("too many connections"):
                denied.load(KEY)
            assert denied.breaker.state is BreakerState.CLOSED
        cursor.execute("DROP USER few@'%'")


def test_a_connection_that_the_server_closed_as_idle_is_noticed_before_it_is_used(
    store: SqlStore, mariadb_url: str
) -> None:
    with store._engine.connect() as connection:
        (number,) = connection.execute(text("SELECT CONNECTION_ID()")).one()
        connection.execute(text("SET SESSION wait_timeout = 1"))
    gone = text("SELECT COUNT(*) FROM information_schema.processlist WHERE id = :id")
    with closing(_unmade(mariadb_url)) as watching:
        with watching._engine.connect() as seen:
            wait_until(lambda: seen.execute(gone, {"id": number}).scalar_one() == 0)
    with limit(BUDGET):
        assert store.load(KEY) is not None


def test_a_data_key_and_a_version_may_end_in_any_byte(store: SqlStore) -> None:
    for end in (b"\x00", b" ", b"\xff", b"\\", b"'"):
        key = DataKey(f"key-{end.hex()}")
        store.create(key, b"\x00'\\\x1a" + end, HOUR)
        stored = store.load(key)
        assert stored is not None
        assert stored.payload == b"\x00'\\\x1a" + end
        assert store.save(key, b"", stored.version, None) is Saved.SAVED


@pytest.mark.parametrize("end", [b"\x00\x00", b"  ", b"\t\n"], ids=["zero", "space", "white"])
def test_a_handle_is_found_by_exactly_its_bytes(site: Site, end: bytes) -> None:
    site.signed_in("alice")
    handle = b"\xf0\x9f\x98\x80'\\" + b"h" * (26 - len(end)) + end
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(UserSession).values(handle=handle))
    assert site.rows()[0].handle == handle
    assert site.system.ledger.open(handle) is not None
    assert site.system.ledger.open(handle.rstrip(end)) is None
    assert site.system.ledger.open(handle[: -len(end)] + b"\x00 ") is None


def test_names_are_one_only_if_their_keys_are(site: Site) -> None:
    """A collation that ignores accents would let `álice` in with alice's password."""
    assert site.browser().sign_in("ÁLICE").status_code == 422
    assert site.browser().sign_in("alice ").status_code == 303
    assert site.browser().sign_in("ALICE").status_code == 303
    person = _values(site)
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(insert(User).values(person | {"name": "Álice", "name_key": "álice"}))
    with pytest.raises(IntegrityError), site.system.ledger.transaction() as tx:
        tx.connection.execute(insert(User).values(person | {"name": "alice", "name_key": "alice"}))


def _values(site: Site) -> dict[str, Any]:
    (row,) = site.system.ledger.read(select(User.__table__).where(User.name == "alice"))
    return {name: value for name, value in row._mapping.items() if name != "id"}


def test_any_character_is_kept_whatever_the_servers_character_set(site: Site) -> None:
    """The server's default is Latin-1."""
    said = "💥 Ω 李明 \\ ' \" é"
    assert site.browser(user_agent="Mozilla").sign_in(said).status_code == 422
    assert site.events("session.sign_in_failed")[-1].target_name == said
    interned = UserAgent.id == site.system.ledger.user_agent_id(said)
    assert site.system.ledger.read(select(UserAgent.header).where(interned))[0].header == said


def test_a_text_too_long_is_refused_and_not_cut_where_the_server_is_not_strict(site: Site) -> None:
    with pytest.raises(DBAPIError, match="too long"), site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).values(role="r" * 17))


def test_a_time_at_a_change_of_the_clock_keeps_its_microseconds(site: Site) -> None:
    """The server's own zone is +05:45; a second that summer time skips is a second like any other."""
    site.signed_in("alice")
    for moment in (
        datetime(2026, 3, 29, 1, 30, 0, 1, UTC),
        datetime(2026, 3, 29, 2, 30, 0, 999_999, UTC),
        datetime(2026, 10, 25, 0, 59, 59, 999_999, UTC),
    ):
        with site.system.ledger.transaction() as tx:
            tx.connection.execute(update(UserSession).values(last_seen_at=moment))
        assert site.rows()[0].last_seen_at == moment


def test_the_clock_counts_microseconds_and_is_read_after_a_lock_wait(
    site: Site, migrated_mariadb_url: str
) -> None:
    read = site.system.ledger.read
    now, later = read(select(clock(), clock(1.000001)))[0]
    assert timedelta(0) <= later - now - timedelta(seconds=1.000001) < timedelta(seconds=0.5)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=2)
    seen: list[datetime] = []

    def wait() -> None:
        with site.system.ledger.transaction() as tx:
            tx.connection.execute(update(User).values(created_at=clock()))
            seen.append(tx.now())
            seen.extend(tx.connection.execute(select(User.created_at)).scalars())

    with other(migrated_mariadb_url) as cursor:
        cursor.execute("SELECT * FROM users FOR UPDATE")
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(waiting_for_a_lock(migrated_mariadb_url))
        released = site.system.ledger.now()
    thread.join()
    assert all(at >= released for at in seen[:1])


@pytest.mark.parametrize("held", ["bob", "ops"])
def test_a_sign_in_waits_for_nobody_elses_lock(
    site: Site, migrated_mariadb_url: str, held: str
) -> None:
    site.signed_in("alice")
    with other(migrated_mariadb_url) as cursor:
        cursor.execute("SELECT * FROM users WHERE name_key = %s FOR UPDATE", (held,))
        assert site.browser().sign_in("alice").status_code == 303
    assert [row.end_reason for row in site.rows()] == ["superseded", None]


def test_a_bulk_revocation_waits_for_nobody_elses_lock(
    migrated_mariadb_url: str, valkey: RedisServer
) -> None:
    """With many sessions in the set, MariaDB would rather read all of users, and lock it."""
    site = Site(create_app(settings(migrated_mariadb_url, valkey.url, SESSION_LIMIT=50)))
    references = start(site, *["alice"] * 10, *["bob"] * 10)
    start(site, *["ada"] * 4)
    columns = [column.name for column in UserSession.__table__.columns]
    fresh = {"id": "NULL", "reference": "'a-new-one'", "handle": "'h'"}
    taken = ", ".join(fresh.get(name, name) for name in columns)
    with other(migrated_mariadb_url) as cursor:
        cursor.execute("SELECT * FROM users WHERE name_key = 'ops' FOR UPDATE")
        cursor.execute("SELECT * FROM user_sessions WHERE user_id = 6 FOR UPDATE")
        assert len(cursor.fetchall()) == 4
        # As a sign-in that has not committed yet.
        cursor.execute(
            f"INSERT INTO user_sessions ({', '.join(columns)})"
            f" SELECT {taken} FROM user_sessions WHERE user_id = 6 LIMIT 1"
        )
        with commanding(site), limit(BUDGET):
            done = revoke(references, actor=CLI, reason="incident")
    assert (done.ended, done.finished) == (20, True)
    site.close()


def test_a_sign_in_that_the_server_ends_as_a_deadlock_is_a_503_and_leaves_nothing(
    site: Site, migrated_mariadb_url: str
) -> None:
    browser = site.signed_in("alice")
    (row,) = site.live("alice")
    late, answered = site.browser(), []
    token = late.token("/login")
    form = {"csrf_token": token, "username": "alice", "password": PASSWORD}

    def sign_in() -> None:
        answered.append(late.client.post("/login", data=form))

    with other(migrated_mariadb_url) as cursor:
        # Work to lose: InnoDB ends the transaction that has changed less.
        cursor.execute("UPDATE audit_events SET note = 'x'")
        for n in range(100):
            cursor.execute(
                "INSERT INTO user_agents (digest, header, client) VALUES (%s, '', '')", (n,)
            )
        cursor.execute("SELECT * FROM user_sessions WHERE id = %s FOR UPDATE", (row.id,))
        thread = threading.Thread(target=sign_in)
        thread.start()
        wait_until(waiting_for_a_lock(migrated_mariadb_url))
        cursor.execute("SELECT * FROM users WHERE name_key = 'alice' FOR UPDATE")
        thread.join()
    (response,) = answered
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert site.system.ledger.breaker.state is BreakerState.CLOSED
    assert browser.is_signed_in()
    assert [found.id for found in site.rows()] == [row.id]
    assert late.sign_in("alice").status_code == 303
