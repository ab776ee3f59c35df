"""A new id for the same session: the data stays, the old id is nobody's at once."""

from collections.abc import Callable

import pytest
from flask import session
from sqlalchemy import text

from app.sessions.interface import SessionEnded
from tests.sessions.helpers import add_view, with_cookie
from tests.site import PASSWORD, Site


@pytest.mark.parametrize("name", ["alice", "ada"], ids=["in Redis", "in SQL"])
def test_step_up_gives_a_new_id_and_keeps_the_data(site: Site, name: str) -> None:
    browser = site.signed_in(name)
    with browser.client.session_transaction() as held:
        held["fruit"] = "pear"
    (before,) = site.live(name)
    old = browser.cookie
    assert browser.post("/reauth", {"password": PASSWORD}).status_code == 303
    (after,) = site.live(name)
    assert browser.cookie != old
    assert after.handle != before.handle
    assert (after.data_key, after.reference) == (before.data_key, before.reference)
    assert after.regenerations == 1
    with browser.client.session_transaction() as held:
        assert held["fruit"] == "pear"


def test_the_old_id_is_nobodys_and_sets_no_cookie(site: Site) -> None:
    browser = site.signed_in("alice")
    old = with_cookie(site, browser.cookie or "")
    browser.post("/reauth", {"password": PASSWORD})
    response = old.get("/account/sessions")
    assert response.status_code == 303
    assert "Set-Cookie" not in response.headers
    assert browser.is_signed_in()


def test_a_request_that_runs_meanwhile_loses_nothing(site: Site) -> None:
    def slow() -> str:
        session["slow"] = "kept"
        other = with_cookie(site, browser.cookie or "")
        assert other.post("/reauth", {"password": PASSWORD}).status_code == 303
        new.append(other.cookie or "")
        return "done"

    new: list[str] = []
    add_view(site, "/slow", slow)
    browser = site.signed_in("alice")
    old = browser.cookie
    response = browser.get("/slow")
    assert response.text == "done"
    assert "Set-Cookie" not in response.headers
    assert browser.cookie == old
    assert not browser.is_signed_in()
    with with_cookie(site, new[0]).client.session_transaction() as held:
        assert held["slow"] == "kept"


def test_regenerating_a_visitors_session_does_nothing(site: Site) -> None:
    def regenerate() -> str:
        interface = site.app.session_interface
        interface.regenerate(session._get_current_object())  # type: ignore[attr-defined]
        return "done"

    add_view(site, "/regenerate", regenerate)
    response = site.browser().get("/regenerate")
    assert response.text == "done"
    assert "Set-Cookie" not in response.headers
    assert site.events() == []


def test_a_session_that_ended_meanwhile_gets_no_new_id(any_site: Site) -> None:
    from app.audit.trail import Actor
    from app.sessions.revocation import revoke

    def end_and_regenerate() -> str:
        revoke([session.sid], actor=Actor.cli("test"), reason="incident")  # type: ignore[attr-defined]
        with pytest.raises(SessionEnded):
            session.regenerate()  # type: ignore[attr-defined]
        return "refused"

    add_view(any_site, "/end", end_and_regenerate)
    browser = any_site.signed_in("alice")
    old = browser.cookie
    response = browser.get("/end")
    assert response.text == "refused"
    assert "Set-Cookie" not in response.headers
    assert browser.cookie == old
    assert not browser.is_signed_in()
    assert any_site.rows()[0].regenerations == 0


def test_without_its_event_the_id_stays(any_site: Site) -> None:
    def regenerate() -> str:
        session.regenerate()  # type: ignore[attr-defined]
        return "new"

    add_view(any_site, "/regenerate", regenerate)
    browser = any_site.signed_in("alice")
    (before,) = any_site.live("alice")
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    with pytest.raises(Exception, match="audit_events"):
        browser.get("/regenerate")
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE elsewhere RENAME TO audit_events"))
    assert any_site.live("alice")[0].handle == before.handle
    assert browser.is_signed_in()


def test_fifty_new_ids_leave_one_session(make_site: Callable[..., Site]) -> None:
    site = make_site()

    def regenerate() -> str:
        session.regenerate()  # type: ignore[attr-defined]
        return "new"

    add_view(site, "/regenerate", regenerate)
    browser = site.signed_in("alice")
    seen = {browser.cookie}
    for _ in range(50):
        browser.get("/regenerate")
        seen.add(browser.cookie)
    assert len(seen) == 51
    assert len(site.rows()) == 1
    assert site.rows()[0].regenerations == 50
