"""Markup in what people send is text on every page: user agents, notes, reasons, names (S30)."""

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from app.people.models import User
from tests.browser.pages import furnish, pages_of
from tests.browser.people import People
from tests.browser.serving import Served

pytestmark = pytest.mark.admin

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
NAME = "<svg/onload=alert(1)>bob"


def test_markup_is_shown_as_text_on_every_page(people: People, served: Served) -> None:
    values = furnish(served.site)
    mallory = people.signed_in("bob", f"{IMAGE}{SCRIPT}/7")
    ada = people.signed_in("ada", f"{SCRIPT}/1")
    reference = served.site.live("bob")[0].reference
    ada.open(f"/admin/sessions/{reference}")
    assert f"{IMAGE}{SCRIPT}/7" in ada.text
    ada.click("button", "Revoke this session…")
    ada.page.get_by_label("Reason").select_option("other")
    ada.page.get_by_label("Note").fill(f"{SCRIPT}{IMAGE}")
    ada.page.get_by_label("Tell the users why").check()
    ada.click("button", "Revoke 1 session")
    assert f"{SCRIPT}{IMAGE}" in ada.text
    with served.site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).where(User.name == "bob").values(name=NAME))

    mallory.page.reload()
    expect(mallory.page.get_by_role("status")).to_contain_text(f"{SCRIPT}{IMAGE}")
    expect(mallory.page.get_by_role("status")).to_contain_text(NAME)
    values["reference"].append(reference)
    values["user_id"].append(served.site.live("ada")[0].user_id)
    shown = ""
    for page in pages_of(served.site.app, values):
        ada.open(page.path)
        shown += ada.text
        assert ada.page.locator("script:not([src]), img, [onerror], [onload]").count() == 0

    assert NAME in shown
    assert SCRIPT in shown


@pytest.mark.parametrize("path", ["/admin/sessions?q=", "/admin/sessions?ip=", "/login?next="])
def test_markup_in_an_address_is_shown_as_text(people: People, path: str) -> None:
    ops = people.signed_in("ops")

    ops.open(path + "%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E")

    assert ops.page.locator("img").count() == 0


def test_markup_in_ones_own_note_is_shown_as_text(people: People) -> None:
    alice = people.signed_in("alice")
    alice.page.get_by_label("Note").fill(f"</textarea>{SCRIPT}")

    alice.click("button", "Save the note")

    expect(alice.page.get_by_label("Note")).to_have_value(f"</textarea>{SCRIPT}")
