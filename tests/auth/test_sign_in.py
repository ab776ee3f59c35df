"""Signing in and out: a session of one's own, one at a time, and the reason for the one it replaced."""

import json
import re
from collections.abc import Callable

import pytest
from sqlalchemy import update

from app.people.models import User
from tests.site import CHROME, PASSWORD, Site, clock_moved


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


@pytest.mark.admin
def test_a_revoked_person_is_out_and_told_why(any_site: Site) -> None:
    bob, ada = any_site.signed_in("bob"), any_site.signed_in("ada")
    (row,) = any_site.live("bob")
    receipt = ada.revoke(row.reference, "lost_device", note="phone in the tram", tell_user="y")
    assert "1 of 1 gone" in receipt.text
    assert any_site.payload(row) is None
    page = bob.get("/account/sessions", follow_redirects=True)
    assert "An administrator ended this session" in page.text
    assert "phone in the tram" in page.text


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", "wrong"), ("nobody", PASSWORD), ("", PASSWORD), ("'--", "x"), ("\ufffd", "x")],
)
def test_a_refused_sign_in_sets_no_cookie_and_writes_no_session(
    any_site: Site, name: str, password: str
) -> None:
    browser = any_site.browser()
    response = browser.sign_in(name, password)
    assert response.status_code == 422
    assert "Set-Cookie" not in response.headers
    assert any_site.rows() == []


def test_unknown_name_wrong_password_and_disabled_user_look_the_same(site: Site) -> None:
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).where(User.name == "bob").values(active=False))
    pages = []
    for name, password in (("nobody", PASSWORD), ("alice", "wrong"), ("bob", PASSWORD)):
        response = site.browser().sign_in(name, password)
        assert response.status_code == 422
        text = re.sub(r'value="[^"]{20,}"', "", response.text).replace(name, "NAME")
        pages.append(re.sub(r"[0-9a-f-]{36}", "", text))
    assert pages[0] == pages[1] == pages[2]


def test_a_failed_sign_in_is_recorded_without_the_password(site: Site) -> None:
    site.browser(ip="203.0.113.7").sign_in("alice", "hunter2-hunter2")
    (event,) = site.events("session.sign_in_failed")
    assert (event.target_name, event.result, event.ip) == ("alice", "failed", "203.0.113.7")
    assert event.actor_kind == "visitor"
    assert "hunter2" not in str(tuple(event))


def test_a_long_name_that_fails_is_recorded_cut(site: Site) -> None:
    assert site.browser().sign_in("x" * 5000, "wrong").status_code == 422
    (event,) = site.events("session.sign_in_failed")
    assert event.target_name == "x" * 64


def test_a_sign_in_is_recorded_with_address_client_and_reference(site: Site) -> None:
    site.signed_in("alice", CHROME, "192.0.2.10")
    (row,) = site.live("alice")
    (event,) = site.events("session.signed_in")
    assert (event.actor_name, event.actor_role, event.ip) == ("alice", "member", "192.0.2.10")
    assert event.reference == event.actor_reference == row.reference
    assert event.request_id
    assert (row.first_ip, row.ip) == ("192.0.2.10", "192.0.2.10")


def test_a_cookie_used_from_another_client_is_recorded_and_goes_on(site: Site) -> None:
    alice = site.signed_in("alice")
    moved = site.browser(CHROME, "198.51.100.9")
    moved.client.set_cookie(site.app.config["SESSION_COOKIE_NAME"], alice.cookie or "")
    with clock_moved(120):
        assert moved.is_signed_in()
    (event,) = site.events("session.client_changed")
    assert event.target_name == "alice"
    (row,) = site.live("alice")
    assert (row.first_ip, row.ip) == ("127.0.0.1", "198.51.100.9")


def test_an_address_that_a_client_makes_up_is_not_believed(site: Site) -> None:
    browser = site.browser(ip="203.0.113.7")
    browser.client.environ_base["HTTP_X_FORWARDED_FOR"] = "10.0.0.1"
    browser.sign_in("alice")
    assert site.live("alice")[0].ip == "203.0.113.7"


def test_behind_a_trusted_proxy_its_word_is_taken(make_site: Callable[..., Site]) -> None:
    site = make_site(TRUSTED_PROXIES=1)
    browser = site.browser(ip="127.0.0.1")
    browser.client.environ_base["HTTP_X_FORWARDED_FOR"] = "6.6.6.6, 203.0.113.7"
    browser.sign_in("alice")
    assert site.live("alice")[0].ip == "203.0.113.7"


@pytest.mark.parametrize("header", ["", "x" * 5000, "\t<script>alert(1)</script>", "é\xff"])
def test_any_user_agent_may_sign_in(site: Site, header: str) -> None:
    browser = site.signed_in("alice", header)
    assert browser.is_signed_in()
    assert "<script>alert" not in browser.get("/account/sessions").text


def test_the_trail_says_why_a_sign_in_failed_and_the_page_does_not(site: Site) -> None:
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).where(User.name == "bob").values(active=False))
    tries = {"nobody": PASSWORD, "alice": "wrong", "bob": PASSWORD}
    assert {site.browser().sign_in(*one).status_code for one in tries.items()} == {422}
    failed = site.events("session.sign_in_failed")
    why = [json.loads(event.details)["why"] for event in failed]
    assert why == ["unknown name", "wrong password", "disabled"]
