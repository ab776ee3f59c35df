"""The live statement: who counts as signed in is one predicate, asked of the database."""

from typing import Any

import pytest
from sqlalchemy import insert, update

from app.audit.models import Verb
from app.audit.trail import Actor
from app.columns import now
from app.people.models import User
from app.sessions.models import Cutoff, EndReason, UserSession
from app.sessions.stores import Stores
from tests.sessions.helpers import add_view, counted
from tests.sessions.test_revocation import CLI, commanding, start
from tests.site import Site, clock_moved


def change(site: Site, statement: Any) -> None:
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(statement)


@pytest.mark.parametrize(
    "values",
    [
        {"ended_at": now(), "end_reason": "revoked"},
        {"idle_expires_at": now(-1)},
        {"absolute_expires_at": now(-1)},
        {"idle_expires_at": now()},
    ],
    ids=["ended", "past the idle deadline", "past the absolute deadline", "at the deadline"],
)
def test_a_row_that_is_not_live_is_nobodys(any_site: Site, values: dict[str, Any]) -> None:
    browser = any_site.signed_in("alice")
    change(any_site, update(UserSession).values(values))
    assert not browser.is_signed_in()


def test_a_disabled_users_row_is_nobodys_though_it_has_not_ended(any_site: Site) -> None:
    browser = any_site.signed_in("alice")
    change(any_site, update(User).values(active=False))
    assert not browser.is_signed_in()
    assert any_site.rows()[0].ended_at is None


def test_the_cutoff_spares_one_session_and_those_that_began_after_it(any_site: Site) -> None:
    alice, bob = any_site.signed_in("alice"), any_site.signed_in("bob")
    spared = any_site.live("bob")[0].id
    change(any_site, insert(Cutoff).values(id=1, at=now(), spared_id=spared))
    assert not alice.is_signed_in()
    assert bob.is_signed_in()
    with clock_moved(1):
        assert any_site.signed_in("vera").is_signed_in()


def test_of_two_ends_the_first_stands_and_has_the_only_event(any_site: Site) -> None:
    start(any_site, "alice")
    (row,) = any_site.live("alice")
    for reason, verb in ((EndReason.LOST, Verb.LOST), (EndReason.REVOKED, Verb.REVOKED)):
        with any_site.system.ledger.transaction() as tx:
            ended = tx.end([row.id], reason, Actor.system(), verb)
        assert len(ended) == (1 if reason is EndReason.LOST else 0)
    assert any_site.rows()[0].end_reason == "lost"
    assert len(any_site.events()) == 2


def test_nothing_of_a_transaction_that_raises_is_kept(any_site: Site) -> None:
    start(any_site, "alice")
    (row,) = any_site.live("alice")
    with pytest.raises(ZeroDivisionError):
        with any_site.system.ledger.transaction() as tx:
            tx.end([row.id], EndReason.LOST, Actor.system(), Verb.LOST)
            raise ZeroDivisionError
    assert len(any_site.live("alice")) == 1
    assert len(any_site.events()) == 1


def test_a_user_agent_is_kept_once(any_site: Site) -> None:
    for _ in range(3):
        any_site.signed_in("alice")
        any_site.signed_in("bob")
    assert len({row.user_agent_id for row in any_site.rows()}) == 1


def test_a_known_user_agent_costs_no_statement(site: Site) -> None:
    start(site, "alice")
    ledger = site.system.ledger
    first = ledger.user_agent_id("Some/1.0")
    with counted(site) as calls:
        assert ledger.user_agent_id("Some/1.0") == first
    assert not calls.ledger


def test_a_row_of_a_store_that_is_not_configured_ends_and_its_purge_waits(site: Site) -> None:
    from app.sessions.revocation import revoke

    (alice,) = start(site, "alice")
    change(site, update(UserSession).values(store="tape"))
    assert isinstance(site.system.stores, Stores)
    with commanding(site):
        done = revoke([alice], actor=CLI, reason="incident")
    assert (done.ended, done.purged, done.purge_pending) == (1, 0, 1)


def test_who_is_asked_twice_in_a_request_is_read_once(site: Site) -> None:
    from flask import session

    def look() -> str:
        return str({session.principal.name for _ in range(5)})  # type: ignore[attr-defined]

    add_view(site, "/look", look)
    browser = site.signed_in("alice")
    with counted(site) as calls:
        assert browser.get("/look").text == "{'alice'}"
    assert len(calls.ledger) == 1
