"""Take the pictures of README and docs/tour.md: `make tour`, or `python -m tests.browser.tour [folder]`.

A whole `make demo` runs in a copy of the project, so nobody's `instance-demo/` is touched. An
administrator goes through an incident in Chromium; `SHOTS` names each picture and how one gets there.
"""

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Locator, Page, expect, sync_playwright

from demo.places import DESKTOPS, PHONES
from tests.browser.conftest import ARGUMENTS
from tests.browser.people import People, Person
from tests.browser.png import smaller
from tests.browser.serving import ROOT
from tests.demo.running import Demo
from tests.site import FIREFOX
from tests.test_make_run import copy_to, processes_in, wait_until

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 800}
CHROME, ANDROID = DESKTOPS[1], PHONES[4]

SEARCH = "ip:10.0.0.0/8 role:member"
NOTE = "Malware in the offices' networks; ticket 5127"

_UP, _FILLED = 300.0, 300.0
"""Seconds for the past to be laid down, and for people to come in."""


class Whole(Demo):
    """The demo as it is when nobody says how many people and which seed."""

    command = ("-m", "demo")


class Story:
    """The demo, and who looks at it. `admin` is at one page; others have browsers of their own."""

    def __init__(self, demo: Demo, people: People) -> None:
        self.demo = demo
        self._people = people
        self.admin = self.at_browser("demo-admin").sign_in()

    def at_browser(
        self, name: str, client: str = FIREFOX, ip: str = "10.12.4.17", **options: Any
    ) -> Person:
        """Return one of those who are not simulated, at a browser of their own."""
        options = {"viewport": WIDE, "extra_http_headers": {"X-Forwarded-For": ip}, **options}
        return self._people.at_browser(name, client, **options)

    def passes_the_password(self) -> None:
        """Enter the password again, if the page that came asks for it."""
        page = self.admin.page
        if "/reauth" in page.url:
            page.get_by_label("Password").fill(self.admin.password)
            self.admin.click("button", "Continue")

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Freeze the demo's Valkey for the block."""
        (valkey,) = [pid for pid in processes_in(self.demo.root) if _runs(pid, "valkey")]
        os.kill(valkey, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(valkey, signal.SIGCONT)
            wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"{self.admin.url}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except URLError:
            return False


def _runs(pid: int, program: str) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return program in Path(os.fsdecode(command)).name


def signed_out(story: Story) -> Page:
    here = story.at_browser("demo-member", CHROME, "192.0.2.44").sign_in()
    story.at_browser("demo-member", ip="10.31.8.20").sign_in()
    here.page.reload()
    expect(here.page.get_by_role("status")).to_contain_text(
        "You signed in from Firefox 140 on Linux"
    )
    return here.page


def overview(story: Story) -> Page:
    story.admin.open("/admin/")
    return story.admin.page


def sessions(story: Story) -> Page:
    story.admin.open("/admin/sessions")
    return story.admin.page


def search(story: Story) -> Page:
    page = story.admin.page
    page.get_by_label("Search sessions").fill(SEARCH)
    page.keyboard.press("Enter")
    expect(_all_that_match(page)).to_be_visible()
    return page


def _all_that_match(page: Page) -> Locator:
    return page.get_by_role("button", name=re.compile(r"^Revoke all \d+ that match…$"))


def review(story: Story) -> Page:
    page = story.admin.page
    _all_that_match(page).click()
    story.passes_the_password()
    page.get_by_label("Reason").select_option("incident")
    page.get_by_label("Note").fill(NOTE)
    page.get_by_label("Tell the users why").check()
    (count,) = re.findall(r"\d+", page.get_by_role("heading", level=1).inner_text())
    page.get_by_label(f"Type {count} to confirm").fill(count)
    return page


def receipt(story: Story) -> Page:
    page = story.admin.page
    page.get_by_role("button", name=re.compile(r"^Revoke \d+ sessions$")).click()
    expect(page.get_by_text("Read back at")).to_be_visible()
    return page


def user(story: Story) -> Page:
    page = story.admin.page
    page.locator("tbody th a").first.click()
    story.admin.click("link", "Require a new password…")
    story.admin.click("button", "Require a new password")
    story.passes_the_password()
    expect(page.get_by_text("A new password is required.")).to_be_visible()
    return page


def audit(story: Story) -> Page:
    story.admin.open("/admin/audit")
    return story.admin.page


def stores(story: Story) -> Page:
    with story.without_redis():
        story.admin.open("/admin/stores")
        expect(story.admin.page.get_by_text("Did not answer", exact=True)).to_be_visible()
    return story.admin.page


def statistics(story: Story) -> Page:
    page = story.admin.page
    page.emulate_media(color_scheme="dark")
    story.admin.open("/admin/statistics?last=48h")
    return page


def phone(story: Story) -> Page:
    options = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
    admin = story.at_browser("demo-admin", ANDROID, "2001:db8:a1:7::15", **options).sign_in()
    admin.open("/admin/sessions")
    return admin.page


def my_sessions(story: Story) -> Page:
    page = story.admin.page
    page.emulate_media(color_scheme="light")
    story.admin.open("/account/sessions")
    expect(page.get_by_role("link", name="Sign out the others…")).to_be_visible()
    return page


def idle(story: Story) -> Page:
    """Let the browser's clock go on, and nothing come back from the server, which knows better."""
    operator = story.at_browser("demo-operator")
    operator.page.clock.install()
    operator.page.route("**/account/deadline", lambda route: route.abort())
    operator.sign_in()
    operator.open("/admin/sessions")
    operator.page.clock.fast_forward("03:25")
    expect(operator.page.get_by_role("dialog", name="Are you still there?")).to_be_visible()
    return operator.page


def chinese(story: Story) -> Page:
    page = story.admin.page
    story.admin.open("/admin/")
    story.admin.click("button", "繁體")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hant")
    return page


SHOTS: dict[str, Callable[[Story], Page]] = {
    "signed-out": signed_out,
    "overview": overview,
    "sessions": sessions,
    "search": search,
    "review": review,
    "receipt": receipt,
    "user": user,
    "audit": audit,
    "stores": stores,
    "statistics": statistics,
    "phone": phone,
    "my-sessions": my_sessions,
    "idle": idle,
    "chinese": chinese,
}
"""In the order of the story: each begins where the one before has ended."""


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rc-") as work:
        demo = Whole(copy_to(Path(work) / "rollcall", "demo"))
        try:
            demo.until_up(_UP)
            print("The demo is up; people come in.", flush=True)
            wait_until(lambda: "The crowd: " in demo.text, _FILLED)
            take(demo, folder)
        finally:
            demo.end()


def take(demo: Demo, folder: Path) -> None:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        url, password = f"http://127.0.0.1:{demo.port}", demo.sign_ins["demo-admin"]
        story = Story(demo, People(chromium.new_context, url, password))
        for name, reach in SHOTS.items():
            page = reach(story)
            page.evaluate("scrollTo(0, 0)")
            picture = smaller(page.screenshot(animations="disabled"))
            (folder / f"{name}.png").write_bytes(picture)
            print(f"{name}.png {len(picture) / 1024:.0f} KB", flush=True)
        chromium.close()


if __name__ == "__main__":
    main()
