"""What one simulated person does with one browser, page by page, until the visit is over."""

import re
from csv import DictReader
from enum import Enum, auto
from random import Random
from urllib.parse import parse_qs, quote, urlsplit

from app.people.models import Role
from demo.browser import Browser, Page
from demo.cast import Person
from demo.history import NOTES
from demo.incidents import WORDS, WORDS_FOR_MANY, Words

_STAFF_PAGES = (
    "/admin/",
    "/admin/sessions",
    "/admin/sessions?store=redis",
    "/admin/sessions?state=ended",
    "/admin/users",
    "/admin/revocations",
    "/admin/stores",
    "/admin/policy",
)
_AUDIT_PAGES = (
    "/admin/audit",
    "/admin/audit?verb=session.revoked",
    "/admin/audit?verb=session.revoked&format=csv",  # of all events it would cost more every day
)
_OWN_PAGES = ("/", "/account/sessions", "/account/password")
_REFERENCE = re.compile(r'name="reference"[^>]*value="([a-z2-7]{10})"')
_COUNT = re.compile(r"Type ([\d,]+) to confirm")
_DETAIL = re.compile(r'href="(/admin/(?:sessions/[a-z2-7]{10}|users/\d+))"')


class After(Enum):
    """How a step of a visit went."""

    GOES_ON = auto()
    SIGNED_OUT = auto()
    WAS_ENDED = auto()


class Visit:
    """A person at a browser, signed in or about to be."""

    def __init__(self, person: Person, browser: Browser, password: str, random: Random) -> None:
        self.person = person
        self.browser = browser
        self._password = password
        self._random = random

    def sign_in(self) -> bool:
        """Sign in by the form, sometimes at the second try; say whether it worked."""
        page = self.browser.get("/login")
        if not page.asks_to_sign_in:
            return True
        if self._random.random() < 0.04:
            page = self._submit(page, self._password[:-1])
        return not self._submit(page, self._password).asks_to_sign_in

    def _submit(self, page: Page, password: str) -> Page:
        form = {"username": self.person.name, "password": password, "next": ""}
        return self.browser.post(page, "/login", form)

    def step(self) -> After:
        """Do one thing. Mostly that is reading."""
        chance = self._random.random()
        member = self.person.role is Role.MEMBER
        if chance < 0.05:
            return self.sign_out()
        if chance < 0.0505:
            page = self._change_password()
        elif chance < 0.075:
            page = self._choose_theme()
        elif chance < 0.22 and member:
            page = self._write_note()
        elif chance < 0.225 and member:
            page = self.browser.get("/admin/")  # they are told that they may not
        else:
            page = self._read()
        return _after(page)

    def sign_out(self) -> After:
        page = self.browser.get("/account/sessions")
        if page.asks_to_sign_in:
            return After.WAS_ENDED
        self.browser.post(page, "/logout")
        return After.SIGNED_OUT

    def _read(self) -> Page:
        role = self.person.role
        pages = _STAFF_PAGES if role.is_staff else _OWN_PAGES
        if role in (Role.AUDITOR, Role.ADMIN) and self._random.random() < 0.4:
            pages = _AUDIT_PAGES
        page = self.browser.get(self._random.choice(pages))
        further = _DETAIL.findall(page.text)
        if further and self._random.random() < 0.4:
            return self.browser.get(self._random.choice(further))
        return page

    def _write_note(self) -> Page:
        return self._fill_in("/", {"note": self._random.choice(NOTES)})

    def _choose_theme(self) -> Page:
        form = {"theme": self._random.choice(("light", "dark", "system")), "next": "/"}
        return self._fill_in("/account/sessions", form, "/theme")

    def _change_password(self) -> Page:
        """Change the password to what it is, so that everybody can sign in tomorrow."""
        new = {"password": self._password, "repeat": self._password}
        return self._fill_in("/account/password", {"current_password": self._password, **new})

    def _fill_in(self, path: str, form: dict[str, str], action: str | None = None) -> Page:
        page = self.browser.get(path)
        return page if page.asks_to_sign_in else self.browser.post(page, action or path, form)

    def who_is_inside(self) -> set[str]:
        """Return the names in the list of sessions, which staff may see."""
        page = self.browser.get("/admin/sessions?format=csv")
        return {row.get("user", "") for row in DictReader(page.text.splitlines())}

    def revoke_one(self, name: str) -> After:
        """Find a person's sessions, freeze them, review, and confirm with a reason."""
        page = self.browser.get(f"/admin/sessions?user={quote(name)}")
        ticked = [("reference", found) for found in _REFERENCE.findall(page.text)]
        return self._revoke(page, "/admin/revocations", ticked, WORDS)

    def revoke_members_at(self, network: str) -> After:
        """The same with everything that matches a filter."""
        query = f"role=member&ip={network}"
        page = self.browser.get(f"/admin/sessions?{query}")
        ticked = [("all_matching", "1")] if _REFERENCE.search(page.text) else []
        return self._revoke(page, f"/admin/revocations?{query}", ticked, WORDS_FOR_MANY)

    def _revoke(
        self, page: Page, action: str, ticked: list[tuple[str, str]], words: tuple[Words, ...]
    ) -> After:
        if not ticked:
            return _after(page)
        page = self._past_the_password(self.browser.post(page, action, ticked))
        if not page.path.startswith("/admin/revocations/"):
            return _after(page)
        reason, note, tell = self._random.choice(words)
        form = {"reason": reason, "note": note} | ({"tell_user": "y"} if tell else {})
        if count := _COUNT.search(page.text):
            form["count"] = count[1].replace(",", "")
        done = self.browser.post(page, page.path, form)
        if done.path.startswith("/reauth"):
            page = self._past_the_password(done)
            done = self.browser.post(page, page.path, form)
        return _after(done)

    def _past_the_password(self, page: Page) -> Page:
        """Confirm the password if it is asked for, and return the page behind."""
        if not page.path.startswith("/reauth"):
            return page
        again = parse_qs(urlsplit(page.path).query).get("next", ["/"])[0]
        return self.browser.post(page, "/reauth", {"password": self._password, "next": again})


def _after(page: Page) -> After:
    return After.WAS_ENDED if page.asks_to_sign_in else After.GOES_ON
