"""The idle warning, with the browser's clock and the ledger moved and the keyboard alone (S40)."""

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import update

from app.sessions.models import UserSession
from tests.browser.people import PHONE, People, Person
from tests.browser.serving import Served
from tests.browser.test_accessibility import check


def dialog(page: Page) -> object:
    return page.get_by_role("dialog", name="Are you still there?")


def leave_alone(served: Served, name: str, seconds: int, *, absolute: bool = False) -> None:
    """Let a session have so many seconds left, as if nobody had used it."""
    at = served.site.system.ledger.now()
    values = {"last_seen_at": at - timedelta(minutes=20)}
    values["idle_expires_at"] = at + timedelta(seconds=seconds)
    if absolute:
        values["absolute_expires_at"] = values["idle_expires_at"]
    (row,) = served.site.live(name)
    with served.site.system.ledger.transaction() as tx:
        tx.connection.execute(update(UserSession).where(UserSession.id == row.id).values(**values))


def at_home(people: People, name: str = "alice", **options: object) -> Person:
    """Sign somebody in whose browser's clock the test moves."""
    person = people.at_browser(name, **options)
    person.page.clock.install()
    person.sign_in()
    return person


# A tab tells the others what the server answered in the moment in which it takes it in itself.
LISTEN = """() => {
    const tabs = new BroadcastChannel("rollcall-deadline");
    window.told = new Promise((resolve) => tabs.addEventListener("message", resolve, { once: true }));
}"""


# A browser tells of a closed dialog in a moment of its own; the next second may come before it.
CLOSED_IN_SILENCE = (
    "() => addEventListener('close', (event) => event.stopImmediatePropagation(), true)"
)


def a_while_later(page: Page) -> None:
    """Let the browser's clock go on until the tab looks again, and the tab take in the answer."""
    page.evaluate(LISTEN)
    page.clock.fast_forward("05:01")
    page.evaluate("() => window.told.then(() => {})")


def test_who_is_warned_stays_signed_in_by_one_key_and_loses_nothing(
    people: People, served: Served
) -> None:
    alice = at_home(people)
    note = alice.page.get_by_label("Note")
    note.fill("half a thought")
    a_while_later(alice.page)
    expect(dialog(alice.page)).to_have_count(0)

    leave_alone(served, "alice", 100)
    a_while_later(alice.page)
    expect(dialog(alice.page)).to_be_visible()
    expect(dialog(alice.page)).to_contain_text("1:3")
    expect(alice.page.get_by_role("button", name="Stay signed in")).to_be_focused()
    before = served.site.live("alice")[0].idle_expires_at
    alice.page.keyboard.press("Enter")
    expect(dialog(alice.page)).to_have_count(0)
    assert served.site.live("alice")[0].idle_expires_at > before + timedelta(minutes=20)
    expect(note).to_have_value("half a thought")
    expect(note).to_be_focused()

    leave_alone(served, "alice", 100)
    a_while_later(alice.page)
    expect(dialog(alice.page)).to_be_visible()


def test_escape_is_a_sign_of_life(people: People, served: Served) -> None:
    alice = at_home(people)
    leave_alone(served, "alice", 60)
    a_while_later(alice.page)
    expect(dialog(alice.page)).to_be_visible()
    alice.page.keyboard.press("Escape")
    expect(dialog(alice.page)).to_have_count(0)
    left = served.site.live("alice")[0].idle_expires_at - served.site.system.ledger.now()
    assert left > timedelta(minutes=10)


def test_two_tabs_have_one_countdown(people: People, served: Served) -> None:
    alice = at_home(people)
    other = alice.context.new_page()
    other.clock.install()
    other.goto(f"{served.url}/account/sessions")
    leave_alone(served, "alice", 90)
    # The clock is the browser's, so both tabs look: one that still waits gives up at a second move.
    alice.page.clock.fast_forward("05:01")
    for page in (alice.page, other):
        expect(dialog(page)).to_be_visible()
    other.get_by_role("button", name="Stay signed in").click()
    expect(dialog(other)).to_have_count(0)
    expect(dialog(alice.page)).to_have_count(0)


def test_at_zero_the_page_is_replaced_by_the_reason(people: People, served: Served) -> None:
    alice = at_home(people)
    alice.open("/account/sessions")
    leave_alone(served, "alice", 20)
    a_while_later(alice.page)
    expect(dialog(alice.page)).to_be_visible()
    leave_alone(served, "alice", 0)
    alice.page.clock.fast_forward("00:21")
    alice.page.wait_for_url("**/login?next=/account/sessions")
    expect(alice.page.locator("main")).to_contain_text("because nothing was done for a while")
    people.console.forget()


def test_the_longest_time_is_announced_and_cannot_be_extended(
    people: People, served: Served
) -> None:
    alice = at_home(people)
    leave_alone(served, "alice", 90, absolute=True)
    a_while_later(alice.page)
    expect(dialog(alice.page)).to_contain_text("Save your work and sign in again")
    expect(alice.page.get_by_role("button", name="Stay signed in")).to_be_hidden()
    alice.page.evaluate(CLOSED_IN_SILENCE)
    alice.page.get_by_role("dialog").get_by_role("button", name="Close").click()
    alice.page.clock.fast_forward("00:05")
    expect(dialog(alice.page)).to_have_count(0)


@pytest.mark.parametrize("size", ["wide", "phone"])
def test_the_warning_has_no_violation_and_fits(people: People, served: Served, size: str) -> None:
    options = {"viewport": PHONE} if size == "phone" else {}
    alice = at_home(people, **options)
    leave_alone(served, "alice", 100)
    a_while_later(alice.page)
    expect(dialog(alice.page)).to_be_visible()
    assert not check(alice.page, "the warning")


def test_a_server_that_never_answers_does_not_stop_the_countdown(people: People) -> None:
    alice = at_home(people)
    alice.page.route("**/account/deadline", lambda _route: None)
    alice.page.clock.fast_forward("05:01")
    alice.page.clock.fast_forward("24:00")
    expect(dialog(alice.page)).to_be_visible()
