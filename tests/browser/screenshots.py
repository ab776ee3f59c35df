"""Take the pictures of the docs: `python -m tests.browser.screenshots [folder]`.

The sign-ins are made by the application itself, through its form, with the clock of this process
moved back; then Chromium looks at a server that runs at the present.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from sqlalchemy import insert

from app.columns import clock
from app.people.models import User
from app.people.names import name_key
from tests.browser.conftest import ARGUMENTS
from tests.browser.pages import SAFARI
from tests.browser.people import WIDE
from tests.browser.serving import ROOT, Served, serve
from tests.servers import RedisServer, valkey_binary
from tests.site import (
    CHROME,
    FIREFOX,
    PASSWORD,
    clock_moved,
    copied_sqlite,
    made_sqlite,
    password_hash,
)

EDGE = f"{CHROME} Edg/149.0.0.0"
MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.4 Safari/605.1.15"
)
ANDROID = (
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/149.0.0.0 Mobile Safari/537.36"
)

STAFF = "amara.okafor"

# Name, role, client, address, minutes since sign-in, minutes since the last request.
SEEN = [
    ("sofia.kowalska", "member", MAC, "10.5.217.16", 150, 26),
    ("m.haddad", "member", EDGE, "10.19.92.27", 205, 21),
    ("n.eze", "member", SAFARI, "2001:db8:85a3::370:7334", 540, 17),
    ("k.lindqvist", "member", "curl/8.5.0", "10.4.60.132", 18, 12),
    ("vera.lind", "viewer", CHROME, "10.29.35.216", 70, 11),
    ("r.silva", "member", ANDROID, "10.19.253.225", 122, 7.5),
    ("c.moreau", "member", EDGE, "10.31.215.11", 186, 4),
    ("otto.brandt", "auditor", FIREFOX, "10.36.160.88", 260, 3),
    ("p.oconnell", "member", CHROME, "10.34.218.199", 600, 2),
    ("j.rossi", "member", SAFARI, "10.32.109.10", 61, 1.6),
    ("t.nakamura", "member", SAFARI, "10.40.31.148", 310, 1.1),
    ("ada.byrne", "admin", MAC, "10.6.32.145", 48, 0.7),
    ("li.wei", "member", FIREFOX, "10.3.37.211", 485, 0.3),
]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    valkey = RedisServer(valkey_binary())
    work = Path(tempfile.mkdtemp())
    web = serve(copied_sqlite(made_sqlite(work), work), valkey)
    try:
        people(web)
        take(web, folder)
    finally:
        web.close()
        valkey.close()
        shutil.rmtree(work)


def people(web: Served) -> None:
    """Let everybody sign in and come back at their times."""
    with web.site.system.ledger.transaction() as tx:
        for name, role in {(STAFF, "operator"), *((row[0], row[1]) for row in SEEN)}:
            values = {"name": name, "name_key": name_key(name), "role": role, "active": True}
            values |= {"password_hash": password_hash(), "created_at": clock()}
            tx.connection.execute(insert(User).values(**values, password_changed_at=clock()))
    for name, _role, client, ip, signed_in, seen in sorted(SEEN, key=lambda row: -row[4]):
        with clock_moved(-60 * signed_in):
            browser = web.site.signed_in(name, client, ip)
        for minutes in range(int(signed_in) - 10, int(seen), -10):
            with clock_moved(-60 * minutes):
                assert browser.is_signed_in()
        with clock_moved(-60 * seen):
            assert browser.is_signed_in()


def take(web: Served, folder: Path) -> None:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        context = chromium.new_context(viewport=WIDE, color_scheme="light", user_agent=FIREFOX)
        page = context.new_page()
        page.goto(f"{web.url}/login?next=/admin/sessions")
        page.get_by_label("User name").fill(STAFF)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/admin/sessions")
        page.screenshot(path=folder / "sessions.png")
        chromium.close()


if __name__ == "__main__":
    main()
