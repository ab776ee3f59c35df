"""Whatever a page says comes from the catalogs: one that writes full-width letters shows what does not."""

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from flask_babel import Domain
from werkzeug.test import TestResponse

from app import choices, texts
from app.extensions import babel
from app.people.models import Role
from app.sessions.tokens import TOKENS
from tests.browser.pages import furnish, pages_of
from tests.servers import RedisServer
from tests.site import CAST, CHROME, FIREFOX, Browser, Site, clock_moved
from tests.test_translations import PLACE, said_in_the_code

# What stands on a page as it is in every language: names, identifiers, and what people typed.
_DATA = [
    *CAST, "carol", "nobody.here", "Rollcall", "rollcall", "Redis", "SQL", "redis", "sql",
    "JSON", "UTC", "kB", "MB", "csv", "json", "Firefox", "Chrome", "Mobile Safari", "Linux", "Windows", "iOS",
    "NDJSON", CHROME, FIREFOX, "Laptop left on a train", "milk", "GET", "POST", "str", "bool",
]  # fmt: skip
# Looked for before the names: one of these may begin like "ops" or "ada".
_RANDOM = [
    r"\b[a-z2-7]{10}\b",  # a session's reference
    r"\b[0-9a-f]{32}\b",  # a request's id
]
_IDENTIFIERS = [
    r"\b[0-9a-f]*:[0-9a-f:]+\b",  # an address
    r"/[\w./?=&-]*|\w+=\w*|\w+:\w+",  # a path, a query, a filter
]
_NAMES = map(re.escape, sorted(_DATA, key=len)[::-1])
_AS_IT_IS = re.compile("|".join([*_RANDOM, *_NAMES, *_IDENTIFIERS]))
_QUERY = ["tea", *TOKENS, *TOKENS.values(), *Role, "verb", "who", "whom"]
_SPOKEN = ("title", "placeholder", "aria-label", "alt", "data-label", "data-select-count", "label")
_EMPTY = ("input", "meta", "link", "br")


class _Said(HTMLParser):
    """What a page says to eye and ear, but for the names of the languages and what is code."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._quiet: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.texts += [given[name] or "" for name in _SPOKEN if name in given]
        if tag not in _EMPTY:
            own = tag in ("textarea", "code") or (tag != "html" and "lang" in given)
            self._quiet.append(own or "mono" in (given.get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        self._quiet.pop()

    def handle_data(self, data: str) -> None:
        if not any(self._quiet):
            self.texts.append(data)


def unmarked(page: str, *known: str) -> list[str]:
    """Return the words of a page that no catalog wrote and that are not known for another reason."""
    said = _Said()
    said.feed(page)
    words = [
        word
        for text in said.texts
        for word in re.findall(r"[A-Za-z]{2,}", _AS_IT_IS.sub(" ", text))
    ]
    return [word for word in words if word not in known]


def wide(text: str) -> str:
    """Write a text, but not its places, with letters that nothing else on a page has."""
    parts = re.split(f"({PLACE.pattern})", text)
    return "".join(
        part
        if PLACE.fullmatch(part)
        else re.sub("[A-Za-z]", lambda c: chr(ord(c[0]) + 0xFEE0), part)
        for part in parts
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_site: Callable[..., Site]) -> Site:
    """A site that says in full-width letters to readers of zh-Hant whatever its catalog says."""
    made = Catalog(locale="zh_Hant")
    for context, text in said_in_the_code():
        said = wide(text[-1])
        made.add(text if text[1:] else text[0], (said,) if text[1:] else said, context=context)
    folder = tmp_path / "wide" / "zh_Hant" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "messages.mo").open("wb") as file:
        write_mo(file, made)
    monkeypatch.setattr(choices, "CATALOGS", tmp_path / "wide")
    # What this process has read of the real catalogs is kept there, and stays as it was.
    monkeypatch.setitem(vars(babel), "domain_instance", Domain())
    monkeypatch.setattr(texts, "_catalogs", {})
    return make_site(SESSION_LIMIT_BY_ROLE="member=2,viewer=2,operator=2,auditor=2,admin=3")


class Reader:
    """Somebody who reads full-width letters, and notices what is not written in them."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        browser.client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "zh-TW"

    def reads(self, response: TestResponse, *statuses: int, known: Sequence[str] = ()) -> None:
        path = response.request.path
        assert response.status_code in statuses, (path, response.text)
        assert response.headers["Content-Language"] == "zh-Hant", path
        assert unmarked(response.text, *known) == [], path
        switches = response.text.count('name="language"')
        assert switches == (3 if response.status_code < 500 else 0), path

    def opens(self, path: str, *statuses: int, known: Sequence[str] = ()) -> None:
        self.reads(self.browser.get(path), *statuses or (200,), known=known)

    def sends(self, path: str, data: dict[str, Any]) -> None:
        self.reads(self.browser.post(path, data), 422)


def reader(site: Site, name: str) -> Reader:
    return Reader(site.signed_in(name) if name else site.browser())


