"""How many sessions a user may have, and what a sign-in does at the limit."""

from collections.abc import Callable

import pytest
from flask import session
from sqlalchemy import select

from app.auth.sign_in import SignInRefused, Verified, sign_in
from app.extensions import db
from app.people.models import User
from app.people.passwords import hash_password
from tests.servers import RedisServer
from tests.sessions.helpers import add_view
from tests.site import PASSWORD, Site, clock_moved

MakeSite = Callable[..., Site]


def payloads(valkey: RedisServer) -> set[bytes]:
    with valkey.client() as client:
        return set(client.keys("rollcall:session:*"))


def test_at_a_limit_of_three_the_oldest_makes_room(
    make_site: MakeSite, valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=3)
    browsers = []
    for at in range(4):
        with clock_moved(at):
            browsers.append(site.signed_in("alice"))
    assert [browser.is_signed_in() for browser in browsers] == [False, True, True, True]
    first, *others = site.rows()
    assert first.end_reason == "superseded"
    assert first.superseded_by_id == others[-1].id
    assert len(payloads(valkey)) == 3


def test_the_limit_of_one_leaves_one_payload(site: Site, valkey: RedisServer) -> None:
    for _ in range(3):
        site.signed_in("alice")
    assert len(site.live("alice")) == 1
    assert len(payloads(valkey)) == 1
    assert [e.verb for e in site.events()].count("session.superseded") == 2


def test_the_limit_counts_a_users_sessions_in_every_store(make_site: MakeSite) -> None:
    in_redis = make_site()
    in_sql = make_site(SESSION_STORE_BY_ROLE={"member": "sql"})
    first = in_redis.signed_in("alice")
    in_sql.signed_in("alice")
    assert [row.store for row in in_redis.live("alice")] == ["sql"]
    assert not first.is_signed_in()


def test_each_role_has_its_own_limit(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT_BY_ROLE={"admin": 2})
    for name in ("alice", "ada"):
        site.signed_in(name)
        site.signed_in(name)
    assert (len(site.live("alice")), len(site.live("ada"))) == (1, 2)


def test_another_users_sessions_do_not_count(site: Site) -> None:
    alice = site.signed_in("alice")
    site.signed_in("bob")
    assert alice.is_signed_in()


def test_an_expired_session_does_not_count(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT_POLICY="deny")
    site.signed_in("alice")
    with clock_moved(1801):
        assert site.browser().sign_in("alice").status_code == 303


def test_denying_refuses_the_new_session_and_leaves_the_old_one(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT_POLICY="deny")
    first, second = site.signed_in("alice"), site.browser()
    response = second.sign_in("alice")
    assert response.status_code == 409
    assert "already signed in" in response.text
    assert second.cookie is None
    assert first.is_signed_in()
    assert len(site.rows()) == 1


def test_a_denial_is_recorded_and_leaves_no_payload(
    make_site: MakeSite, valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT_POLICY="deny")
    site.signed_in("alice")
    before = payloads(valkey)
    site.browser().sign_in("alice")
    assert payloads(valkey) == before
    denied = site.events("session.sign_in_denied")
    assert [(event.target_name, event.result) for event in denied] == [("alice", "denied")]


def test_a_denial_leaves_no_payload_in_sql_either(make_site: MakeSite) -> None:
    from sqlalchemy import text

    site = make_site(SESSION_LIMIT_POLICY="deny")
    site.signed_in("ada")
    assert site.browser().sign_in("ada").status_code == 409
    held = site.system.ledger.read(text("SELECT count(*) FROM session_payloads"))
    assert held[0][0] == 1


def test_a_session_whose_data_is_lost_does_not_stand_in_the_way(
    make_site: MakeSite, valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT_POLICY="deny", SESSION_LIMIT=2)
    for _ in range(2):
        site.signed_in("alice")
    with valkey.client() as client:
        client.delete(min(payloads(valkey)))
    assert site.browser().sign_in("alice").status_code == 303
    assert len(site.live("alice")) == 2
    (lost,) = [row for row in site.rows() if row.ended_at is not None]
    assert lost.end_reason == "lost"
    assert [e.verb for e in site.events()][-2:] == ["session.lost", "session.signed_in"]


def test_at_a_limit_of_three_denying_refuses_the_fourth(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT=3, SESSION_LIMIT_POLICY="deny")
    for _ in range(3):
        site.signed_in("alice")
    response = site.browser().sign_in("alice")
    assert response.status_code == 409
    assert "3 sessions" in response.text


def test_a_denial_is_no_failed_password(make_site: MakeSite, valkey: RedisServer) -> None:
    """More denials than wrong passwords are allowed: the right password goes on being right."""
    site = make_site(SESSION_LIMIT_POLICY="deny")
    first = site.signed_in("alice")
    away = site.browser(ip="198.51.100.7")
    assert {away.sign_in("alice").status_code for _ in range(12)} == {409}
    assert len(site.events("session.sign_in_denied")) == 12
    assert site.events("session.sign_in_failed") == []
    with valkey.client() as client:
        assert client.keys("rollcall:throttle*") == []
    first.sign_out()
    assert away.sign_in("alice").status_code == 303


