"""What a request costs, and what a view may do with its session."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask import session
from flask_login import current_user, login_user, logout_user
from markupsafe import Markup
from sqlalchemy import text

from app.people.models import User
from app.sessions.interface import RollcallSession, unknown_id
from app.sessions.payload import PayloadTooLarge
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, counted, with_cookie
from tests.site import Site, clock_moved


def put(name: str, value: str) -> str:
    session[name] = value
    return "kept"


def take(name: str) -> str:
    return str(session.get(name))


@pytest.fixture
def shelf(site: Site) -> Site:
    """A site whose views put things into the session and take them out."""
    add_view(site, "/put/<name>/<value>", put)
    add_view(site, "/take/<name>", take)
    add_view(site, "/idle", lambda: "nothing looked at")
    add_view(site, "/who", lambda: current_user.name if current_user.is_authenticated else "nobody")
    add_view(site, "/sid", lambda: str(session.sid))  # type: ignore[attr-defined]
    return site


def test_a_request_that_never_looks_makes_no_call_and_sends_no_vary(
    shelf: Site, valkey: RedisServer
) -> None:
    browser = shelf.signed_in("alice")
    with counted(shelf, valkey) as calls, clock_moved(120):
        response = browser.get("/idle")
    assert calls.none
    assert "Cookie" not in response.vary
    assert "Set-Cookie" not in response.headers


def test_asking_who_it_is_takes_one_statement_and_no_store(
    shelf: Site, valkey: RedisServer
) -> None:
    browser = shelf.signed_in("alice")
    with counted(shelf, valkey) as calls:
        response = browser.get("/who")
    assert response.text == "alice"
    assert len(calls.ledger) == 1
    assert not calls.redis
    assert not calls.application
    assert "Cookie" in response.vary


def test_a_signed_in_read_takes_one_statement_and_one_command(
    shelf: Site, valkey: RedisServer
) -> None:
    browser = shelf.signed_in("alice")
    browser.get("/put/fruit/pear")
    with counted(shelf, valkey) as calls:
        response = browser.get("/take/fruit")
    assert response.text == "pear"
    assert len(calls.ledger) == 1
    assert calls.redis == {"get": 1}
    assert not calls.sql_store
    assert not calls.application


def test_a_read_by_staff_takes_two_statements_and_no_command(
    shelf: Site, valkey: RedisServer
) -> None:
    browser = shelf.signed_in("ada")
    with counted(shelf, valkey) as calls:
        browser.get("/take/fruit")
    assert (len(calls.ledger), len(calls.sql_store)) == (1, 1)
    assert not calls.redis


def test_a_touch_adds_one_statement_and_moves_the_store_with_the_read(
    shelf: Site, valkey: RedisServer
) -> None:
    browser = shelf.signed_in("alice")
    with clock_moved(61), counted(shelf, valkey) as calls:
        browser.get("/take/fruit")
    assert len(calls.ledger) == 2
    assert calls.redis == {"getex": 1}


def test_a_touch_by_a_request_that_reads_no_data_extends_the_store_too(
    shelf: Site, valkey: RedisServer
) -> None:
    browser = shelf.signed_in("alice")
    with clock_moved(61), counted(shelf, valkey) as calls:
        browser.get("/who")
    assert len(calls.ledger) == 2
    assert calls.redis == {"getex": 1}


@pytest.mark.parametrize("path", ["/who", "/take/fruit", "/login", "/"])
def test_a_visitor_without_a_cookie_asks_no_server(
    shelf: Site, valkey: RedisServer, path: str
) -> None:
    with counted(shelf, valkey) as calls:
        response = shelf.browser().get(path)
    assert calls.none
    assert "Set-Cookie" not in response.headers


def test_an_unknown_cookie_takes_one_statement_and_no_store(
    shelf: Site, valkey: RedisServer
) -> None:
    """But for the counters of guessing, which invariant 6 allows."""
    browser = with_cookie(shelf, "A" * 43)
    with counted(shelf, valkey) as calls, unknown_id.muted():
        response = browser.get("/take/fruit")
    assert len(calls.ledger) == 1
    assert not calls.redis
    assert "Set-Cookie" not in response.headers


def test_a_cookie_that_cannot_be_an_id_asks_no_server(shelf: Site, valkey: RedisServer) -> None:
    browser = with_cookie(shelf, "short")
    with counted(shelf, valkey) as calls:
        assert browser.get("/who").text == "nobody"
    assert calls.none


def test_the_data_of_an_ended_session_is_not_asked_for(shelf: Site, valkey: RedisServer) -> None:
    browser = shelf.signed_in("alice")
    with clock_moved(3600), counted(shelf, valkey) as calls:
        assert browser.get("/take/fruit").text == "None"
    assert len(calls.ledger) == 1
    assert not calls.redis


def test_asking_whether_a_key_is_there_sends_vary(site: Site) -> None:
    add_view(site, "/in", lambda: str("fruit" in session))
    response = site.browser().get("/in")
    assert response.text == "False"
    assert "Cookie" in response.vary


def test_the_sid_is_the_reference_and_a_visitor_has_none(shelf: Site) -> None:
    browser = shelf.signed_in("alice")
    assert browser.get("/sid").text == shelf.live("alice")[0].reference
    assert shelf.browser().get("/sid").text == "None"


def test_what_one_request_puts_the_next_one_takes(shelf: Site) -> None:
    for name in ("alice", "ada"):
        browser = shelf.signed_in(name)
        browser.get("/put/fruit/pear")
        assert browser.get("/take/fruit").text == "pear"


def test_a_visitors_data_rides_in_the_visitors_cookie_alone(
    shelf: Site, valkey: RedisServer
) -> None:
    browser = shelf.browser()
    with counted(shelf, valkey) as calls:
        response = browser.get("/put/fruit/pear")
        assert browser.get("/take/fruit").text == "pear"
    assert calls.none
    assert response.headers["Set-Cookie"].startswith("visitor=")
    assert browser.cookie is None


def test_a_read_only_request_writes_nothing(shelf: Site, valkey: RedisServer) -> None:
    browser = shelf.signed_in("alice")
    browser.get("/put/fruit/pear")
    (row,) = shelf.live("alice")
    store = shelf.system.stores[row.store]
    before = store.load(row.data_key)
    with counted(shelf, valkey) as calls:
        browser.get("/take/fruit")
        browser.get("/take/other")
    assert store.load(row.data_key) == before
    assert calls.redis == {"get": 2}


def test_writing_the_value_that_is_there_writes_nothing(shelf: Site, valkey: RedisServer) -> None:
    browser = shelf.signed_in("alice")
    browser.get("/put/fruit/pear")
    with counted(shelf, valkey) as calls:
        browser.get("/put/fruit/pear")
    assert calls.redis == {"get": 1}


def test_a_change_inside_a_value_is_kept_when_the_view_says_so(site: Site) -> None:
    def append(said: str) -> str:
        session["list"].append(1)
        session.modified = said == "yes"
        return str(len(session["list"]))

    def begin() -> str:
        session["list"] = []
        return "begun"

    add_view(site, "/begin", begin)
    add_view(site, "/append/<said>", append)
    browser = site.signed_in("alice")
    browser.get("/begin")
    assert browser.get("/append/no").text == "1"
    assert browser.get("/append/yes").text == "1"
    assert browser.get("/append/no").text == "2"


def test_a_session_too_large_is_a_fault_that_loses_nothing(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_MAX_BYTES=1024, PROPAGATE_EXCEPTIONS=False)

    def grow() -> str:
        session["heap"] = "x" * 2000
        return "grown"

    add_view(site, "/grow", grow)
    add_view(site, "/put/<name>/<value>", put)
    add_view(site, "/take/<name>", take)
    browser = site.signed_in("alice")
    browser.get("/put/fruit/pear")
    assert browser.get("/grow").status_code == 500
    assert browser.get("/take/fruit").text == "pear"
    assert browser.get("/take/heap").text == "None"


def test_the_remedy_for_a_session_too_large_is_named(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_MAX_BYTES=1024)
    add_view(site, "/put/<name>/<value>", put)
    browser = site.signed_in("alice")
    with pytest.raises(PayloadTooLarge, match="keep large things in the database"):
        browser.get(f"/put/heap/{'x' * 2000}")


def test_what_cannot_be_stored_is_named_where_it_is_saved(site: Site) -> None:
    def break_it() -> str:
        session["opener"] = object()
        return "no"

    add_view(site, "/break", break_it)
    browser = site.signed_in("alice")
    with pytest.raises(TypeError, match=r"session\['opener'\] cannot be stored"):
        browser.get("/break")


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_every_type_comes_back_through_either_store(
    make_site: Callable[..., Site], form: str
) -> None:
    """Those of Flask's tagged JSON, nested, and names that look like its tags."""
    value = {
        "aware": datetime(2026, 1, 1, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=-3))),
        "naive": datetime(2026, 1, 1, 1, 2, 3, 456789),  # noqa: DTZ001 - a naive one stays naive
        "uuid": UUID(int=7),
        "nested": (1, (b"\x00\xff", [(), {"t": (None,)}])),
        "markup": Markup("<b>bold</b>"),
        "plain": [None, True, 1, 1.5, float("inf"), "\x00 日本", [], {}],
        "tags": [{" t": [1]}, {" di": {" d": "x"}}, {" m": "x", " u": 1}],
        "numbered": {1: "one", "1": "text"},
    }
    seen: list[Any] = []
    site = make_site(SESSION_SERIALIZATION_FORMAT=form)

    def keep() -> str:
        session["value"] = value
        session.update({f" {name}": name for name in value})
        return "kept"

    def look() -> str:
        seen.append(dict(session))
        return "seen"

    add_view(site, "/keep", keep)
    add_view(site, "/look", look)
    for name in ("alice", "ada"):
        browser = site.signed_in(name)
        browser.get("/keep")
        browser.get("/look")
        (row,) = site.live(name)
        assert (site.payload(row) or b"")[:1].startswith(b"{") == (form == "json")
    for data in seen:
        assert data["value"] == value
        assert [type(data["value"][key]) for key in value] == [
            type(each) for each in value.values()
        ]
        assert data["value"]["aware"].utcoffset() == timedelta(hours=-3)
        assert {key for key in data if key.startswith(" ")} == {f" {name}" for name in value}
    assert [row.store for name in ("alice", "ada") for row in site.live(name)] == ["redis", "sql"]


