"""A revocation that does not go straight on: the password in between, a stale list, a worker to wait for."""

from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from app.columns import clock
from app.sessions import revocation
from app.sessions.models import Revocation, UserSession
from tests.browser.people import People, Person
from tests.browser.serving import Served
from tests.browser.test_revoke import NOTE
from tests.servers import wait_until
from tests.sessions.test_revocation import start
from tests.site import PASSWORD

pytestmark = pytest.mark.admin


def write(served: Served, model: Any, *where: Any, **values: Any) -> None:
    """Change rows behind the site's back: time passes, a process dies."""
    with served.site.system.ledger.transaction() as tx:
        tx.connection.execute(update(model).where(*where).values(**values))


def review(staff: Person, served: Served, user: str) -> None:
    staff.open(f"/admin/users/{served.site.user_id(user)}")
    staff.click("button", "Revoke all sessions…")


def fill_in(staff: Person) -> None:
    page = staff.page
    page.get_by_label("Reason").select_option("lost_device")
    page.get_by_label("Note").fill(NOTE)
    page.get_by_label("Tell the users why").check()
    page.get_by_label("Type 1 to confirm").fill("1")


def test_a_step_up_in_the_middle_of_a_revocation_loses_nothing(
    people: People, served: Served
) -> None:
    start(served.site, "vera")
    ops = people.signed_in("ops")
    page = ops.page
    review(ops, served, "vera")
    fill_in(ops)
    write(served, UserSession, UserSession.id > 0, stepped_up_at=clock(-700))

    ops.click("button", "Revoke 1 session")
    expect(page.get_by_role("heading", name="Enter your password again")).to_be_visible()
    assert "4711" not in page.url
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")

    expect(page.get_by_text("What you typed before your password")).to_be_visible()
    expect(page.get_by_label("Reason")).to_have_value("lost_device")
    expect(page.get_by_label("Note")).to_have_value(NOTE)
    expect(page.get_by_label("Tell the users why")).to_be_checked()
    expect(page.get_by_label("Type 1 to confirm")).to_have_value("1")
    assert served.site.live("vera"), "asking for the password ends nobody"
    ops.click("button", "Revoke 1 session")
    expect(page.get_by_text("1 of 1 gone.")).to_be_visible()
    assert NOTE in ops.text