def add_sign_in(site: Site) -> None:
    """Give the site a view that signs in whoever its address names, whoever is signed in already."""

    def view(name: str) -> str:
        user = db.session.scalars(select(User).where(User.name == name)).one()
        return sign_in(user).name

    add_view(site, "/in/<name>", view)


def test_signing_in_again_in_the_same_browser_ends_that_browsers_session(
    make_site: MakeSite,
) -> None:
    site = make_site(SESSION_LIMIT=5)
    add_sign_in(site)
    browser = site.signed_in("alice")
    assert browser.get("/in/alice").text == "alice"
    assert len(site.live("alice")) == 1
    assert site.rows()[0].end_reason == "superseded"


def test_signing_in_as_another_signs_the_first_one_out(site: Site) -> None:
    add_sign_in(site)
    browser = site.signed_in("alice")
    assert browser.get("/in/bob").text == "bob"
    assert site.rows()[0].end_reason == "signed_out"
    assert site.rows()[0].ended_by == "alice"
    assert site.live("alice") == []


def test_ones_own_session_never_counts_against_oneself_when_denying(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT_POLICY="deny")
    add_sign_in(site)
    browser = site.signed_in("alice")
    assert browser.get("/in/alice").text == "alice"
    assert len(site.live("alice")) == 1


def test_only_the_keys_of_the_setting_are_carried_over(make_site: MakeSite) -> None:
    site = make_site(SESSION_CARRY_OVER=("basket", "absent"))

    def fill() -> str:
        session.update(basket=["milk"], secret="a visitor's", csrf_token="planted")
        return "filled"

    add_view(site, "/fill", fill)
    browser = site.browser()
    browser.get("/fill")
    with browser.client.session_transaction() as held:
        token = held["csrf_token"]
    with site.app.test_request_context():
        from flask_wtf.csrf import generate_csrf

        session["csrf_token"] = token
        sent = generate_csrf()
    values = {"username": "alice", "password": PASSWORD, "csrf_token": sent}
    assert browser.client.post("/login", data=values).status_code == 303
    with browser.client.session_transaction() as held:
        assert held["basket"] == ["milk"]
        assert "secret" not in held
        assert held["csrf_token"] not in ("planted", "visitor")


def test_nothing_of_an_earlier_session_is_carried_into_the_next(make_site: MakeSite) -> None:
    site = make_site(SESSION_CARRY_OVER=("basket",))
    add_sign_in(site)
    browser = site.signed_in("alice")
    with browser.client.session_transaction() as held:
        held["basket"] = ["alice's milk"]
    browser.get("/in/bob")
    with browser.client.session_transaction() as held:
        assert "basket" not in held


def verified(site: Site, name: str) -> Verified:
    columns = select(User.id, User.name, User.role, User.password_hash)
    row = site.system.ledger.read(columns.where(User.name == name))[0]
    return Verified(row.id, row.name, row.role, row.password_hash)


@pytest.mark.parametrize("change", ["disabled", "password"])
def test_a_change_between_the_check_and_the_sign_in_refuses_it(
    any_site: Site, valkey: RedisServer, change: str
) -> None:
    from sqlalchemy import update

    checked = verified(any_site, "alice")
    values: dict[str, object] = {"active": False}
    if change == "password":
        values = {"password_hash": hash_password("something else entirely")}
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).where(User.name == "alice").values(values))
    with any_site.app.test_request_context(), pytest.raises(SignInRefused):
        sign_in(checked, checked.password_hash)
    assert any_site.rows() == []
    assert payloads(valkey) == set()
    assert any_site.events() == []


def test_a_disabled_users_sign_in_needs_no_password_hash_to_be_refused(site: Site) -> None:
    from sqlalchemy import update

    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).where(User.name == "alice").values(active=False))
    with site.app.test_request_context(), pytest.raises(SignInRefused):
        sign_in(verified(site, "alice"))


def test_a_changed_role_decides_the_new_session(site: Site) -> None:
    from sqlalchemy import update

    checked = verified(site, "alice")
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).where(User.name == "alice").values(role="viewer"))
    with site.app.test_request_context("/"):
        assert sign_in(checked, checked.password_hash).role == "viewer"
    (row,) = site.live("alice")
    assert (row.idle_expires_at - row.started_at).total_seconds() == 900


def test_without_its_event_there_is_no_session(any_site: Site, valkey: RedisServer) -> None:
    from sqlalchemy import text

    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    with any_site.app.test_request_context(), pytest.raises(Exception, match="audit_events"):
        sign_in(verified(any_site, "alice"))
    assert any_site.rows() == []
    assert payloads(valkey) == set()