def test_login_user_fails_at_once_and_names_sign_in(site: Site) -> None:
    user = User(id=1, name="alice")
    user.is_active = True  # type: ignore[attr-defined]
    user.get_id = lambda: "1"  # type: ignore[attr-defined]
    add_view(site, "/stray", lambda: str(login_user(user)))  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match=r"app.auth.sign_in.sign_in\(\)"):
        site.browser().get("/stray")
    assert site.rows() == []


def test_logout_user_fails_and_names_sign_out(site: Site) -> None:
    add_view(site, "/stray", lambda: str(logout_user()))  # type: ignore[no-untyped-call]
    browser = site.signed_in("alice")
    with pytest.raises(RuntimeError, match=r"app.auth.sign_in.sign_out\(\)"):
        browser.get("/stray")
    assert browser.is_signed_in()


def test_without_a_key_the_session_is_flasks_null_session(site: Site) -> None:
    site.app.secret_key = None
    with site.app.test_request_context("/healthz"):
        assert session.get("fruit") is None
        with pytest.raises(RuntimeError, match="secret key"):
            session["fruit"] = "pear"


def test_a_test_may_open_a_visitors_session(shelf: Site) -> None:
    browser = shelf.browser()
    with browser.client.session_transaction() as held:
        held["fruit"] = "pear"
    assert browser.get("/take/fruit").text == "pear"
    with browser.client.session_transaction() as held:
        assert held["fruit"] == "pear"


