"""Signing out ends this session everywhere at once, and only by a form of this site."""

import pytest
from flask_login import current_user
from sqlalchemy import text

from app.auth.sign_in import sign_out
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, bring_back, with_cookie
from tests.site import Site


def test_signing_out_ends_the_row_and_deletes_the_data(any_site: Site) -> None:
    for name in ("alice", "ada"):
        browser = any_site.signed_in(name)
        (row,) = any_site.live(name)
        assert browser.sign_out().status_code == 303
        assert any_site.live(name) == []
        assert any_site.payload(row) is None
        ended = next(r for r in any_site.rows() if r.id == row.id)
        assert (ended.end_reason, ended.ended_by) == ("signed_out", name)
        assert not ended.purge_pending


def test_signing_out_is_recorded_as_ones_own_act(site: Site) -> None:
    site.signed_in("alice").sign_out()
    (event,) = site.events("session.signed_out")
    assert (event.actor_name, event.actor_kind, event.target_name) == ("alice", "user", "alice")


def test_signing_out_leaves_other_peoples_sessions(site: Site) -> None:
    bob = site.signed_in("bob")
    site.signed_in("alice").sign_out()
    assert bob.is_signed_in()


def test_a_get_signs_nobody_out(site: Site) -> None:
    browser = site.signed_in("alice")
    assert browser.get("/logout").status_code == 405
    assert browser.is_signed_in()


def test_a_form_without_a_token_signs_nobody_out(site: Site) -> None:
    browser = site.signed_in("alice")
    assert browser.client.post("/logout").status_code == 303
    assert browser.is_signed_in()


def test_signing_out_twice_is_no_fault(site: Site) -> None:
    browser = site.signed_in("alice")
    copy = with_cookie(site, browser.cookie or "")
    token = copy.token("/account/sessions")
    browser.sign_out()
    again = copy.client.post("/logout", data={"csrf_token": token})
    assert again.status_code == 303
    assert len(site.events("session.signed_out")) == 1


def test_a_visitor_who_signs_out_stays_one(site: Site) -> None:
    add_view(site, "/out", lambda: str(sign_out()))  # type: ignore[func-returns-value]
    assert site.browser().get("/out").text == "None"
    assert site.events() == []


def test_after_signing_out_the_request_is_nobodys(site: Site) -> None:
    def leave() -> str:
        before = current_user.is_authenticated
        sign_out()
        return f"{before} {current_user.is_authenticated}"

    add_view(site, "/out", leave)
    assert site.signed_in("alice").get("/out").text == "True False"


def test_signing_out_with_the_store_down_denies_at_once_and_purges_later(
    site: Site, valkey: RedisServer
) -> None:
    from app.sessions.upkeep import run

    add_view(site, "/out", lambda: str(sign_out()))  # type: ignore[func-returns-value]
    browser = site.signed_in("alice")
    old = browser.cookie or ""
    valkey.kill()
    assert browser.get("/out").text == "None"
    assert browser.cookie is None
    (row,) = site.rows()
    assert row.end_reason == "signed_out"
    assert row.purge_pending
    bring_back(site, valkey)
    assert not with_cookie(site, old).is_signed_in()
    assert site.payload(row) is not None
    with site.app.app_context():
        assert run(site.system).purged == 1
    assert site.payload(row) is None
    assert not site.rows()[0].purge_pending


def test_the_form_with_the_store_down_is_a_503_and_signs_nobody_out(
    site: Site, valkey: RedisServer
) -> None:
    browser = site.signed_in("alice")
    token = browser.token("/account/sessions")
    valkey.kill()
    assert browser.client.post("/logout", data={"csrf_token": token}).status_code == 503
    assert len(site.live("alice")) == 1
    assert browser.cookie is not None


def test_without_its_event_the_session_goes_on(any_site: Site) -> None:
    browser = any_site.signed_in("alice")
    token = browser.token("/account/sessions")
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    with pytest.raises(Exception, match="audit_events"):
        browser.client.post("/logout", data={"csrf_token": token})
    (row,) = any_site.live("alice")
    assert any_site.payload(row) is not None
    assert browser.is_signed_in()


def test_the_form_signs_out_with_the_store_down_if_the_browser_vouches_for_it(
    site: Site, valkey: RedisServer
) -> None:
    browser = site.signed_in("alice")
    token = browser.token("/account/sessions")
    valkey.kill()
    same = {"Sec-Fetch-Site": "same-origin"}
    answer = browser.client.post("/logout", data={"csrf_token": token}, headers=same)
    assert answer.status_code == 303
    assert site.live("alice") == []
    assert site.rows()[0].purge_pending
