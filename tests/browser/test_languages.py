"""The switch of languages works for everybody, and pages hold together in each."""

import pytest
from playwright.sync_api import expect

from app.choices import LANGUAGES
from tests.browser.pages import furnish
from tests.browser.people import PHONE, WIDE, People
from tests.browser.serving import Served
from tests.browser.test_layout import sideways
from tests.site import PASSWORD

SMALL = {"width": 1024, "height": 768}
_CUT = """() => [...document.querySelectorAll(".card table")].filter((table) =>
    table.getBoundingClientRect().right > table.closest(".card").getBoundingClientRect().right + 1)
    .map((table) => table.innerText)"""

pytestmark = pytest.mark.admin


def test_a_visitor_and_then_staff_choose_a_language_without_javascript(people: People) -> None:
    ops = people.at_browser("ops", locale="zh-TW", java_script_enabled=False)
    page = ops.page
    ops.open("/login?next=/admin/sessions?role=member")
    expect(page.get_by_role("heading", name="登入")).to_be_visible()

    ops.click("button", LANGUAGES["zh-Hans"])
    page.get_by_label("用户名").fill("ops")
    page.get_by_label("密码").fill(PASSWORD)
    page.locator("main").get_by_role("button", name="登录", exact=True).click()
    expect(page.get_by_role("heading", name="会话", exact=True)).to_be_visible()

    ops.click("button", LANGUAGES["en"])
    expect(page.get_by_role("heading", name="Sessions", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="English")).to_have_attribute("aria-pressed", "true")
    assert "role=member" in page.url
    assert ops.cookies["language"]["httpOnly"]


def test_chinese_pages_keep_their_layout(people: People, served: Served) -> None:
    values = furnish(served.site)
    ada = people.signed_in("ada")
    ada.context.add_cookies([{"name": "language", "value": "zh-Hant", "url": served.url}])
    found = {}
    for path in (
        "/admin/",
        "/admin/sessions",
        f"/admin/sessions/{values['reference'][1]}",
        f"/admin/revocations/{values['revocation_id'][0]}",
        f"/admin/users/{values['user_id'][0]}",
        "/admin/audit",
        "/admin/statistics",
        "/admin/policy",
        "/account/sessions",
    ):
        ada.open(path)
        for viewport in (WIDE, SMALL, PHONE):
            ada.page.set_viewport_size(viewport)
            found[path, viewport["width"]] = sideways(ada.page) + ada.page.evaluate(_CUT)
        heights = ada.page.locator("tbody tr").evaluate_all(
            "(rows) => rows.map((row) => row.getBoundingClientRect().height)"
        )
        if path.endswith("/sessions"):
            assert max(heights) <= 64, path
    assert {at: wide for at, wide in found.items() if wide} == {}
