"""One's own password: the current one first, a new id for this session, the end of the others."""

from collections.abc import Callable

import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.sessions.helpers import with_cookie
from tests.site import PASSWORD, Browser, Site

NEW = "a very uncommon sentence"


def change(
    browser: Browser, current: str = PASSWORD, new: str = NEW, repeat: str = ""
) -> TestResponse:
    values = {"current_password": current, "password": new, "repeat": repeat or new}
    return browser.post("/account/password", values)


def test_of_three_sessions_two_end_and_one_gets_a_new_id(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_LIMIT=3)
    others = [site.signed_in("alice"), site.signed_in("alice")]
    own = site.signed_in("alice")
    own.post("/", {"note": "milk"})
    old = own.cookie
    reference = site.live("alice")[2].reference
    response = change(own)
    assert response.status_code == 303
    assert own.cookie != old
    assert own.is_signed_in()
    assert "milk" in own.get("/").text
    assert not any(browser.is_signed_in() for browser in others)
    assert not with_cookie(site, old or "").is_signed_in()
    assert [row.reference for row in site.live("alice")] == [reference]
    ended = [row for row in site.rows() if row.ended_at is not None]
    assert [row.end_reason for row in ended] == ["password_changed"] * 2
    assert all(site.payload(row) is None for row in ended)


def test_the_new_password_signs_in_and_the_old_one_does_not(any_site: Site) -> None:
    own = any_site.signed_in("alice")
    assert change(own).status_code == 303
    assert any_site.browser().sign_in("alice", PASSWORD).status_code == 422
    assert any_site.browser().sign_in("alice", NEW).status_code == 303


def test_the_others_are_told_why(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_LIMIT=2)
    other, own = site.signed_in("alice"), site.signed_in("alice")
    change(own)
    assert (
        "password" in other.get("/account/sessions", follow_redirects=True).text.split("<form")[0]
    )


def test_a_wrong_current_password_changes_nothing_and_is_recorded(site: Site) -> None:
    own = site.signed_in("alice")
    old = own.cookie
    response = change(own, current="wrong")
    assert response.status_code == 422
    assert "not your current password" in response.text
    assert own.cookie == old
    assert site.browser().sign_in("alice").status_code == 303
    assert site.events("user.password_changed") == []
    failed = site.events("user.password_change_failed")
    assert [(event.result, event.actor_name) for event in failed] == [("failed", "alice")]


@pytest.mark.parametrize(
    ("new", "repeat", "said"),
    [
        ("short", "short", "at least 12"),
        ("passwordpassword", "passwordpassword", "easy to guess"),
        ("alice-and-her-uncommon-cat", "alice-and-her-uncommon-cat", "user name out"),
        (NEW, "another", "differs"),
        ("x" * 1025, "x" * 1025, "at most 1024"),
    ],
)
def test_a_password_that_will_not_do_is_refused_in_words(
    site: Site, new: str, repeat: str, said: str
) -> None:
    own = site.signed_in("alice")
    response = change(own, new=new, repeat=repeat)
    assert response.status_code == 422
    assert said in response.text
    assert site.browser().sign_in("alice").status_code == 303


def test_a_password_of_64_characters_and_spaces_is_kept_whole(site: Site) -> None:
    long = "  späte Züge über Öl & Pfeffer, 64 characters or somewhat more  "
    assert len(long) >= 64
    assert change(site.signed_in("alice"), new=long).status_code == 303
    assert site.browser().sign_in("alice", long).status_code == 303
    assert site.browser().sign_in("alice", long[:-1]).status_code == 422
    assert site.browser().sign_in("alice", long.strip()).status_code == 422


def test_the_change_is_recorded_with_what_it_ended(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_LIMIT=2)
    site.signed_in("alice")
    change(site.signed_in("alice"))
    verbs = [event.verb for event in site.events()][-2:]
    assert verbs == ["user.password_changed", "session.ended"]
    assert all(NEW not in str(tuple(event)) for event in site.events())


def test_without_its_event_the_old_password_holds(any_site: Site) -> None:
    own = any_site.signed_in("alice")
    token = own.token("/account/password")
    (before,) = any_site.live("alice")
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    values = {"current_password": PASSWORD, "password": NEW, "repeat": NEW, "csrf_token": token}
    with pytest.raises(Exception, match="audit_events"):
        own.client.post("/account/password", data=values)
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE elsewhere RENAME TO audit_events"))
    assert any_site.live("alice")[0].handle == before.handle
    assert own.is_signed_in()
    assert any_site.browser().sign_in("alice", PASSWORD).status_code == 303