@pytest.mark.admin
def test_no_page_says_anything_past_the_catalogs(site: Site) -> None:
    values = furnish(site)
    ada = reader(site, "ada")
    paths = [page.path for page in pages_of(site.app, values)]
    for path in set(paths) - {"/", "/login"}:
        ada.opens(path, 200, 404)
    lists = {
        "sessions": ["state=ended", "q=nobody.here", "user=alice", "after=x", "tea=1", "q=1/2"],
        "sessions?state=live": ["q=tea:1", "q=user:", "q=idle:x", "q=user:a user:b", "q=by:ada"],
        "audit": ["verb=session.signed_in", "verb=tea", "whom=nobody.here", "tea=1", "after=x"],
        "users": ["role=member", "role=tea", "name=nobody.here", "tea=1", "format=tea"],
    }
    for name, queries in lists.items():
        for query in queries:
            path = f"/admin/{name}{'&' if '?' in name else '?'}{query}"
            ada.opens(path, 200, 400, known=_QUERY)
    reader(site, "vera").opens("/admin/audit", 403)
    alice = reader(site, "alice")
    for path in ("/", "/account/sessions", "/account/password", "/reauth", "/nowhere", "/logout"):
        alice.opens(path, 200, 404, 405)


@pytest.mark.admin
def test_no_answer_to_a_form_says_anything_past_the_catalogs(site: Site) -> None:
    user = furnish(site)["user_id"][0]
    ada = reader(site, "ada")
    ada.sends("/admin/users/new", {"username": "-", "role": "tea", "password": ""})
    ada.sends("/admin/users/new", {"username": "-", "role": "member", "password": "a"})
    ada.sends("/admin/users/new", {"username": "x", "role": "member", "password": "password1234"})
    ada.sends(f"/admin/users/{user}/role", {"role": "member"})
    ada.sends("/account/password", {"current_password": "a", "password": "b", "repeat": "c"})
    ada.sends("/reauth", {"password": "a"})
    matching = {"all_matching": "1", "role": "member"}
    review = ada.browser.post("/admin/revocations", matching, form="/admin/sessions").location
    ada.opens(review)
    ada.sends(review, {"reason": "", "note": "a" * 1001})
    with clock_moved(301):
        ada.opens(review)
    nothing = ada.browser.post("/admin/revocations", form="/admin/sessions").location
    ada.opens(nothing)
    ada.opens("/admin/revocations")
    ada.reads(ada.browser.client.post("/admin/revocations"), 400)
    saved = ada.browser.post(
        "/account/password", {"current_password": "a"}, headers={"Origin": "null"}
    )
    ada.reads(saved, 403)


@pytest.mark.admin
def test_nothing_about_an_ended_session_is_said_past_the_catalogs(site: Site) -> None:
    alice, bob, visitor = reader(site, "alice"), reader(site, "bob"), reader(site, "")
    alice.browser.post("/", {"note": "milk"})
    alice.opens("/")
    ada = site.signed_in("ada")
    ada.revoke(site.live("alice")[0].reference, note="milk", tell_user="y")
    ada.revoke(site.live("bob")[0].reference)
    alice.opens("/login")
    bob.reads(bob.browser.client.post("/", data={"note": "tea"}), 401)
    for path in ("/", "/login", "/login?signed_out=1", "/nowhere"):
        visitor.opens(path, 200, 404)
    visitor.sends("/login", {"username": "", "password": ""})
    visitor.sends("/login", {"username": "alice", "password": "wrong"})
    for ip in ("10.1.1.1", "10.1.1.2"):
        site.signed_in("alice", ip=ip)


@pytest.mark.admin
def test_nothing_about_a_silent_store_is_said_past_the_catalogs(
    site: Site, valkey: RedisServer
) -> None:
    alice, ada = reader(site, "alice"), reader(site, "ada")
    reference = site.live("alice")[0].reference
    valkey.reset()
    ada.opens(f"/admin/sessions/{reference}")
    alice.opens("/", 503)
    valkey.kill()
    alice.opens("/", 503)
    for path in ("/admin/", "/admin/sessions", "/admin/stores", f"/admin/sessions/{reference}"):
        ada.opens(path)
    review = ada.browser.post(
        "/admin/revocations", {"reference": reference}, form="/admin/sessions"
    )
    ada.browser.post(review.location, {"reason": "incident", "note": "milk"})
    ada.opens(review.location)


def test_a_text_past_the_catalogs_is_noticed() -> None:
    assert unmarked("<p>ｙｅｓ alice</p>") == []
    assert unmarked('<p title="Plain">ｙｅｓ</p>') == ["Plain"]
    assert unmarked("<p>ｙｅｓ <b>no</b> alice at 10:00 UTC</p>") == ["no", "at"]


def test_a_reference_or_a_request_that_begins_like_a_name_is_no_text() -> None:
    assert unmarked(f"<p>opsq7k3m9x, adajfmxqzr and {'ada' + 29 * 'f'}</p>") == ["and"]
