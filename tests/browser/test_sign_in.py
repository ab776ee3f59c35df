"""Signing in at a browser, and being told why one was signed out."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import People
from tests.browser.serving import Served
from tests.site import CHROME, FIREFOX


def test_the_first_of_two_browsers_is_told_at_its_next_click(
    people: People, served: Served
) -> None:
    first = people.signed_in("alice", FIREFOX)
    second = people.signed_in("alice", CHROME)

    first.click("link", "All my sessions")

    reason = first.page.get_by_role("status")
    said = re.compile(r"You signed in from Chrome 149 on Windows at \d\d:\d\d UTC\.")
    expect(reason).to_contain_text(said)
    expect(first.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "session" not in first.cookies
    second.click("link", "All my sessions")
    expect(second.page.get_by_role("heading", name="My sessions")).to_be_visible()
    assert len(served.site.live("alice")) == 1


def test_the_reason_is_told_once(people: People) -> None:
    first = people.signed_in("alice", FIREFOX)
    people.signed_in("alice", CHROME)
    first.open("/account/sessions")
    expect(first.page.get_by_role("status")).to_contain_text("You signed in from")

    first.page.reload()

    expect(first.page.get_by_role("status")).to_have_count(0)


def test_a_form_sent_after_the_end_is_answered_with_the_reason(people: People) -> None:
    first = people.signed_in("alice", FIREFOX)
    people.signed_in("alice", CHROME)

    first.page.get_by_label("Note").fill("written too late")
    first.click("button", "Save the note")

    assert "You signed in from Chrome 149 on Windows" in first.text
    assert "What you just sent was not carried out." in first.text
    assert "session" not in first.cookies


def test_a_wrong_password_is_said_and_nothing_of_the_name_is_lost(people: People) -> None:
    alice = people.at_browser("alice")
    alice.open("/login")
    alice.page.get_by_label("User name").fill("alice")
    alice.page.get_by_label("Password").fill("not this one")
    alice.click("button", "Sign in")

    expect(alice.page.get_by_role("alert")).to_have_text("The user name or the password is wrong.")
    expect(alice.page.get_by_label("User name")).to_have_value("alice")
    expect(alice.page.get_by_label("Password")).to_be_focused()


@pytest.mark.admin
def test_signing_in_leads_to_the_page_that_was_asked_for(people: People) -> None:
    ops = people.at_browser("ops").sign_in("/admin/sessions?store=sql")

    assert ops.page.url.endswith("/admin/sessions?store=sql")
