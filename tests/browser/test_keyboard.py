"""The keyboard alone: sign in, skip, search, revoke; focus is always to be seen."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.columns import clock
from app.sessions.models import UserSession
from tests.browser.pages import furnish
from tests.browser.people import PHONE, People
from tests.browser.serving import Served
from tests.browser.test_unhappy_revocations import write
from tests.site import PASSWORD

pytestmark = pytest.mark.admin

# What has focus, and whether a person can see that it has: in the window, not covered, outlined.
_FOCUSED = """() => {
    const e = document.activeElement;
    const label = e.closest("label");
    const box = e.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const top = document.elementFromPoint(x, y);
    const style = getComputedStyle(e);
    return {
        what: `${e.tagName} ${e.name || ""} ${(e.textContent || e.ariaLabel || "").trim().slice(0, 40)}`,
        text: (e.ariaLabel || e.labels?.[0]?.textContent || e.textContent || "").trim(),
        body: e === document.body,
        inWindow: box.width > 4 && box.height > 4 && box.top >= 0 && box.bottom <= innerHeight + 1,
        covered: !(top && (e.contains(top) || top.contains(e) || label?.contains(top))),
        outlined: e.matches(":focus-visible") && style.outlineStyle !== "none"
            && parseFloat(style.outlineWidth) >= 2,
    };
}"""


def focused(page: Page) -> dict[str, Any]:
    return dict(page.evaluate(_FOCUSED))


def tab(page: Page) -> dict[str, Any]:
    """Go to the next stop and hold that its focus is to be seen."""
    page.keyboard.press("Tab")
    stop = focused(page)
    if not stop["body"]:
        assert stop["inWindow"], f"out of sight: {stop['what']}"
        assert not stop["covered"], f"covered: {stop['what']}"
        assert stop["outlined"], f"no outline: {stop['what']}"
    return stop


def tab_to(page: Page, text: str) -> None:
    """Go on until the stop of this text."""
    seen = []
    for _ in range(120):
        stop = tab(page)
        seen.append(stop["what"])
        if stop["text"] == text:
            return
    pytest.fail(f"no stop {text!r} among {seen}")


def test_a_session_is_revoked_with_the_keyboard_alone(people: People, served: Served) -> None:
    served.site.signed_in("alice")
    reference = served.site.live("alice")[0].reference
    ops = people.at_browser("ops")
    page, keys = ops.page, ops.page.keyboard
    ops.open("/login?next=/admin/sessions")
    expect(page.get_by_label("User name")).to_be_focused()
    keys.type("ops")
    tab(page)
    keys.type(PASSWORD)
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Sessions", exact=True)).to_be_visible()

    tab_to(page, reference)
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Session of alice")).to_be_visible()
    tab_to(page, "Revoke this session…")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Revoke 1 session?")).to_be_visible()
    tab_to(page, "Reason")
    keys.type("Security")
    expect(page.get_by_label("Reason")).to_have_value("incident")
    tab_to(page, "Note")
    keys.type("by keyboard")
    tab_to(page, "Tell the users why, in these words")
    keys.press("Space")
    expect(page.get_by_label("Tell the users why")).to_be_checked()
    tab_to(page, "Revoke 1 session")
    keys.press("Enter")

    expect(page.get_by_text("1 of 1 gone.")).to_be_visible()
    assert not served.site.live("alice")
    tab_to(page, "Sign out")
    keys.press("Enter")
    expect(page.get_by_text("You are signed out.")).to_be_visible()


def test_sessions_are_ticked_and_revoked_with_the_keyboard(people: People, served: Served) -> None:
    for name in ("alice", "bob"):
        served.site.signed_in(name)
    ops = people.signed_in("ops")
    ops.open("/admin/sessions")
    page = ops.page

    tab_to(page, "Tick all rows on this page")
    page.keyboard.press("Space")
    expect(page.get_by_text("2 ticked")).to_be_visible()
    tab_to(page, "Revoke the ticked sessions…")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Revoke 2 sessions?")).to_be_visible()


def test_the_count_and_the_password_again_need_no_mouse(people: People, served: Served) -> None:
    served.site.signed_in("vera")
    ops = people.signed_in("ops")
    page, keys = ops.page, ops.page.keyboard
    ops.open(f"/admin/users/{served.site.user_id('vera')}")
    tab_to(page, "Revoke all sessions…")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Revoke 1 session?")).to_be_visible()
    tab_to(page, "Reason")
    keys.type("Lost")
    tab_to(page, "Note")
    keys.type("by keyboard")
    tab_to(page, "Type 1 to confirm")
    keys.type("2")
    keys.press("Enter")
    count = page.get_by_label("Type 1 to confirm")
    expect(count).to_have_attribute("aria-invalid", "true")
    tab_to(page, "Type 1 to confirm")
    keys.press("Control+A")
    keys.type("1")
    write(served, UserSession, UserSession.id > 0, stepped_up_at=clock(-700))
    keys.press("Enter")

    expect(page.get_by_label("Password")).to_be_focused()
    keys.type(PASSWORD)
    keys.press("Enter")
    expect(page.get_by_text("What you typed before your password")).to_be_visible()
    tab_to(page, "Revoke 1 session")
    keys.press("Enter")

    expect(page.get_by_text("1 of 1 gone.")).to_be_visible()
    assert not served.site.live("vera")


@pytest.mark.parametrize("path", ["/admin/", "/account/sessions", "/nothing/here"])
def test_the_first_stop_skips_to_the_content(people: People, path: str) -> None:
    ops = people.signed_in("ops")
    ops.open(path)

    stop = tab(ops.page)
    assert stop["text"] == "Skip to the content"
    ops.page.keyboard.press("Enter")

    expect(ops.page.locator("main")).to_be_focused()
    tab(ops.page)
    assert ops.page.evaluate("() => document.activeElement.closest('nav.side, header')") is None


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["wide", "phone"])
def test_focus_is_seen_at_every_stop(people: People, served: Served, viewport: Any) -> None:
    values = furnish(served.site)
    ada = people.signed_in("ada", **({"viewport": viewport} if viewport else {}))

    for path in (
        "/admin/",
        "/admin/sessions",
        "/admin/sessions?ip=nowhere",
        f"/admin/sessions/{values['reference'][0]}",
        f"/admin/revocations/{values['revocation_id'][0]}",
        f"/admin/users/{values['user_id'][0]}",
        "/admin/users/new",
        "/admin/audit",
        "/admin/statistics",
        "/admin/stores",
        "/admin/stores/sql/drift",
        "/admin/policy",
        "/account/sessions",
        "/account/password",
    ):
        ada.open(path)
        stops = 0
        while not tab(ada.page)["body"]:
            stops += 1
            assert stops < 300, f"{path} holds the focus"
        assert stops >= 6, path


def test_a_slash_moves_to_the_search_box_but_not_while_typing(people: People) -> None:
    ops = people.signed_in("ops")
    search = ops.page.get_by_role("searchbox", name="Search sessions")

    ops.page.keyboard.press("/")
    expect(search).to_be_focused()
    ops.page.keyboard.type("10.0.0.0/8")

    expect(search).to_have_value("10.0.0.0/8")


def test_keys_pass_over_the_rows_of_tables_that_are_folded(people: People) -> None:
    ops = people.signed_in("ops")
    ops.open("/admin/statistics")
    ops.page.keyboard.press("j")
    expect(ops.page.locator("tbody tr:focus")).to_be_visible()


def test_keys_go_from_row_to_row_and_tick_until_they_are_switched_off(
    people: People, served: Served
) -> None:
    for name in ("alice", "bob"):
        served.site.signed_in(name)
    ops = people.signed_in("ops")
    ops.open("/admin/sessions")
    page, keys = ops.page, ops.page.keyboard
    rows, ticked = page.locator("tbody tr"), page.locator("tbody :checked")

    for key in "jjjjk":
        keys.press(key)
    expect(rows.nth(1)).to_be_focused()
    assert focused(page)["outlined"]
    keys.press("x")
    expect(page.get_by_text("1 ticked")).to_be_visible()
    expect(rows.nth(1).get_by_role("checkbox")).to_be_checked()
    keys.press("Control+x")
    expect(ticked).to_have_count(1)
    keys.press("/")
    keys.type("xjk?")
    expect(page.get_by_role("searchbox", name="Search sessions")).to_have_value("xjk?")
    expect(ticked).to_have_count(1)

    rows.nth(1).focus()
    keys.press("?")
    help_ = page.get_by_role("dialog", name="Keyboard")
    expect(help_).to_be_visible()
    help_.get_by_label("Use these keys in this browser").uncheck()
    keys.press("Escape")
    expect(help_).to_be_hidden()
    for _ in range(2):
        for key in "j?/":
            keys.press(key)
        expect(help_).to_be_hidden()
        expect(page.get_by_role("searchbox")).not_to_be_focused()
        page.reload()
    ops.click("button", "Keyboard")
    help_.get_by_label("Use these keys in this browser").check()
    help_.get_by_role("button", name="Close").click()
    keys.press("j")
    expect(rows.first).to_be_focused()


def test_after_a_change_the_heading_has_focus_and_the_message_is_said(people: People) -> None:
    alice = people.signed_in("alice")
    expect(alice.page.get_by_role("heading", level=1)).not_to_be_focused()

    alice.page.get_by_label("Note").fill("remember the milk")
    alice.click("button", "Save the note")

    expect(alice.page.get_by_role("heading", level=1)).to_be_focused()
    expect(alice.page.get_by_role("status")).to_have_text("The note is saved in this session.")


def test_a_bad_search_says_beside_the_box_what_is_allowed(people: People) -> None:
    ops = people.signed_in("ops")

    ops.open("/admin/sessions?ip=nowhere")

    box = ops.page.get_by_label("Address or network")
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(box).to_have_value("nowhere")
    expect(box).to_have_accessible_description(text_of_error(ops.page))


def text_of_error(page: Page) -> str:
    return page.locator("#f-ip-error").inner_text()