def test_a_test_may_open_the_session_of_somebody_signed_in(shelf: Site) -> None:
    browser = shelf.signed_in("alice")
    with browser.client.session_transaction() as held:
        assert held.principal.name == "alice"  # type: ignore[attr-defined]
        held["fruit"] = "pear"
    assert browser.get("/take/fruit").text == "pear"


def test_a_teardown_may_still_read_the_session(site: Site) -> None:
    kept: list[RollcallSession] = []
    add_view(site, "/keep", lambda: str(kept.append(session._get_current_object())))  # type: ignore[attr-defined, func-returns-value]
    browser = site.signed_in("alice")
    browser.get("/keep")
    assert kept[0].principal is not None
    assert kept[0].principal.name == "alice"
    assert "csrf_token" in kept[0]


def test_a_save_that_finds_no_data_under_a_live_row_is_a_503(
    shelf: Site, valkey: RedisServer
) -> None:
    def put_after_loss() -> str:
        session["fruit"] = "pear"
        with valkey.client() as client:
            client.flushall()
        return "kept"

    add_view(shelf, "/lose", put_after_loss)
    browser = shelf.signed_in("alice")
    response = browser.get("/lose")
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert shelf.payload(shelf.live("alice")[0]) is None


def test_data_that_is_absent_under_a_live_row_is_a_503(shelf: Site, valkey: RedisServer) -> None:
    browser = shelf.signed_in("alice")
    with valkey.client() as client:
        client.flushall()
    response = browser.get("/take/fruit")
    assert response.status_code == 503
    assert len(shelf.live("alice")) == 1
    assert browser.get("/who").text == "alice"