def test_a_stale_review_ends_nothing_and_one_whose_sessions_have_gone_says_so(
    people: People, served: Served
) -> None:
    start(served.site, "vera")
    ops = people.signed_in("ops")
    review(ops, served, "vera")
    fill_in(ops)
    write(served, Revocation, expires_at=clock(-1))

    ops.click("button", "Revoke 1 session")

    page = ops.page
    expect(page.get_by_text("This list is no longer valid.")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value(NOTE)
    expect(page.get_by_role("button", name="Revoke 1 session")).to_be_disabled()
    assert served.site.live("vera")

    review(ops, served, "vera")
    fill_in(ops)
    served.site.signed_in("ada").revoke(served.site.live("vera")[0].reference, count="1")
    page.reload()
    expect(page.get_by_text("1 session in this list has ended since.")).to_be_visible()
    fill_in(ops)
    ops.click("button", "Revoke 1 session")
    expect(page.get_by_text("Nothing to end: 1 session had ended already.")).to_be_visible()


def test_two_operators_at_once_end_each_session_once_and_both_receipts_are_right(
    people: People, served: Served
) -> None:
    start(served.site, "alice", "bob", "vera")
    ops, ada = people.signed_in("ops"), people.signed_in("ada")
    for staff, users in ((ops, ("alice", "bob")), (ada, ("bob", "vera"))):
        staff.open("/admin/sessions")
        for user in users:
            staff.box_of(user).check()
        staff.click("button", "Revoke the ticked sessions…")
        staff.page.get_by_label("Reason").select_option("incident")
        staff.page.get_by_label("Note").fill(f"by {staff.name}")
    ada.page.get_by_label("Type 2 to confirm").fill("2")

    for staff in (ops, ada):
        # A click that does not wait for its answer: both requests are under way at once.
        staff.page.get_by_role("button", name="Revoke 2 sessions").evaluate(
            "button => setTimeout(() => button.click())"
        )
    for staff in (ops, ada):
        expect(staff.page.get_by_text("Nobody in this list is signed in any more.")).to_be_visible()

    receipts = [
        ops.page.request.get(f"{staff.page.url}?format=json").json() for staff in (ops, ada)
    ]
    told = sorted((receipt["ended"], receipt["already_ended"]) for receipt in receipts)
    assert told == [(1, 1), (2, 0)], "the session of both lists is ended in one receipt"
    ended = [event.reference for event in served.site.events("session.revoked")]
    assert len(ended) == len(set(ended)) == 3
    assert not any(served.site.live(user) for user in ("alice", "bob", "vera"))


def test_a_review_whose_owner_was_revoked_meanwhile_ends_nothing_and_tells_why(
    people: People, served: Served
) -> None:
    start(served.site, "vera")
    ops = people.signed_in("ops")
    review(ops, served, "vera")
    fill_in(ops)
    served.site.signed_in("ada").revoke(served.site.live("ops")[0].reference, count="1")

    ops.click("button", "Revoke 1 session")

    expect(ops.page.get_by_text("An administrator ended this session")).to_be_visible()
    assert "session" not in ops.cookies
    assert len(served.site.live("vera")) == 1


def test_the_receipt_follows_the_worker_without_moving_and_survives_a_reload(
    people: People, served: Served
) -> None:
    start(served.site, "alice", "bob")
    ops = people.signed_in("ops")
    page = ops.page
    ops.open("/admin/sessions?role=member")
    ops.click("button", "Revoke all 2 that match…")
    page.get_by_label("Reason").select_option("incident")
    page.get_by_label("Type 2 to confirm").fill("2")
    deleted = page.get_by_role("progressbar", name="Data deleted")
    with served.valkey.frozen():
        ops.click("button", "Revoke 2 sessions")
        for _ in range(2):
            expect(deleted).to_have_js_property("value", 0)
            expect(page.get_by_text("2 / 2 Ended")).to_be_visible()
            expect(page.get_by_text("The data of 2 sessions is not deleted yet.")).to_be_visible()
            page.reload()
        with page.expect_response("**?format=json"):
            """One look that finds nothing done."""
    wait_until(served.web.is_ready)
    with served.site.app.app_context():
        wait_until(lambda: revocation.resume(served.site.system) == 0)

    expect(page.get_by_text("All of it is done.")).to_be_visible()
    expect(deleted).to_have_js_property("value", 2)
    expect(page.get_by_text("2 of 2 gone.")).to_be_visible()
    expect(page.get_by_text("is not deleted yet")).to_have_count(0)
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    expect(page.get_by_role("row", name="Redis 2 2 0")).to_be_visible()
    ops.click("link", "Show the receipt")
    expect(page.get_by_text("2 of 2 gone.")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_count(0)


def test_of_whom_a_new_password_is_required_finds_nothing_else_open(
    people: People, served: Served
) -> None:
    alice = people.signed_in("alice")
    ada = people.signed_in("ada")
    review(ada, served, "alice")
    ada.page.get_by_label("Reason").select_option("incident")
    ada.page.get_by_label("Require a new password").check()
    ada.click("button", "Revoke 1 session")
    expect(ada.page.get_by_text("required of these users")).to_be_visible()

    alice.sign_in()
    page = alice.page
    expect(page.get_by_text("An administrator requires a new password of you.")).to_be_visible()
    alice.open("/account/sessions")
    assert page.url.endswith("/account/password")
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("a very uncommon sentence")
    page.get_by_label("New password again").fill("a very uncommon sentence")
    alice.click("button", "Change the password")

    expect(page.get_by_text("Your password is changed.")).to_be_visible()
    alice.click("link", "Home")
    expect(page.get_by_label("Note")).to_be_visible()
