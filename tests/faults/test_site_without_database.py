"""The whole site while the ledger's database fails: nobody is taken for signed in, nobody signed out."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, make_url

from app import create_app
from app.auth.access import requires
from app.people.models import Permission
from app.sessions.interface import session
from app.sessions.stores.breaker import BreakerState
from tests import site as site_module
from tests.faults.answers import (
    BREAKERS,
    DEADLINE,
    NETWORK,
    PAUSE,
    RETURN,
    Held,
    assert_unavailable,
    failing,
    patient,
    set_breaker,
    sign_in,
    timed,
)
from tests.faults.proxy import Proxy
from tests.servers import (
    PostgresServer,
    RedisServer,
    create_postgresql_database,
    unique_name,
    wait_until,
)
from tests.site import CHROME, Site, clock_moved

pytestmark = pytest.mark.admin

network = pytest.mark.parametrize("fault", NETWORK)
breakers = pytest.mark.parametrize("breaker", BREAKERS)


@dataclass
class Behind:
    """A site that reaches PostgreSQL through a proxy."""

    site: Site
    proxy: Proxy
    server: PostgresServer
    url: str

    def failing(self, fault: str) -> Any:
        return failing(fault, self.proxy, self.server)

    def set_breakers(self, state: str) -> None:
        set_breaker(self.site.system.ledger.breaker, state)
        set_breaker(self.site.system.stores["sql"].breaker, state)


@pytest.fixture(scope="module")
def migrated(postgresql_process: PostgresServer) -> str:
    """A database with the cast on the server that these tests freeze."""
    url = create_postgresql_database(postgresql_process.url, unique_name())
    site = Site(create_app(site_module.settings(url, None)))
    site_module.migrate(site.app)
    site.close()
    return url


@pytest.fixture
def behind(postgresql: PostgresServer, migrated: str, valkey: RedisServer) -> Iterator[Behind]:
    with Proxy(postgresql.port, pause=PAUSE) as proxy:
        near = make_url(migrated).set(port=proxy.port).render_as_string(hide_password=False)
        given = site_module.settings(near, valkey.url, REQUEST_DEADLINE=DEADLINE)
        site = Site(create_app(given))
        yield Behind(site, proxy, postgresql, migrated)
        site.close()


def is_well(person: Held) -> bool:
    person.assert_kept()
    page = person.browser.get("/account/sessions")
    assert page.status_code in (200, 503), "signed out"
    return page.status_code == 200


def recovers(site: Site, *people: Held) -> None:
    """Expect all to be well within 5 s of the server's return, the breakers closed."""
    wait_until(lambda: all(is_well(person) for person in people), RETURN)
    system = site.system
    assert system.ledger.breaker.state is BreakerState.CLOSED
    assert system.stores["sql"].breaker.state is BreakerState.CLOSED


@network
@breakers
def test_every_page_is_an_honest_503_in_time_and_nobody_is_signed_out(
    behind: Behind, fault: str, breaker: str
) -> None:
    alice, ops = (Held.signed_in(behind.site, name) for name in ("alice", "ops"))
    with behind.failing(fault):
        for ask in (
            lambda: alice.get("/account/sessions"),
            lambda: alice.get("/"),
            lambda: alice.get("/login"),
            lambda: alice.post("/", note="what I wrote"),
            lambda: alice.post("/logout"),
            lambda: ops.get("/admin/sessions"),
            lambda: ops.get("/admin/sessions?format=json"),
            lambda: ops.post("/admin/revocations", reference="aaaaaaaaaa"),
        ):
            behind.set_breakers(breaker)
            assert_unavailable(ask())
            alice.assert_kept()
            ops.assert_kept()
        behind.set_breakers(breaker)
        visitor = behind.site.browser(CHROME)
        assert_unavailable(sign_in(visitor, "alice"), of="The database")
        assert visitor.cookie is None
        assert alice.get("/healthz").status_code == 200
        assert alice.get("/static/css/tokens.css").status_code == 200
        ready = alice.get("/readyz")
        assert ready.status_code == 503
        assert ready.json["dependencies"]["database"] == {"ok": False}
        behind.set_breakers(breaker)
        scraped = alice.get("/metrics")
        assert scraped.status_code == 200
        assert 'rollcall_up{dependency="database"} 0.0' in scraped.text
    recovers(behind.site, alice, ops)