def test_a_save_of_a_session_that_ended_meanwhile_is_dropped(
    site: Site, valkey: RedisServer
) -> None:
    from app.audit.trail import Actor
    from app.sessions.revocation import revoke

    def end_and_put() -> str:
        session["fruit"] = "pear"
        revoke([session.sid], actor=Actor.cli("test"), reason="incident")  # type: ignore[attr-defined]
        return "done"

    add_view(site, "/end", end_and_put)
    browser = site.signed_in("alice")
    response = browser.get("/end")
    assert response.text == "done"
    assert "Set-Cookie" not in response.headers
    (row,) = site.rows()
    assert row.end_reason == "revoked"
    assert site.payload(row) is None
    with valkey.client() as client:
        assert not client.keys("rollcall:session:*")


def test_data_asked_for_after_the_session_ended_meanwhile_is_answered_with_the_reason(
    site: Site,
) -> None:
    from app.audit.trail import Actor
    from app.sessions.revocation import revoke

    def end_and_take() -> str:
        revoke([session.sid], actor=Actor.cli("test"), reason="incident")  # type: ignore[attr-defined]
        return take("fruit")

    add_view(site, "/end", end_and_take)
    response = site.signed_in("alice").get("/end")
    assert response.status_code == 401
    assert "An administrator ended this session" in response.text


def test_a_new_id_comes_with_flask_sessions_own_regenerate(site: Site) -> None:
    def regenerate() -> str:
        session["fruit"] = "pear"
        interface = site.app.session_interface
        interface.regenerate(session._get_current_object())  # type: ignore[attr-defined]
        return "new"

    add_view(site, "/regenerate", regenerate)
    add_view(site, "/take/<name>", take)
    browser = site.signed_in("alice")
    old = browser.cookie
    browser.get("/regenerate")
    assert browser.cookie != old
    assert browser.get("/take/fruit").text == "pear"
    assert not with_cookie(site, old or "").is_signed_in()
    assert [e.verb for e in site.events()] == ["session.signed_in", "session.regenerated"]


def test_ten_thousand_visits_leave_stores_and_ledger_as_they_were(
    shelf: Site, valkey: RedisServer
) -> None:
    client = shelf.app.test_client()
    with counted(shelf, valkey) as calls:
        for _ in range(10_000):
            client.get("/who")
    assert calls.none
    assert shelf.system.ledger.read(text("SELECT count(*) FROM user_sessions"))[0][0] == 0
