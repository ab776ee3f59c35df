"""The language of a page: asked of the browser, chosen with a switch, and never in what programs read."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from app.choices import understood
from tests.servers import RedisServer
from tests.site import Browser, Site, clock_moved, clock_stopped

SIGN_IN = {"en": "Sign in", "zh-Hant": "登入", "zh-Hans": "登录"}


def speaks(browser: Browser, wish: str) -> Browser:
    """Let a browser wish for languages from now on."""
    browser.client.environ_base["HTTP_ACCEPT_LANGUAGE"] = wish
    return browser


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en", "en"),
        ("en-GB", "en"),
        ("zh", "zh-Hans"),
        ("zh-CN", "zh-Hans"),
        ("zh-SG", "zh-Hans"),
        ("zh-MY", "zh-Hans"),
        ("zh-Hans", "zh-Hans"),
        ("zh-Hans-HK", "zh-Hans"),
        ("zh-TW", "zh-Hant"),
        ("ZH-tw", "zh-Hant"),
        ("zh_HK", "zh-Hant"),
        ("zh-MO", "zh-Hant"),
        ("zh-Hant", "zh-Hant"),
        ("zh-Hant-TW", "zh-Hant"),
        ("zh-Hant-CN", "zh-Hant"),
        ("de", None),
        ("*", None),
        ("", None),
        ("hant", None),
    ],
)
def test_a_browsers_tag_names_one_of_our_languages_or_none(tag: str, language: str | None) -> None:
    assert understood(tag) == language


@pytest.mark.parametrize(
    ("wish", "language"),
    [
        ("", "en"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh-Hant"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("en-US,zh-TW;q=0.9", "en"),
        ("en;q=0.5,zh-TW;q=0.9", "zh-Hant"),
        ("fr, de;q=0.9, zh-HK;q=0.1", "zh-Hant"),
        ("fr, *;q=0.5", "en"),
        ("zh;q=0, de", "en"),
        ("\xff;;,q=zh", "en"),
    ],
)
def test_the_browsers_wish_decides_and_the_answer_says_so(
    site: Site, wish: str, language: str
) -> None:
    page = speaks(site.browser(), wish).get("/login")
    assert f'<html lang="{language}"' in page.text
    assert f"<h1>{SIGN_IN[language]}</h1>" in page.text
    assert page.headers["Content-Language"] == language
    assert "Accept-Language" in page.headers["Vary"]


def test_the_switch_outweighs_the_browser_for_visitor_and_signed_in(site: Site) -> None:
    browser = speaks(site.browser(), "zh-CN")
    for language in ("zh-Hant", "en", "zh-Hans"):
        chosen = browser.post("/language", {"language": language, "next": "/login"}, form="/login")
        assert (chosen.status_code, chosen.location) == (303, "/login")
        page = browser.get("/login")
        assert f"<h1>{SIGN_IN[language]}</h1>" in page.text
        assert f'value="{language}" lang="{language}" aria-pressed="true"' in page.text
        assert page.headers["Content-Language"] == language
        assert "Accept-Language" not in page.headers.get("Vary", "")
    browser.sign_in("alice")
    assert "这个会话" in browser.get("/").text
    browser.sign_out()
    assert "您已退出登录。" in browser.get("/login?signed_out=1").text


def test_a_language_that_is_none_of_ours_gives_the_choice_back_to_the_browser(site: Site) -> None:
    browser = speaks(site.browser(), "zh-TW")
    browser.post("/language", {"language": "en"}, form="/login")
    for none in ("tlh", '"><script>', ""):
        browser.post("/language", {"language": none, "next": "//evil.example"}, form="/login")
        assert '<html lang="zh-Hant"' in browser.get("/login").text
    browser.client.set_cookie("language", "../../etc")
    assert '<html lang="zh-Hant"' in browser.get("/login").text


def test_a_choice_leads_back_to_what_can_be_opened(site: Site) -> None:
    alice = site.signed_in("alice")
    for path, status, back in (
        ("/account/password?a=1", 200, "/account/password?a=1"),
        ("/nowhere", 404, "/nowhere"),
        ("/account/sessions/aaaaaaaaaa/end", 400, "/"),
        ("/account/password", 400, "/account/password"),
    ):
        page = alice.client.post(path) if status == 400 else alice.get(path)
        assert page.status_code == status
        assert f'name="next" value="{back}"' in page.text


def test_a_choice_is_a_form_of_this_site(site: Site) -> None:
    browser = site.signed_in("alice")
    for path in ("/language", "/theme"):
        answer = browser.client.post(path, data={"language": "zh-Hant", "theme": "dark"})
        assert answer.status_code == 400
        assert "Set-Cookie" not in answer.headers
        foreign = {"Origin": "https://evil.example"}
        assert browser.post(path, {"theme": "dark"}, form="/", headers=foreign).status_code == 403


def test_a_choice_is_kept_as_safely_as_the_session(make_site: Callable[..., Site]) -> None:
    site = make_site(ROLLCALL_ENV="production")
    options: dict[str, Any] = {"base_url": "https://localhost"}
    browser = site.browser()
    token = browser.token("/login")
    for path, value in (("/language", "zh-Hant"), ("/theme", "dark")):
        data = {"csrf_token": token, path[1:]: value}
        cookie = browser.client.post(path, data=data, **options).headers["Set-Cookie"]
        assert cookie.startswith(f"{path[1:]}={value};")
        for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=31536000"):
            assert attribute in cookie


@pytest.mark.admin
def test_what_programs_read_stays_english(site: Site) -> None:
    alice = speaks(site.signed_in("alice"), "zh-TW")
    ada = speaks(site.signed_in("ada"), "zh-TW")
    answers = [
        ada.get("/admin/sessions?format=json"),
        ada.get("/admin/sessions?format=csv"),
        ada.get("/admin/sessions?q=1/2&format=json"),
        ada.get("/nowhere", headers={"Accept": "application/json"}),
        ada.get("/admin/audit?format=csv&tea=1"),
        alice.get("/admin/sessions?format=json"),
        alice.get("/account/sessions?format=csv"),
        site.browser().get("/account/sessions", headers={"X-Passive": "1"}),
        ada.get("/static/css/base.css", buffered=True),
        ada.get("/healthz"),
    ]
    for answer in answers[:4] + answers[5:]:
        assert answer.text.isascii(), answer.text
        assert "Content-Language" not in answer.headers
        assert "Accept-Language" not in answer.headers.get("Vary", "")
    assert "There is no filter" in answers[4].text


@pytest.mark.admin
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_the_line_that_says_that_an_export_is_cut_stays_english(
    site: Site, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("app.listing.MOST_ROWS", 1)
    site.signed_in("alice")
    exported = speaks(site.signed_in("ada"), "zh-TW").get(f"/admin/audit?format={kind}")
    assert "Cut here: an export has at most 1 rows." in exported.text


@pytest.mark.admin
def test_the_trail_and_what_is_stored_stay_english(site: Site) -> None:
    speaks(site.browser(), "zh-TW").sign_in("alice", "not this one")
    speaks(site.signed_in("alice"), "zh-TW").get("/admin/")
    speaks(site.signed_in("ada"), "zh-TW").revoke(site.live("alice")[0].reference)
    events, rows = site.events(), site.rows()
    assert len(events) > 5
    assert str([tuple(each) for each in [*events, *rows]]).isascii()


@pytest.mark.admin
def test_a_page_about_a_silent_server_has_the_language_and_asks_nobody(
    site: Site, valkey: RedisServer
) -> None:
    alice = speaks(site.signed_in("alice"), "zh-TW")
    valkey.kill()
    answer = alice.get("/")
    assert answer.status_code == 503
    assert "Redis 沒有回應" in answer.text
    assert answer.headers["Content-Language"] == "zh-Hant"
    assert "<form" not in answer.text


@pytest.mark.admin
def test_numbers_times_and_lists_are_written_as_the_reader_writes_them(site: Site) -> None:
    with clock_stopped():
        site.signed_in("alice")
        path = f"/admin/sessions/{site.live('alice')[0].reference}"
        ada = site.signed_in("ada")
        with clock_moved(5):
            pages = [speaks(ada, wish).get(path).text for wish in ("en", "zh-TW", "zh-CN")]
    page, *chinese = pages
    assert "Firefox 140 on Linux" in page
    assert re.search(r"<b>29 min 55 sec</b>.*ends if unused", page)
    assert re.search(r">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</time>", page)
    for page, left in zip(chinese, ("29 分鐘 55 秒", "29 分钟 55 秒"), strict=True):
        assert "Firefox 140（Linux）" in page
        assert f"<b>{left}</b>" in page
        assert re.search(r">\d{4}/\d\d/\d\d \d\d:\d\d:\d\d UTC</time>", page)
