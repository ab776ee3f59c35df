"""Staff end sessions at a browser: list, session, review, confirmation, receipt."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import People, Person
from tests.browser.serving import Served
from tests.site import CHROME

pytestmark = pytest.mark.admin

NOTE = "Ticket 4711: laptop left on a train"


def review(staff: Person, reference: str) -> None:
    """Go from the list over the session's page to the review."""
    staff.open("/admin/sessions")
    staff.click("link", reference)
    staff.click("button", "Revoke this session…")
    expect(staff.page.get_by_role("heading", name="Revoke 1 session?")).to_be_visible()


def confirm(staff: Person, reason: str = "Lost or stolen device", *, tell: bool = False) -> None:
    """Fill in the review and confirm it."""
    page = staff.page
    page.get_by_label("Reason").select_option(label=reason)
    page.get_by_label("Note").fill(NOTE)
    page.get_by_label("Tell the users why").set_checked(tell)
    page.get_by_role("button", name=re.compile(r"^Revoke \d+ sessions?$")).click()


@pytest.mark.parametrize("tell", [False, True], ids=["silent", "told"])
def test_a_revoked_person_reads_the_note_only_if_staff_ticked_the_box(
    people: People, served: Served, tell: bool
) -> None:
    alice = people.signed_in("alice", CHROME)
    ops = people.signed_in("ops")
    reference = served.site.live("alice")[0].reference
    review(ops, reference)
    assert served.site.live("alice"), "a review ends nothing"

    confirm(ops, tell=tell)

    expect(ops.page.get_by_role("heading", name=re.compile(r"Revocation #\d+"))).to_be_visible()
    assert "1 of 1 gone. Redis 1. Read back at" in ops.text
    assert "0 present" in ops.text
    assert served.valkey.client().keys("rollcall:session:*") == []

    alice.click("link", "All my sessions")
    why = re.compile(r"An administrator ended this session at .* \(Lost or stolen device\)")
    expect(alice.page.get_by_role("status")).to_contain_text(why)
    assert (NOTE in alice.text) is tell
    assert "session" not in alice.cookies


def test_the_page_of_a_revoked_session_says_who_and_why(people: People, served: Served) -> None:
    people.signed_in("alice")
    ops = people.signed_in("ops")
    reference = served.site.live("alice")[0].reference
    review(ops, reference)
    confirm(ops)

    ops.open(f"/admin/sessions/{reference}")

    said = ops.text
    assert "Revoked" in said
    assert NOTE in said
    assert "by ops" in said
    expect(ops.page.get_by_role("button", name="Revoke")).to_have_count(0)


def test_a_review_without_a_reason_says_so_beside_the_field_and_ends_nothing(
    people: People, served: Served
) -> None:
    people.signed_in("alice")
    ops = people.signed_in("ops")
    review(ops, served.site.live("alice")[0].reference)

    ops.click("button", "Revoke 1 session")

    reason = ops.page.get_by_label("Reason")
    expect(reason).to_have_attribute("aria-invalid", "true")
    expect(reason).to_have_accessible_description("Choose a reason.")
    assert served.site.live("alice")


def test_ticked_sessions_are_counted_and_exactly_they_end(people: People, served: Served) -> None:
    for name in ("alice", "bob"):
        served.site.signed_in(name)
    served.site.signed_in("vera")
    ops = people.signed_in("ops")
    ops.open("/admin/sessions")
    for name in ("alice", "bob"):
        ops.box_of(name).check()
    expect(ops.page.get_by_text("2 ticked")).to_be_visible()

    ops.click("button", "Revoke the ticked sessions…")
    expect(ops.page.get_by_role("heading", name="Revoke 2 sessions?")).to_be_visible()
    confirm(ops)

    expect(ops.page.get_by_text("2 of 2 gone.")).to_be_visible()
    assert not served.site.live("alice")
    assert not served.site.live("bob")
    assert served.site.live("vera")


def test_the_box_in_the_heading_ticks_all_but_ones_own(people: People, served: Served) -> None:
    for name in ("alice", "bob", "vera"):
        served.site.signed_in(name)
    ops = people.signed_in("ops")
    ops.open("/admin/sessions")

    ops.page.get_by_label("Tick all rows on this page").check()

    expect(ops.page.get_by_text("3 ticked")).to_be_visible()
    own = ops.page.get_by_role("row").filter(has_text="this session")
    expect(own.get_by_role("checkbox")).to_have_count(0)


def test_all_sessions_of_a_member_end_from_their_page(people: People, served: Served) -> None:
    alice = people.signed_in("alice")
    ops = people.signed_in("ops")
    ops.open("/admin/sessions")
    ops.click("link", "alice")

    ops.click("button", "Revoke all sessions…")
    confirm(ops)

    expect(ops.page.get_by_text("1 of 1 gone.")).to_be_visible()
    alice.page.reload()
    expect(alice.page.get_by_role("status")).to_contain_text("An administrator ended this session")


def test_staff_among_the_targets_asks_for_the_count(people: People, served: Served) -> None:
    for _ in range(3):
        served.site.signed_in("vera")
    ops = people.signed_in("ops")
    ops.open(f"/admin/users/{served.site.user_id('vera')}")
    ops.click("button", "Revoke all sessions…")

    ops.page.get_by_label("Type 3 to confirm").fill("2")
    confirm(ops)
    count = ops.page.get_by_label("Type 3 to confirm")
    expect(count).to_have_attribute("aria-invalid", "true")
    expect(count).to_have_accessible_description(re.compile(r"list.*3|3.*list"))
    assert len(served.site.live("vera")) == 3

    ops.page.get_by_label("Type 3 to confirm").fill("3")
    confirm(ops)
    expect(ops.page.get_by_text("3 of 3 gone.")).to_be_visible()
    assert not served.site.live("vera")


def test_ones_own_session_is_held_back_and_the_page_says_so(people: People, served: Served) -> None:
    other = people.signed_in("ada", CHROME)
    ada = people.signed_in("ada")
    ada.open(f"/admin/users/{served.site.user_id('ada')}")

    ada.click("button", "Revoke all sessions…")
    assert "Your own session is left out." in ada.text
    ada.page.get_by_label("Type 1 to confirm").fill("1")
    confirm(ada)

    expect(ada.page.get_by_text("1 of 1 gone.")).to_be_visible()
    assert "the own session of ada" in ada.text
    assert len(served.site.live("ada")) == 1
    other.page.reload()
    expect(other.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_page_of_ones_own_session_offers_no_revoking(people: People, served: Served) -> None:
    ops = people.signed_in("ops")

    ops.open(f"/admin/sessions/{served.site.live('ops')[0].reference}")

    assert "This is the session you are using." in ops.text
    expect(ops.page.get_by_role("button", name="Revoke")).to_have_count(0)


def test_a_viewer_sees_sessions_and_no_way_to_end_them(people: People, served: Served) -> None:
    served.site.signed_in("alice")
    vera = people.signed_in("vera")

    for path in ("/admin/sessions", f"/admin/sessions/{served.site.live('alice')[0].reference}"):
        vera.open(path)
        assert "alice" in vera.text
        expect(vera.page.get_by_role("button", name="Revoke")).to_have_count(0)
        expect(vera.page.locator("main").get_by_role("checkbox")).to_have_count(0)
