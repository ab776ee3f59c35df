"""Guards that are best seen from outside: a session's id, against everything that the site holds and shows."""

import base64
import re
from typing import Any

from sqlalchemy import inspect, text

from tests.servers import RedisServer
from tests.site import Browser, Site

PAGES = (
    "/account/sessions",
    "/account/sessions?format=json",
    "/admin/",
    "/admin/sessions",
    "/admin/sessions?format=json",
    "/admin/sessions?format=csv",
    "/admin/users",
    "/admin/audit",
    "/admin/stores",
    "/no-such-page",
)


def everything(site: Site, valkey: RedisServer, *browsers: Browser) -> list[bytes]:
    """Return all that Redis and every table hold, and what the pages and their headers show."""
    found: list[bytes] = []
    with valkey.client() as client:
        for key in client.scan_iter():
            found.append(key)
            if client.type(key) == b"string":
                found.append(client.get(key) or b"")
    for table in inspect(site.system.ledger.engine).get_table_names():
        for row in site.system.ledger.read(text(f'SELECT * FROM "{table}"')):
            found += [_as_bytes(value) for value in row if value is not None]
    rows = site.rows()
    for browser in browsers:
        for path in (*PAGES, *(f"/admin/sessions/{row.reference}" for row in rows)):
            response = browser.get(path)
            headers = [value for name, value in response.headers if name != "Set-Cookie"]
            found += [response.data, *(value.encode() for value in headers)]
    return found


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_the_id_of_a_session_is_in_its_cookie_and_nowhere_else(
    site: Site, valkey: RedisServer
) -> None:
    browsers = [site.signed_in(name) for name in ("alice", "otto", "ada")]
    held = everything(site, valkey, *browsers)
    for browser in browsers:
        assert browser.cookie is not None
        secret = browser.cookie.encode()
        # Half of it would do to find the rest.
        parts = {secret, secret[:20], secret[-20:], base64.urlsafe_b64decode(secret + b"=")}
        assert not [part for part in parts for each in held if part in each]


def test_no_string_that_is_held_anywhere_is_taken_for_a_cookie(
    site: Site, valkey: RedisServer
) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    tries: set[str] = set()
    for each in everything(site, valkey, ada):
        tries |= {word.decode() for word in re.findall(rb"[A-Za-z0-9_-]{10,200}", each[:200_000])}
        if len(each) <= 64:
            tries |= {each.hex(), base64.urlsafe_b64encode(each).decode().rstrip("=")}
    rows = site.rows()
    assert {row.data_key for row in rows} <= tries
    assert {row.handle.hex() for row in rows} <= tries
    assert {row.reference for row in rows} <= tries

    name = site.app.config["SESSION_COOKIE_NAME"]
    for cookie in tries:
        visitor = site.browser()
        visitor.client.set_cookie(name, cookie)
        assert not visitor.is_signed_in(), cookie
