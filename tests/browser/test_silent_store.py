"""A store that does not answer: members get a 503 page, staff go on and see its name."""

import pytest
from playwright.sync_api import expect

from tests.browser.people import People
from tests.browser.serving import Served
from tests.servers import wait_until

pytestmark = pytest.mark.admin


def test_a_member_gets_a_503_page_and_is_still_signed_in_afterwards(
    people: People, served: Served
) -> None:
    alice = people.signed_in("alice")
    alice.page.get_by_label("Note").fill("still here")
    alice.click("button", "Save the note")
    cookie = alice.cookies["session"]["value"]

    with served.valkey.frozen():
        response = alice.open("/")
        assert response.status == 503
        assert response.headers["retry-after"] == "5"
        expect(alice.page.get_by_role("heading", name="Redis does not answer")).to_be_visible()
        assert "Nobody was signed out by this." in alice.text
        assert alice.cookies["session"]["value"] == cookie

    wait_until(served.web.is_ready)
    alice.click("link", "Reload")
    expect(alice.page.get_by_label("Note")).to_have_value("still here")


def test_staff_go_on_and_the_list_names_the_silent_store(people: People, served: Served) -> None:
    served.site.signed_in("alice")
    ops = people.signed_in("ops")

    with served.valkey.frozen():
        ops.open("/admin/sessions")
        expect(ops.page.get_by_text("Redis did not answer.")).to_be_visible()
        expect(ops.page.locator("tbody tr")).to_have_count(2)
        ops.open("/admin/stores")
        expect(ops.page.get_by_text("Did not answer", exact=True)).to_be_visible()
        ops.open("/admin/")
        assert "Redis did not answer" in ops.text
        people.signed_in("vera").open("/admin/sessions")

    wait_until(served.web.is_ready)
    ops.open("/admin/sessions")
    expect(ops.page.get_by_text("did not answer")).to_have_count(0)


def test_a_revocation_holds_while_the_store_is_silent_and_the_receipt_says_what_waits(
    people: People, served: Served
) -> None:
    alice = people.signed_in("alice")
    ops = people.signed_in("ops")

    with served.valkey.frozen():
        ops.open(f"/admin/sessions/{served.site.live('alice')[0].reference}")
        expect(ops.page.get_by_text("Redis did not answer.")).to_be_visible()
        ops.click("button", "Revoke this session…")
        ops.page.get_by_label("Reason").select_option("incident")
        ops.click("button", "Revoke 1 session")
        assert "The data of 1 session is not deleted yet." in ops.text
        assert "gone" not in ops.text.lower()
        alice.page.reload()
        expect(alice.page.get_by_text("An administrator ended this session")).to_be_visible()

    wait_until(served.web.is_ready)
    ops.click("button", "Retry the deletion now")
    expect(ops.page.get_by_text("Tried again. All data is deleted.")).to_be_visible()
    expect(ops.page.get_by_text("1 of 1 gone.")).to_be_visible()
