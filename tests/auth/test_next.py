"""`next` stays on this site (ASVS 3.7.2): what passes, and a corpus of what does not."""

import pytest

from app.auth.forms import safe_next
from tests.site import PASSWORD, Site

OURS = [
    "/",
    "/admin/",
    "/admin/sessions?user=alice&state=live",
    "/admin/sessions?ip=10.31.0.0%2F16",
    "/a//b",
    "/admin/sessions?next=https://evil.example/",
    "/%2f%2fevil.example",
    "/path;a=1#part",
    "/admin/sessions?q=%E4%B8%AD",
]

FOREIGN = [
    "",
    " ",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "//evil.example/%2f..",
    "//user@evil.example",
    "//evil.example:443/",
    "/\\evil.example",
    "/\\/evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "/\r\n/evil.example",
    "\t//evil.example",
    "\n//evil.example",
    " //evil.example",
    " /admin",
    "/ /evil.example",
    "/\x00/evil.example",
    "/\x0b/evil.example",
    "/\x0c/evil.example",
    "/\x1f/evil.example",
    "/\x7f/evil.example",
    "\x00/admin",
    "/admin\nSet-Cookie: a=b",
    "/admin\r\nLocation: https://evil.example",
    "/path\\..\\evil",
    "http://evil.example",
    "https://evil.example",
    "HTTPS://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "http:evil.example/admin",
    "ftp://evil.example",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "java\nscript:alert(1)",
    "javascript://evil.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "blob:https://evil.example/1",
    "view-source:https://evil.example",
    "mailto:a@evil.example",
    "evil.example",
    "evil.example/admin",
    "admin",
    "./admin",
    "../admin",
    "?next=/admin",
    "#admin",
    "@evil.example",
    ":80",
    ";//evil.example",
    "//[::1]/",
    "//[",
    "http://[::1",
    "//1.2.3.4",
    "//0x7f000001",
    "//evil。example",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("value", OURS)
def test_a_path_on_this_site_passes(value: str) -> None:
    assert safe_next(value) == value


@pytest.mark.parametrize("value", [*FOREIGN, None])
def test_anything_else_becomes_the_start_page(value: str | None) -> None:
    assert safe_next(value) == "/"


@pytest.mark.parametrize("value", ["//evil.example", "/\\evil.example", "https://evil.example"])
def test_signing_in_does_not_lead_away(site: Site, value: str) -> None:
    fields = {"username": "alice", "password": PASSWORD, "next": value}
    response = site.browser().post("/login", fields)
    assert (response.status_code, response.location) == (303, "/")
