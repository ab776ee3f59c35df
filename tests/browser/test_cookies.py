"""Cookies in a real browser: set, sent, gone; and what the back button shows after sign-out."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.people import People, Person
from tests.browser.serving import Served


def set_cookies(person: Person) -> list[str]:
    """Collect every Set-Cookie header that this browser receives from now on."""
    seen: list[str] = []

    def collect(response: Any) -> None:
        headers = response.headers_array()
        seen.extend(h["value"] for h in headers if h["name"].lower() == "set-cookie")

    person.page.on("response", collect)
    return seen


def test_sign_out_takes_the_cookie_out_of_the_browser(people: People) -> None:
    alice = people.signed_in("alice")
    assert alice.cookies["session"]["httpOnly"] is True
    assert alice.cookies["session"]["sameSite"] == "Lax"

    alice.sign_out()

    assert "session" not in alice.cookies


@pytest.mark.parametrize("name", ["alice", "ops"])
def test_the_back_button_after_sign_out_shows_no_signed_in_page(people: People, name: str) -> None:
    person = people.signed_in(name)
    person.open("/account/sessions")
    person.sign_out()

    for _ in range(3):
        person.page.go_back(wait_until="commit")
        expect(person.page.locator("a.brand")).to_be_visible()
        expect(person.page.get_by_role("button", name="Sign out")).to_have_count(0)


@pytest.mark.admin
def test_the_back_button_after_the_reason_shows_no_signed_in_page(
    people: People, served: Served
) -> None:
    alice = people.signed_in("alice")
    alice.open("/account/password")
    served.site.signed_in("ops").revoke(served.site.live("alice")[0].reference)
    alice.open("/account/sessions")
    expect(alice.page.get_by_text("An administrator ended this session")).to_be_visible()

    for _ in range(2):
        alice.page.go_back(wait_until="commit")
        expect(alice.page.locator("a.brand")).to_be_visible()
        expect(alice.page.get_by_role("button", name="Sign out")).to_have_count(0)


def test_in_production_the_session_cookie_is_bound_to_this_host(people_over_tls: People) -> None:
    alice = people_over_tls.at_browser("alice")
    seen = set_cookies(alice)
    alice.sign_in()

    (header,) = [line for line in seen if line.startswith("__Host-session=")]
    attributes = {part.strip() for part in header.split(";")[1:]}
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= attributes
    assert not any(part.startswith("Domain") for part in attributes)
    cookie = alice.cookies["__Host-session"]
    assert (cookie["secure"], cookie["httpOnly"], cookie["path"]) == (True, True, "/")
    assert alice.page.evaluate("document.cookie") == ""

    # What a host beside this one would plant: for the whole domain, or with a longer path, which is sent first.
    for name in ("plain", "__Host-session"):
        for where in ("Path=/; Domain=127.0.0.1", "Path=/account"):
            line = f"{name}=evil; Secure; {where}"
            alice.page.evaluate("line => { document.cookie = line }", line)
    with alice.page.expect_request("**/account/sessions") as asked:
        alice.open("/account/sessions")
    sent = asked.value.all_headers()["cookie"].split("; ")
    assert (sent[0], sent.count("plain=evil")) == ("plain=evil", 2)
    ours = [each for each in sent if each.startswith("__Host-session=")]
    assert ours == [f"__Host-session={cookie['value']}"]


def test_in_production_sign_out_takes_the_cookie_out_of_the_browser(
    people_over_tls: People,
) -> None:
    alice = people_over_tls.signed_in("alice")
    seen = set_cookies(alice)

    alice.sign_out()

    assert "__Host-session" not in alice.cookies
    (header,) = [line for line in seen if line.startswith("__Host-session=")]
    attributes = {part.strip() for part in header.split(";")[1:]}
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= attributes


def test_in_production_the_reason_takes_the_cookie_along_once_it_was_shown(
    people_over_tls: People,
) -> None:
    first = people_over_tls.signed_in("alice")
    people_over_tls.signed_in("alice")

    first.open("/account/sessions")

    expect(first.page.get_by_text("You signed in from")).to_be_visible()
    assert "__Host-session" not in first.cookies
    first.page.reload()
    expect(first.page.get_by_text("You signed in from")).to_have_count(0)


@pytest.mark.admin
def test_in_production_staff_revoke_over_tls(people_over_tls: People, tls_web: Served) -> None:
    alice = people_over_tls.signed_in("alice")
    ops = people_over_tls.signed_in("ops")
    expect(ops.page.get_by_text("production", exact=True)).to_be_visible()
    ops.open(f"/admin/sessions/{tls_web.site.live('alice')[0].reference}")
    ops.click("button", "Revoke this session…")
    ops.page.get_by_label("Reason").select_option("incident")
    ops.click("button", "Revoke 1 session")
    expect(ops.page.get_by_text("1 of 1 gone.")).to_be_visible()

    alice.page.reload()

    expect(alice.page.get_by_text("An administrator ended this session")).to_be_visible()
    assert "__Host-session" not in alice.cookies
