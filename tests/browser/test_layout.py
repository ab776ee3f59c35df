"""How pages are laid out: nothing scrolls sideways at 390 px, and the theme is the one chosen."""

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import update

from app.audit.models import AuditEvent
from app.people.models import User
from app.sessions.models import GUESSES, UserSession
from tests.browser.pages import furnish, pages_of
from tests.browser.people import PHONE, People
from tests.browser.serving import Served

pytestmark = pytest.mark.admin

LIGHT, DARK = "rgb(245, 246, 248)", "rgb(15, 19, 25)"

_WIDER = """() => [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 && e.checkVisibility())
    .map((e) => `${e.tagName}.${e.className}`).slice(0, 5)"""


def sideways(page: Page) -> list[str]:
    """Return what makes the page scroll sideways, if it does."""
    too_wide = page.evaluate(
        "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )
    return list(page.evaluate(_WIDER)) or ["?"] if too_wide else []


def expect_background(page: Page, colour: str) -> None:
    expect(page.locator("html")).to_have_css("background-color", colour)


@pytest.mark.parametrize("name", ["", "alice", "ada"])
def test_no_page_scrolls_sideways_on_a_phone(people: People, served: Served, name: str) -> None:
    values = furnish(served.site)
    person = people.at_browser(name, viewport=PHONE)
    if name:
        person.sign_in()

    found = {}
    for page in pages_of(served.site.app, values):
        person.open(page.path)
        found[page.path] = sideways(person.page)

    assert {path: wide for path, wide in found.items() if wide} == {}


def test_the_review_does_not_scroll_sideways_on_a_phone(people: People, served: Served) -> None:
    furnish(served.site)
    ada = people.signed_in("ada", viewport=PHONE)
    ada.open("/admin/sessions?role=member")
    ada.page.get_by_role("row").filter(has_text="alice").get_by_role("checkbox").check()
    ada.click("button", "Revoke the ticked sessions…")

    expect(ada.page.get_by_role("heading", name="Revoke 1 session?")).to_be_visible()
    assert sideways(ada.page) == []


def test_a_session_takes_two_lines_on_a_phone(people: People, served: Served) -> None:
    furnish(served.site)
    ada = people.signed_in("ada", viewport=PHONE)

    for path in ("/admin/sessions", "/admin/sessions?state=ended", "/account/sessions"):
        ada.open(path)
        heights = ada.page.locator("tbody tr").evaluate_all(
            "(rows) => rows.map((row) => row.getBoundingClientRect().height)"
        )
        assert heights, path
        assert max(heights) <= 64, f"{path}: {heights}"


def test_a_session_takes_one_line_at_a_desk(people: People, served: Served) -> None:
    """With the badge of a role, a flag or the reader's own session, and with a short IPv6 address."""
    furnish(served.site)
    ada = people.signed_in("ada", viewport={"width": 1280, "height": 800})

    ada.open("/admin/sessions")
    rows = ada.page.locator("tbody tr")

    heights = rows.evaluate_all("(rows) => rows.map((row) => row.offsetHeight)")
    assert len(heights) > 4
    assert max(heights) <= 42
    for part in ("2001:db8:4860::8888", "this session", "failed before"):
        expect(rows.filter(has_text=part)).not_to_have_count(0)


_CUT = """() => [...document.querySelectorAll("main table")].filter((table) => {
    const card = table.closest(".card").getBoundingClientRect();
    const cells = [...table.querySelectorAll("th, td")].filter((cell) => cell.checkVisibility());
    return cells.some((cell) => cell.getBoundingClientRect().right > card.right + 0.5);
}).length"""


def test_no_table_is_cut_between_a_phone_and_a_desk(people: People, served: Served) -> None:
    values = furnish(served.site)
    ada = people.signed_in("ada")
    ada.page.request.get(f"{served.url}/admin/audit?verb=session.revoked&format=csv")
    with served.site.system.ledger.transaction() as tx:
        longest = {"ip": "2001:db8:4860:1234:5678:9abc:def0:8888", "failed_before": GUESSES}
        tx.connection.execute(update(UserSession).values(**longest))

    cut = {}
    lists = ["/admin/sessions", "/admin/sessions?state=ended", "/admin/users", "/admin/audit"]
    lists += ["/admin/revocations", "/account/sessions", "/admin/"]
    lists += [f"/admin/users/{values['user_id'][0]}"]
    for path in lists:
        ada.open(path)
        for width in (390, 769, 800, 928, 1024, 1140, 1216, 1240, 1280, 1440):
            ada.page.set_viewport_size({"width": width, "height": 800})
            cut[path, width] = ada.page.evaluate(_CUT)

    assert {where: tables for where, tables in cut.items() if tables} == {}


def test_the_longest_name_cuts_no_table_and_widens_no_page(people: People, served: Served) -> None:
    furnish(served.site)
    long = "w" * 64
    alice = served.site.user_id("alice")
    (row, *_) = served.site.live("alice")
    with served.site.system.ledger.transaction() as tx:
        tx.connection.execute(update(User).where(User.id == alice).values(name=long))
        named = update(AuditEvent).values(target_name=long, target_user_id=alice)
        tx.connection.execute(named.where(AuditEvent.target_user_id.is_not(None)))
        tx.connection.execute(update(AuditEvent).values(actor_name=long))
    ada = people.signed_in("ada")

    bad = {}
    for path in ("/admin/sessions", "/admin/users", "/admin/audit", "/admin/revocations", "/admin/",
                 f"/admin/users/{alice}", f"/admin/sessions/{row.reference}"):  # fmt: skip
        assert ada.open(path).status == 200
        for width in (390, 800, 1024, 1440):
            ada.page.set_viewport_size({"width": width, "height": 800})
            bad[path, width] = (ada.page.evaluate(_CUT), sideways(ada.page))

    assert {where: found for where, found in bad.items() if found != (0, [])} == {}


def test_the_chosen_theme_survives_a_reload_and_the_next_page(people: People) -> None:
    alice = people.signed_in("alice", color_scheme="light")
    expect_background(alice.page, LIGHT)

    alice.click("button", "Dark")
    expect_background(alice.page, DARK)
    alice.page.reload()
    expect_background(alice.page, DARK)
    alice.open("/account/password")
    expect_background(alice.page, DARK)
    expect(alice.page.get_by_role("button", name="Dark", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )

    alice.click("button", "System")
    expect_background(alice.page, LIGHT)


def test_without_a_choice_the_theme_is_the_systems(people: People) -> None:
    alice = people.at_browser("alice", color_scheme="dark")

    alice.open("/login")

    expect_background(alice.page, DARK)
    alice.click("button", "Light")
    expect_background(alice.page, LIGHT)


def test_the_theme_survives_sign_out(people: People) -> None:
    alice = people.signed_in("alice", color_scheme="light")
    alice.click("button", "Dark")

    alice.sign_out()

    expect_background(alice.page, DARK)


def test_the_menu_of_a_phone_opens_and_closes(people: People) -> None:
    ops = people.signed_in("ops", viewport=PHONE)
    menu = ops.page.get_by_role("navigation", name="Main")
    expect(menu).to_be_hidden()

    ops.click("button", "Menu")
    expect(menu).to_be_visible()
    assert sideways(ops.page) == []
    ops.page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(ops.page.get_by_role("button", name="Menu")).to_be_focused()


def test_a_page_is_printed_over_the_whole_width_without_its_menus(people: People) -> None:
    ops = people.signed_in("ops")
    ops.open("/admin/revocations")
    ops.page.emulate_media(media="print")
    expect(ops.page.get_by_role("navigation", name="Main")).to_be_hidden()
    expect(ops.page.get_by_role("banner")).to_be_hidden()
    box = ops.page.locator("main").bounding_box()
    assert box is not None
    assert box["x"] == 0
