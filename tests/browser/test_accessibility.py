"""axe finds no violation on any page, in light and dark, wide and on a phone (S42)."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.pages import furnish, pages_of
from tests.browser.people import PHONE, WIDE, People
from tests.browser.serving import Served
from tests.servers import wait_until

pytestmark = pytest.mark.admin

AXE = Axe()
_RUN = "axe.run({resultTypes: ['violations']}).then((results) => results.violations)"


def violations(page: Page) -> Iterator[str]:
    """Yield what axe finds on the page as it is shown, in four looks."""
    page.evaluate(AXE.axe_script)
    for scheme in ("light", "dark"):
        for viewport in (WIDE, PHONE):
            page.set_viewport_size(viewport)
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = page.evaluate(_RUN)
            yield from (f"{scheme} {viewport['width']}: {said(each)}" for each in found)


def said(violation: dict[str, Any]) -> str:
    nodes = violation["nodes"]
    return f"{violation['id']}: {nodes[0]['html']} ({len(nodes)}) {nodes[0]['failureSummary']}"


def check(page: Page, name: str) -> list[str]:
    return [f"{name}: {each}" for each in violations(page)]


def test_axe_notices_a_violation(people: People) -> None:
    """Show that a silent axe means a good page: it is run past the policy that blocks scripts."""
    visitor = people.at_browser("")
    visitor.open("/login")

    visitor.page.locator("label").first.evaluate("(label) => label.remove()")

    assert any("label" in each for each in violations(visitor.page))


@pytest.mark.parametrize("name", ["", "alice", "vera", "ada"])
def test_no_page_has_a_violation(people: People, served: Served, name: str) -> None:
    values = furnish(served.site)
    person = people.at_browser(name)
    if name:
        person.sign_in()

    found: list[str] = []
    seen: set[str] = set()
    for page in pages_of(served.site.app, values):
        person.open(page.path)
        # A page that leads elsewhere, and every 403, is looked at once.
        shown = (person.page.url.split("?")[0], person.page.title())
        if shown[1] in seen if "may not" in shown[1] else str(shown) in seen:
            continue
        seen |= {str(shown), shown[1]}
        found += check(person.page, page.path)

    assert not found, "\n".join(found)


def test_the_empty_site_has_no_violation(people: People) -> None:
    ada = people.signed_in("ada")

    found: list[str] = []
    ada.open("/admin/")
    ada.click("button", "Keyboard")
    expect(ada.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    found += check(ada.page, "the help on keys")
    for path in (
        "/admin/",
        "/admin/sessions?user=nobody",
        "/admin/sessions?state=ended",
        "/admin/sessions?ip=nowhere",
        "/admin/revocations",
        "/admin/users?name=nobody",
        "/admin/audit?who=nobody",
        "/nothing/here",
    ):
        ada.open(path)
        found += check(ada.page, path)

    assert not found, "\n".join(found)


def test_the_path_of_a_revocation_has_no_violation(people: People, served: Served) -> None:
    alice = people.signed_in("alice")
    served.site.signed_in("vera")
    ada = people.signed_in("ada")
    found: list[str] = []
    ada.open("/admin/sessions")
    ada.page.get_by_label("Tick all rows on this page").check()
    found += check(ada.page, "ticked")
    ada.page.set_viewport_size(WIDE)
    ada.click("button", "Revoke the ticked sessions…")
    found += check(ada.page, "review")
    ada.click("button", "Revoke 2 sessions")
    found += check(ada.page, "refused")
    ada.page.get_by_label("Reason").select_option("incident")
    ada.page.get_by_label("Type 2 to confirm").fill("2")
    ada.page.get_by_label("Tell the users why").check()
    ada.click("button", "Revoke 2 sessions")
    found += check(ada.page, "receipt")
    alice.page.reload()
    found += check(alice.page, "reason")
    alice.click("button", "Sign in")
    found += check(alice.page, "sign-in refused")

    assert not found, "\n".join(found)


def test_pages_without_their_store_have_no_violation(people: People, served: Served) -> None:
    alice = people.signed_in("alice")
    ops = people.signed_in("ops")

    found: list[str] = []
    with served.valkey.frozen():
        alice.open("/")
        found += check(alice.page, "503")
        for path in ("/admin/", "/admin/sessions", "/admin/stores"):
            ops.open(path)
            found += check(ops.page, f"{path} without Redis")

    wait_until(served.web.is_ready)
    assert not found, "\n".join(found)