def test_a_database_that_was_killed_is_met_with_new_connections(behind: Behind) -> None:
    alice, ops = (Held.signed_in(behind.site, name) for name in ("alice", "ops"))
    behind.server.kill()
    assert_unavailable(alice.get("/account/sessions"), of="The database")
    assert_unavailable(ops.get("/admin/sessions"), of="The database")
    behind.server.start()
    recovers(behind.site, alice, ops)


@network
@pytest.mark.parametrize("name", ["alice", "ops"])
def test_a_database_that_fails_in_mid_request_is_never_a_page_of_success_for_a_lost_write(
    behind: Behind, fault: str, name: str
) -> None:
    """Alice's data is in Redis, so her write may still be kept; the operator's is in the database."""
    broken = ExitStack()

    @requires(Permission.OWN)
    def view() -> str:
        broken.enter_context(behind.failing(fault))
        session["note"] = "written late"
        return "saved"

    behind.site.app.add_url_rule("/t/break", view_func=view)
    held = Held.signed_in(behind.site, name)
    (row,) = behind.site.live(name)
    with broken:
        response = timed(lambda: held.browser.get("/t/break"))
        held.assert_kept()
    if response.status_code == 200:
        assert b"written late" in (behind.site.payload(row) or b"")
        assert name == "alice"
    else:
        assert_unavailable(response)
    wait_until(lambda: is_well(held), RETURN)


@contextmanager
def read_only(url: str) -> Iterator[None]:
    name = make_url(url).database
    with psycopg.connect(url, autocommit=True) as connection:
        setting = f'ALTER DATABASE "{name}" SET default_transaction_read_only'
        connection.execute(f"{setting} = on".encode())
        try:
            yield
        finally:
            connection.execute(b"SET default_transaction_read_only = off")
            connection.execute(f"{setting} = off".encode())


