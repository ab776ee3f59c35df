"""The trail: an event for each step, by value, in UTC, and none without its act."""

from collections.abc import Callable

import pytest
from sqlalchemy import inspect, text

from app.audit.models import AuditEvent, Verb
from app.audit.trail import Actor, Event, record
from app.auth.changes import disable_user
from tests.sessions.test_revocation import commanding, start
from tests.site import PASSWORD, Site

MakeSite = Callable[..., Site]


@pytest.mark.admin
def test_a_sign_in_session_and_sign_out_are_told_in_order(any_site: Site) -> None:
    browser = any_site.browser()
    browser.sign_in("alice", "wrong")
    browser.sign_in("alice")
    browser.post("/reauth", {"password": PASSWORD})
    browser.get("/admin/sessions")
    browser.sign_out()
    assert [event.verb for event in any_site.events()] == [
        "session.sign_in_failed",
        "session.signed_in",
        "session.stepped_up",
        "access.refused",
        "session.signed_out",
    ]


def test_each_event_says_who_when_and_from_where(any_site: Site) -> None:
    browser = any_site.signed_in("alice", ip="192.0.2.10")
    response = browser.sign_out()
    event = any_site.events()[-1]
    assert (event.actor_kind, event.actor_name, event.actor_role) == ("user", "alice", "member")
    assert (event.actor_user_id, event.target_user_id) == (any_site.user_id("alice"),) * 2
    assert event.ip == "192.0.2.10"
    assert event.request_id == response.headers["X-Request-ID"]
    assert event.result == "ok"


def test_an_events_time_is_the_databases_in_utc(any_site: Site) -> None:
    from sqlalchemy import select

    before = any_site.system.ledger.now()
    start(any_site, "alice")
    (at,) = any_site.system.ledger.read(select(AuditEvent.at))[0]
    assert before <= at <= any_site.system.ledger.now()
    assert at.utcoffset().total_seconds() == 0


def test_events_outlive_whom_they_name(any_site: Site) -> None:
    """No foreign key leads out of the trail: deleting people and sessions leaves it whole."""
    engine = any_site.system.ledger.engine
    assert inspect(engine).get_foreign_keys("audit_events") == []
    start(any_site, "alice")
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("DELETE FROM user_sessions"))
        tx.connection.execute(text("DELETE FROM users WHERE name = 'alice'"))
    assert any_site.events()[0].target_name == "alice"


def test_no_events_are_no_statement(any_site: Site) -> None:
    with any_site.system.ledger.transaction() as tx:
        record(tx.connection, tx.now(), Actor.system(), [])
    assert any_site.events() == []


@pytest.mark.parametrize("verb", Verb)
def test_every_verb_fits_its_column(any_site: Site, verb: Verb) -> None:
    with any_site.system.ledger.transaction() as tx:
        tx.record(Actor.system(), [Event(verb, reason="r" * 20, note="n" * 5000)])
    assert any_site.events()[0].verb == verb.value


def test_an_act_by_command_names_the_systems_user(site: Site) -> None:
    with commanding(site):
        disable_user(site.user_id("alice"), actor=Actor.cli("x" * 100))
    (event,) = site.events()
    assert (event.actor_kind, event.actor_name, event.actor_user_id) == ("cli", "x" * 64, None)


def test_what_was_superseded_names_the_session_that_came(make_site: MakeSite) -> None:
    site = make_site()
    first, second = start(site, "alice", "alice")
    superseded, signed_in = site.events()[1:]
    assert superseded.verb == "session.superseded"
    assert (superseded.reference, superseded.actor_reference) == (first, second)
    assert (signed_in.verb, signed_in.reference) == ("session.signed_in", second)


@pytest.mark.admin
def test_an_export_is_recorded_with_its_filter(site: Site) -> None:
    site.signed_in("ada").get("/admin/sessions?format=csv&role=member")
    (event,) = site.events("data.exported")
    assert event.actor_name == "ada"
    assert "role=member" in event.details


def test_the_trail_holds_no_password_and_no_token(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("alice", "a wrong secret")
    browser.sign_in("alice")
    browser.post("/reauth", {"password": "another wrong secret"})
    kept = str([tuple(event) for event in site.events()])
    for secret in ("wrong secret", PASSWORD, browser.cookie or "?"):
        assert secret not in kept
