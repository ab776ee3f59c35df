"""`next` stays on this site, whatever is put into it."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.forms import safe_next
from tests.site import PASSWORD, Site

BAD = [
    "http://evil.example", "https://evil.example/", "HTTPS://evil.example", "//evil.example",
    "///evil.example", "////evil.example", "/\\evil.example", "\\/evil.example", "\\\\evil.example",
    "/\\/evil.example", "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "\t//evil.example",
    "\n//evil.example", " //evil.example", "/ /evil.example", "/\x00/evil.example", "\x01//evil.example",
    "javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", "data:text/html,x",
    "vbscript:x", "mailto:a@evil.example", "ftp://evil.example", "file:///etc/passwd",
    "blob:https://evil.example/x", "about:blank", "evil.example", "www.evil.example", "./evil",
    "../evil", "?x=1", "#x", "", " ", "https:evil.example", "https:/evil.example",
    "https:///evil.example", "http:\\\\evil.example", "//evil.example@localhost",
    "//localhost@evil.example", "http://localhost", "http://localhost@evil.example",
    "//[::1]", "//[bad", "/\x7f/evil.example", "/a\\b", "/a b", "/a\tb", "/a\nSet-Cookie: x=1",
    "/a\r\nLocation: //evil.example", "/a%0a\n", "/\x0b/evil.example", "/\x0c/evil.example",
    "%2f%2fevil.example", "1//evil.example", "-//evil.example", "x:/evil", "//", "/" + "a" * 2000,
    "\u2028//evil.example", "．／evil",
]  # fmt: skip
GOOD = [
    "/", "/account/sessions", "/admin/sessions?user=alice&state=live", "/admin/users/2#role",
    "/a?next=https://evil.example", "/a/%2f%2fevil.example", "/日本", "/a:b", "/a//b", "/@evil.example",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_what_leads_elsewhere_becomes_the_start_page(url: str) -> None:
    assert safe_next(url) == "/"


@pytest.mark.parametrize("url", GOOD)
def test_a_path_of_this_site_is_kept(url: str) -> None:
    assert safe_next(url) == url


def test_nothing_becomes_the_start_page() -> None:
    assert safe_next(None) == "/"


@given(st.text() | st.text(alphabet="/\\:.?#@ \t\nahtps"))
def test_whatever_comes_out_stays_on_this_site(url: str) -> None:
    joined = urlsplit(urljoin("https://rollcall.example/login", safe_next(url)))
    assert (joined.scheme, joined.netloc) == ("https", "rollcall.example")


@pytest.mark.parametrize("url", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_signing_in_never_leads_to_another_site(site: Site, url: str) -> None:
    browser = site.browser()
    form = browser.get("/login", query_string={"next": url}).text.split("</form>")[0]
    assert "evil" not in form.split("<form")[1]
    values = {"username": "alice", "password": PASSWORD, "next": url}
    assert browser.post("/login", values).location == "/"
    assert browser.get("/login", query_string={"next": url}).location == "/"


def test_signing_in_leads_back_to_where_one_came_from(site: Site) -> None:
    browser = site.browser()
    led = browser.get("/account/sessions?format=html").location
    page = browser.get(led).text
    assert "/account/sessions?format=html" in page
    values = {"username": "alice", "password": PASSWORD, "next": "/account/sessions?format=html"}
    assert browser.post("/login", values).location == "/account/sessions?format=html"


@pytest.mark.parametrize("url", ["https://evil.example/", "//evil.example"])
def test_choosing_a_theme_never_leads_to_another_site(site: Site, url: str) -> None:
    browser = site.browser()
    values = {"theme": "dark", "next": url}
    assert browser.post("/theme", values, form="/login").location == "/"
