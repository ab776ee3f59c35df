"""Signing in and out: a session of one's own, one at a time, and the reason for the one it replaced."""

from tests.site import CHROME, Site


def test_signing_in_makes_one_live_row_and_one_payload(any_site: Site) -> None:
    any_site.signed_in("alice")
    (row,) = any_site.live("alice")
    assert row.store == "redis"
    assert any_site.payload(row) is not None
    assert [event.verb for event in any_site.events()] == ["session.signed_in"]


def test_a_second_sign_in_supersedes_the_first_and_says_so(any_site: Site) -> None:
    first = any_site.signed_in("alice")
    any_site.signed_in("alice", CHROME)
    assert len(any_site.live("alice")) == 1
    led = first.get("/account/sessions")
    assert led.status_code == 303
    assert "You signed in from Chrome 149 on Windows" in first.get(led.location).text


def test_a_replayed_cookie_is_nobodys_after_sign_out(any_site: Site) -> None:
    browser = any_site.signed_in("alice")
    old = browser.cookie
    assert browser.sign_out().status_code == 303
    assert browser.cookie is None
    browser.client.set_cookie(any_site.app.config["SESSION_COOKIE_NAME"], old)
    assert not browser.is_signed_in()


def test_staff_sign_in_to_sql(any_site: Site) -> None:
    any_site.signed_in("ada")
    assert [row.store for row in any_site.live("ada")] == ["sql"]


def test_a_revoked_person_is_out_and_told_why(any_site: Site) -> None:
    bob, ada = any_site.signed_in("bob"), any_site.signed_in("ada")
    (row,) = any_site.live("bob")
    receipt = ada.revoke(row.reference, "lost_device", note="phone in the tram", tell_user="y")
    assert "1 of 1 gone" in receipt.text
    assert any_site.payload(row) is None
    page = bob.get("/account/sessions", follow_redirects=True)
    assert "An administrator ended this session" in page.text
    assert "phone in the tram" in page.text
