"""Every page works without JavaScript: sign in, revoke, be told, sign out."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import People
from tests.browser.serving import Served

pytestmark = pytest.mark.admin


def test_a_session_is_revoked_and_the_person_told_without_javascript(
    people: People, served: Served
) -> None:
    alice = people.signed_in("alice", java_script_enabled=False)
    ops = people.signed_in("ops", java_script_enabled=False)
    reference = served.site.live("alice")[0].reference

    ops.click("link", "Sessions")
    ops.click("link", reference)
    ops.click("button", "Revoke this session…")
    ops.page.get_by_label("Reason").select_option("incident")
    ops.page.get_by_label("Note").fill("seen from two countries")
    ops.page.get_by_label("Tell the users why").check()
    ops.click("button", "Revoke 1 session")

    expect(ops.page.get_by_text("1 of 1 gone.")).to_be_visible()
    alice.click("link", "All my sessions")
    told = re.compile("An administrator ended this session .*seen from two countries", re.DOTALL)
    expect(alice.page.get_by_role("status")).to_contain_text(told)


def test_ticking_and_all_that_match_work_without_javascript(people: People, served: Served) -> None:
    for name in ("alice", "bob"):
        served.site.signed_in(name)
    ops = people.signed_in("ops", java_script_enabled=False)
    ops.open("/admin/sessions")
    expect(ops.page.get_by_label("Tick all rows on this page")).to_be_hidden()
    ops.box_of("alice").check()

    ops.click("button", "Revoke the ticked sessions…")
    expect(ops.page.get_by_role("heading", name="Revoke 1 session?")).to_be_visible()

    ops.open("/admin/sessions?role=member")
    ops.click("button", "Revoke all 2 that match…")
    expect(ops.page.get_by_role("heading", name="Revoke 2 sessions?")).to_be_visible()


def test_search_filters_theme_and_sign_out_work_without_javascript(
    people: People, served: Served
) -> None:
    served.site.signed_in("alice", ip="10.31.7.9")
    ops = people.signed_in("ops", java_script_enabled=False)

    ops.page.get_by_role("searchbox", name="Search sessions").fill("ali")
    ops.page.get_by_role("searchbox", name="Search sessions").press("Enter")
    expect(ops.page.locator("tbody tr")).to_have_count(1)

    ops.page.get_by_text("More filters").click()
    ops.page.get_by_label("Address or network").fill("10.31.0.0/16")
    ops.click("button", "Apply")
    expect(ops.page.locator("tbody tr")).to_have_count(1)
    assert "ip=10.31.0.0" in ops.page.url

    ops.click("button", "Dark")
    expect(ops.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert "ip=10.31.0.0" in ops.page.url, "the theme brings one back to where one was"

    ops.sign_out()
    expect(ops.page.get_by_text("You are signed out.")).to_be_visible()


def test_the_menu_opens_on_a_phone_without_javascript(people: People) -> None:
    ops = people.signed_in("ops", java_script_enabled=False, viewport={"width": 390, "height": 844})
    ops.open("/admin/sessions")
    expect(ops.page.get_by_role("navigation", name="Main")).to_be_hidden()

    ops.click("button", "Menu")
    ops.page.get_by_role("navigation", name="Main").get_by_role("link", name="Users").click()

    expect(ops.page.get_by_role("heading", name="Users")).to_be_visible()
