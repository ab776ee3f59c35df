"""An open list of sessions: it says that it has changed, and moves no row by itself."""

from playwright.sync_api import Page, expect

from app.audit.trail import Actor
from app.sessions.revocation import revoke
from tests.browser.people import People, Person
from tests.browser.serving import Served
from tests.servers import wait_until
from tests.sessions.test_revocation import commanding

CHANGES = "**/admin/sessions/changes?*"
SHOW = """delete document.hidden; document.dispatchEvent(new Event("visibilitychange"))"""
HIDE = """Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"))"""


def at_the_list(people: People, name: str) -> Person:
    """Sign somebody in whose browser's clock the test moves, and open the list."""
    person = people.at_browser(name)
    person.page.clock.install()
    person.sign_in("/login?next=/admin/sessions")
    return person


def next_look(page: Page) -> None:
    with page.expect_response(CHANGES):
        page.clock.fast_forward("00:16")


def rows(page: Page) -> list[str]:
    return page.locator("tbody tr").all_inner_texts()


def test_a_change_is_said_and_no_row_moves_until_the_reload(people: People, served: Served) -> None:
    served.site.signed_in("alice")
    ops = at_the_list(people, "ops")
    page = ops.page
    box = ops.box_of("alice")
    box.check()
    before, place = rows(page), page.locator("tbody").bounding_box()
    next_look(page)
    expect(page.get_by_text("As of")).to_be_visible()

    served.site.signed_in("bob")
    next_look(page)
    region = page.get_by_role("status").filter(has=page.get_by_text("Changed since"))
    expect(region).to_be_visible()
    assert rows(page) == before
    assert page.locator("tbody").bounding_box() == place
    expect(box).to_be_checked()

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(HIDE)
    page.clock.fast_forward("02:00")
    assert not [url for url in asked if "/changes" in url], "it asks while the tab is hidden"
    with page.expect_response(CHANGES):
        page.evaluate(SHOW)

    ops.click("link", "Reload")
    expect(ops.box_of("bob")).to_be_visible()
    expect(page.get_by_text("Changed since")).to_be_hidden()


def test_a_list_whose_servers_fall_silent_says_so_and_one_whose_session_ends_leads_away(
    people: People, served: Served
) -> None:
    served.site.signed_in("alice")
    ops = at_the_list(people, "ops")
    page = ops.page
    with served.valkey.frozen():
        next_look(page)
        expect(page.get_by_text("Not updating.")).to_be_hidden()
        page.reload()
        expect(page.get_by_text("Redis did not answer.")).to_be_visible()
        expect(page.locator("tbody tr")).to_have_count(2)
    wait_until(served.web.is_ready)

    ops.context.set_offline(True)
    for _ in range(2):
        expect(page.get_by_text("Not updating.")).to_be_hidden()
        with page.expect_event("requestfailed"):
            page.clock.fast_forward("00:16")
    expect(page.get_by_text("Not updating.")).to_be_visible()
    ops.context.set_offline(False)
    next_look(page)
    expect(page.get_by_text("Not updating.")).to_be_hidden()

    with commanding(served.site):
        revoke([served.site.live("ops")[0].reference], actor=Actor.cli("root"), reason="policy")
    page.clock.fast_forward("00:16")
    page.wait_for_url("**/login?next=/admin/sessions")
    expect(page.locator("main")).to_contain_text("An administrator ended this session")
    people.console.forget()
