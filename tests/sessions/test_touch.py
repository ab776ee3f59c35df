"""Activity is written down once an interval, and never at the price of the request."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import session
from sqlalchemy import create_engine, text

from app.extensions import db
from app.sessions.stores.engines import database_url
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, with_cookie
from tests.site import CHROME, Site, clock_moved


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """Hold the ledger's rows in another transaction: on SQLite that is the whole file."""
    engine = create_engine(database_url(site.app.config["DATABASE_URL"]))
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        if sqlite:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.isolation_level = None
            raw.execute("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT id FROM user_sessions FOR UPDATE"))
        try:
            yield
        finally:
            raw.execute("ROLLBACK") if sqlite else connection.rollback()
    engine.dispose()


def test_a_touch_that_cannot_lock_its_row_is_skipped_and_the_request_answered(
    any_site: Site,
) -> None:
    browser = any_site.signed_in("alice")
    (before,) = any_site.live("alice")
    with clock_moved(120), locked(any_site):
        assert browser.is_signed_in()
    assert any_site.live("alice")[0].last_seen_at == before.last_seen_at
    with clock_moved(121):
        assert browser.is_signed_in()
    assert any_site.live("alice")[0].last_seen_at > before.last_seen_at


def test_a_silent_store_neither_fails_the_request_nor_stops_the_touch(
    site: Site, valkey: RedisServer
) -> None:
    browser = site.signed_in("alice")
    (before,) = site.live("alice")
    valkey.kill()
    with clock_moved(120):
        assert browser.get("/account/sessions?format=json").status_code == 200
    assert site.live("alice")[0].last_seen_at > before.last_seen_at


def test_a_touch_does_not_revive_what_ended_while_the_request_ran(any_site: Site) -> None:
    from app.audit.trail import Actor
    from app.sessions.revocation import revoke

    def end() -> str:
        revoke([session.sid], actor=Actor.cli("test"), reason="incident")  # type: ignore[attr-defined]
        return "ended"

    add_view(any_site, "/end", end)
    browser = any_site.signed_in("alice")
    (before,) = any_site.live("alice")
    with clock_moved(120):
        assert browser.get("/end").text == "ended"
    (row,) = any_site.rows()
    assert row.ended_at is not None
    assert row.last_seen_at == before.last_seen_at


def test_two_requests_of_one_interval_touch_once(any_site: Site) -> None:
    browser = any_site.signed_in("alice")
    with clock_moved(120):
        browser.is_signed_in()
        (first,) = any_site.live("alice")
        browser.is_signed_in()
        (second,) = any_site.live("alice")
    assert second.last_seen_at == first.last_seen_at


def test_a_touch_records_where_the_session_is_used_from_now(any_site: Site) -> None:
    alice = any_site.signed_in("alice")
    moved = with_cookie(any_site, alice.cookie or "")
    moved.client.environ_base.update(HTTP_USER_AGENT=CHROME, REMOTE_ADDR="2001:db8::7")
    with clock_moved(120):
        assert moved.is_signed_in()
    (row,) = any_site.live("alice")
    assert (row.first_ip, row.ip) == ("127.0.0.1", "2001:db8::7")
    assert row.user_agent_id != row.first_user_agent_id
    assert len(any_site.events("session.client_changed")) == 1


def test_the_same_client_again_is_no_event(any_site: Site) -> None:
    browser = any_site.signed_in("alice")
    with clock_moved(120):
        browser.is_signed_in()
    assert any_site.events("session.client_changed") == []


def test_a_touch_is_written_though_the_view_left_writes_uncommitted(any_site: Site) -> None:
    def write() -> str:
        db.session.execute(text("UPDATE users SET disabled_at = NULL"))
        return session.get("x", "none")

    add_view(any_site, "/write", write)
    browser = any_site.signed_in("alice")
    (before,) = any_site.live("alice")
    with clock_moved(120):
        assert browser.get("/write").text == "none"
    assert any_site.live("alice")[0].last_seen_at > before.last_seen_at