@contextmanager
def full(url: str) -> Iterator[None]:
    """Let every table answer a write as PostgreSQL does whose disk is full."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            b"CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS"
            b" $$ BEGIN RAISE 'No space left on device' USING ERRCODE = '53100'; END $$"
        )
        tables = [
            str(row[0])
            for row in connection.execute(
                b"SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
            )
        ]
        for table in tables:
            connection.execute(
                f'CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON "{table}"'
                " FOR EACH STATEMENT EXECUTE FUNCTION disk_full()".encode()
            )
        try:
            yield
        finally:
            connection.execute(b"DROP FUNCTION disk_full CASCADE")


UNWRITABLE = {"read-only": read_only, "full": full}


def reconnect(site: Site) -> None:
    """Let the site make new connections, as a failover would."""
    site.close()


def assert_no_write_gets_through(site: Site, valkey: RedisServer, ops: Held) -> None:
    """Sign-in, sign-out and revocation are refused in time, and leave nothing behind."""
    with valkey.client() as client:
        keys = client.dbsize()
        assert_unavailable(sign_in(site.browser(CHROME), "bob"), of="The database")
        assert client.dbsize() == keys
    (row,) = site.live("alice")
    assert_unavailable(ops.post("/admin/revocations", reference=row.reference))
    assert_unavailable(ops.post("/", note="for the data in SQL"))
    assert_unavailable(ops.post("/logout"))
    ops.assert_kept()
    assert site.live("bob") == []


@pytest.mark.parametrize("how", UNWRITABLE)
def test_a_postgresql_that_cannot_write_is_read_and_its_writes_are_503s(
    behind: Behind, valkey: RedisServer, how: str
) -> None:
    site = behind.site
    alice, ops = (Held.signed_in(site, name) for name in ("alice", "ops"))
    (row,) = site.live("alice")
    review = ops.post("/admin/revocations", reference=row.reference).location
    with UNWRITABLE[how](behind.url):
        reconnect(site)
        with patient(site):
            assert alice.get("/account/sessions").status_code == 200
            assert ops.get("/admin/sessions").status_code == 200
            with clock_moved(120):
                # This activity cannot be written down: the page is shown all the same.
                assert alice.get("/account/sessions").status_code == 200
                assert ops.get("/account/sessions").status_code == 200
        assert_no_write_gets_through(site, valkey, ops)
        assert_unavailable(ops.post(review, reason="incident"))
        assert alice.get("/account/sessions").status_code == 200
    reconnect(site)
    recovers(site, alice, ops)
    with patient(site):
        values = {"csrf_token": ops.token, "reason": "incident"}
        assert ops.browser.client.post(review, data=values).status_code == 303
    assert site.live("alice") == []


def test_a_table_that_is_locked_is_a_503_for_those_who_need_it_and_nobody_else(
    behind: Behind,
) -> None:
    alice, ops = (Held.signed_in(behind.site, name) for name in ("alice", "ops"))
    with psycopg.connect(behind.url) as other:
        other.execute("LOCK TABLE session_payloads")
        assert_unavailable(ops.get("/account/sessions"))
        ops.assert_kept()
        assert alice.get("/account/sessions").status_code == 200
    wait_until(lambda: is_well(ops), RETURN)


def test_a_sqlite_that_another_writer_holds_is_read_and_its_writes_are_503s(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(REQUEST_DEADLINE=DEADLINE)
    alice, ops = (Held.signed_in(site, name) for name in ("alice", "ops"))
    file = str(site.app.config["SQLALCHEMY_DATABASE_URI"].database)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert alice.get("/account/sessions").status_code == 200
        assert alice.post("/", note="kept in Redis").status_code == 303
        assert ops.get("/admin/sessions").status_code == 200
        assert_no_write_gets_through(site, valkey, ops)
        other.execute("ROLLBACK")
    wait_until(lambda: is_well(alice) and is_well(ops), RETURN)
    assert sign_in(site.browser(CHROME), "bob").status_code == 303


def limited_sqlite(make_site: Callable[..., Site], pragma: str) -> tuple[Site, Site]:
    """Return two sites on one database: a whole one, and one whose connections are limited."""
    whole, limited = make_site(), make_site(REQUEST_DEADLINE=DEADLINE)
    engines = [limited.system.ledger.engine, limited.system.stores["sql"]._engine]  # type: ignore[attr-defined]
    for engine in engines:

        @event.listens_for(engine, "connect")
        def limit(connection: Any, _record: Any) -> None:
            connection.execute(pragma).close()

    return whole, limited


def test_a_read_only_sqlite_is_read_and_its_writes_are_503s(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    whole, limited = limited_sqlite(make_site, "PRAGMA query_only = ON")
    people = [whole.signed_in(name) for name in ("alice", "ops")]
    alice, ops = (Held.by(moved(person, limited)) for person in people)
    assert alice.get("/account/sessions").status_code == 200
    assert ops.get("/admin/sessions").status_code == 200
    assert_no_write_gets_through(limited, valkey, ops)
    assert all(person.is_signed_in() for person in people)


def test_a_full_sqlite_is_read_and_a_large_write_is_a_503(make_site: Callable[..., Site]) -> None:
    whole, limited = limited_sqlite(make_site, "PRAGMA max_page_count = 1")

    @requires(Permission.OWN)
    def view() -> str:
        session["note"] = "x" * 60_000
        return "saved"

    limited.app.add_url_rule("/t/fill", view_func=view)
    person = whole.signed_in("ops")
    ops = Held.by(moved(person, limited))
    assert_unavailable(ops.get("/t/fill"))
    ops.assert_kept()
    assert ops.get("/admin/sessions").status_code == 200
    assert person.is_signed_in()


def moved(person: site_module.Browser, to: Site) -> site_module.Browser:
    """Return a browser at another site of the same ledger that holds a person's cookie."""
    browser = to.browser()
    assert person.cookie is not None
    browser.client.set_cookie(to.app.config["SESSION_COOKIE_NAME"], person.cookie)
    return browser
