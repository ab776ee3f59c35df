"""Where a session is used from: whatever a proxy or a socket says, it is an address that can be kept."""

import base64

import pytest

from app.auth.throttle import network_of
from app.sessions.clients import Client, client_in_words, ip_key
from app.sessions.filter import FilterError
from app.sessions.search import _from_cursor
from tests.site import Site


@pytest.mark.parametrize("said", [None, "", "unknown", "1.2.3.4:5678", "10.0.0.300"])
def test_what_is_no_address_is_kept_as_none(said: str | None):
    client = Client.of(said, "curl")
    assert client.ip == "::"
    assert client.ip_key == bytes(16)


def test_an_ipv4_address_that_ipv6_carries_is_itself_again():
    assert Client.of("::ffff:10.0.0.1", "curl").ip == "10.0.0.1"
    assert ip_key("::ffff:10.0.0.1") == ip_key("10.0.0.1")
    first, second = (Client.of(f"::ffff:{ip}", "").ip for ip in ("10.0.0.1", "203.0.113.9"))
    assert network_of(first) != network_of(second)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:144.0) Gecko/20100101 Firefox/144.0",
            "Firefox 144 on macOS",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
            "Firefox 144 on Linux",
        ),
        ("backup-script/2", "backup-script"),
        ("", "unknown client"),
    ],
)
def test_a_client_is_told_in_words(header: str, words: str) -> None:
    assert client_in_words(header) == words


def test_a_trusted_proxy_that_names_no_address_lets_people_sign_in(make_site):
    site: Site = make_site(TRUSTED_PROXIES=1)
    browser = site.browser()
    browser.client.environ_base["HTTP_X_FORWARDED_FOR"] = "unknown"
    assert browser.sign_in("alice").status_code == 303
    assert site.live("alice")[0].ip == "::"


def test_an_origin_that_is_no_url_is_foreign(site: Site):
    browser = site.browser()
    values = {"csrf_token": browser.token("/login"), "username": "alice", "password": "x"}
    answer = browser.client.post("/login", data=values, headers={"Origin": "http://[::1"})
    assert answer.status_code == 403


def test_a_cursor_beyond_any_row_is_refused(site: Site):
    cursor = base64.urlsafe_b64encode(b"2026-01-01T00:00:00+00:00 " + b"9" * 30).decode()
    with site.app.test_request_context(), pytest.raises(FilterError):
        _from_cursor(cursor)
