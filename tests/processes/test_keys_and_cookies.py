"""Over real HTTP: a new SECRET_KEY spoils nothing while the old one is a fallback; no header is a fault."""

import json
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.logged import keeping
from tests.processes.barrier import PATIENCE
from tests.processes.conftest import settings_for
from tests.processes.web import Answer, Person, Web
from tests.servers import RedisServer
from tests.site import PASSWORD

OLD, NEW = (f"{which}-0123456789abcdef0123456789abcdef" for which in ("the-old-key", "the-new-key"))
APPLICATION = "tests.processes.served"
_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


@dataclass
class Rotation:
    """The steps of a rotation, on one database and one Redis: each a web server of its own."""

    old: Web
    both: Web
    new: Web


@pytest.fixture(scope="module")
def rotation(new_url: Callable[[str], str], valkey_process: RedisServer) -> Iterator[Rotation]:
    valkey_process.reset()
    url = new_url("sqlite")
    given: list[Mapping[str, object]] = [
        {"SECRET_KEY": OLD},
        {"SECRET_KEY": NEW, "SECRET_KEY_FALLBACKS": [OLD]},
        {"SECRET_KEY": NEW},
    ]
    webs = [
        Web(APPLICATION, {**settings_for(url, valkey_process.url), "SESSION_LIMIT": 20, **keys}, 0)
        for keys in given
    ]
    try:
        with ThreadPoolExecutor(len(webs)) as pool:
            list(pool.map(Web.until_up, webs))
        yield Rotation(*webs)
    finally:
        with ThreadPoolExecutor(len(webs)) as pool:
            list(pool.map(Web.close, webs))


def form(person: Person, web: Web, path: str) -> dict[str, str]:
    """Open a page with a form, and return the token that it holds."""
    page = person.get(web, path)
    found = _TOKEN.search(page.text)
    assert found, page.text
    keeping.note(found[1])
    return {"csrf_token": found[1]}


def send(person: Person, web: Web, path: str, values: Mapping[str, str]) -> Answer:
    """Send a form that was opened earlier; the cookies that come back are kept."""
    return person._keep(person.ask(web, "POST", path, values))


def assert_helpful(answer: Answer) -> None:
    """Whoever sent a form with a token that is no longer good is told what to do."""
    assert answer.status == 400
    assert "This form is no longer valid" in answer.text
    assert "reload the page and send it again" in answer.text
    assert answer.cookies == {}


def test_a_rotation_signs_nobody_out_at_any_step(rotation: Rotation) -> None:
    entered = {name: Person() for name in ("alice", "ada")}
    for name, person in entered.items():
        person.enter(rotation.old, name)
    alice = entered["alice"]
    assert alice.get(rotation.old, "/t/set/fruit?mark=pear").status == 200
    for web in (rotation.old, rotation.both, rotation.old, rotation.both, rotation.new):
        for name, person in entered.items():
            before = dict(person.cookies)
            assert person.is_at(web) == name
            assert person.get(web, "/account/sessions").status == 200
            assert person.cookies == before
        assert alice.get(web, "/t/who").json["data"]["fruit"] == "pear"
        assert alice.get(web, "/t/set/fruit?mark=pear").status == 200


def test_an_open_form_of_somebody_signed_in_works_until_the_old_key_is_dropped(
    rotation: Rotation,
) -> None:
    alice = Person()
    alice.enter(rotation.old, "alice")
    opened = form(alice, rotation.old, "/account/password")
    for web in (rotation.old, rotation.both):
        assert send(alice, web, "/", {**opened, "note": f"port {web.port}"}).status == 303
        assert alice.get(web, "/t/who").json["data"]["note"] == f"port {web.port}"
    assert_helpful(send(alice, rotation.new, "/", {**opened, "note": "too late"}))
    assert alice.get(rotation.new, "/t/who").json["data"]["note"] == f"port {rotation.both.port}"
    assert alice.is_at(rotation.new) == "alice"
    again = form(alice, rotation.new, "/account/password")
    assert send(alice, rotation.new, "/", {**again, "note": "reloaded"}).status == 303


def test_while_both_keys_are_served_a_form_of_either_is_taken_by_the_new_one(
    rotation: Rotation,
) -> None:
    """Workers are restarted one by one: the page comes from one, the form goes to another."""
    alice = Person()
    alice.enter(rotation.both, "alice")
    for page in (rotation.old, rotation.both):
        opened = form(alice, page, "/account/password")
        assert send(alice, rotation.both, "/", {**opened, "note": "x"}).status == 303
    ahead = form(alice, rotation.both, "/account/password")
    assert_helpful(send(alice, rotation.old, "/", {**ahead, "note": "x"}))


def test_an_open_sign_in_and_sign_out_form_work_until_the_old_key_is_dropped(
    rotation: Rotation,
) -> None:
    login = {"username": "bob", "password": PASSWORD}
    visitor, late = Person(), Person()
    opened, kept = (form(each, rotation.old, "/login") for each in (visitor, late))
    assert_helpful(send(late, rotation.new, "/login", {**kept, **login}))
    assert late.is_at(rotation.new) is None
    assert send(visitor, rotation.both, "/login", {**opened, **login}).status == 303
    assert visitor.is_at(rotation.new) == "bob"

    leaving = form(visitor, rotation.old, "/account/password")
    overtaken = send(visitor, rotation.new, "/logout", leaving)
    assert overtaken.status == 303  # led home, as any sign-out form that is no longer good
    assert visitor.is_at(rotation.new) == "bob"
    assert send(visitor, rotation.both, "/logout", leaving).status == 303
    assert visitor.is_at(rotation.new) is None


def test_a_visitors_cookie_is_read_until_the_old_key_is_dropped_and_rewritten_before(
    rotation: Rotation,
) -> None:
    waiting, coming_back = Person(), Person()
    for each in (waiting, coming_back):
        assert each.get(rotation.old, "/t/visit?mark=pear").json == {"held": "pear"}
        assert each.get(rotation.both, "/t/visit").json == {"held": "pear"}
    assert coming_back.get(rotation.both, "/t/visit?mark=plum").json == {"held": "plum"}
    assert coming_back.get(rotation.new, "/t/visit").json == {"held": "plum"}
    gone = waiting.get(rotation.new, "/t/visit")
    assert (gone.status, gone.json, gone.cookies) == (200, {"held": None}, {})
    assert waiting.get(rotation.old, "/t/visit").json == {"held": "pear"}


# Raw requests


def raw(web: Web, cookie: bytes, path: bytes = b"/t/who") -> tuple[int, bytes]:
    """Send one request whose Cookie header is these bytes; return the status and the rest."""
    with socket.create_connection(("127.0.0.1", web.port), PATIENCE) as connection:
        connection.sendall(
            b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Cookie: " + cookie + b"\r\n\r\n"
        )
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), rest


ID = b"<the id>"
COOKIES: dict[str, tuple[bytes, int, bool]] = {
    "the id": (b"session=" + ID, 200, True),
    "quoted": (b'session="' + ID + b'"', 200, True),
    "among others": (b"a=b; session=" + ID + b"; c=d", 200, True),
    # Browsers send one line (RFC 6265, 5.4); gunicorn joins two by a comma, which parts no cookies.
    "on two lines": (b"a=b\r\nCookie: session=" + ID, 200, False),
    "twice": (b"session=" + ID + b"; session=" + ID, 200, True),
    "after another": (b"session=" + b"A" * 43 + b"; session=" + ID, 200, False),
    "before another": (b"session=" + ID + b"; session=" + b"A" * 43, 200, True),
    "after another, on two lines": (
        b"session=" + b"A" * 43 + b"\r\nCookie: session=" + ID, 200, False,
    ),
    "in percents": (b"session=" + b"".join(b"%%%02x" % each for each in b"A" * 43), 200, False),
    "as the visitor's": (b"visitor=" + ID, 200, False),
    "as the visitor's and the visitor's as it": (b"visitor=" + ID + b"; session=e30.a.b", 200, False),
    "8 KB": (b"session=" + b"x" * 8000, 200, False),
    "8 KB before it": (b"a=" + b"x" * 7000 + b"; session=" + ID, 200, True),
    "over what gunicorn reads": (b"session=" + b"x" * 9000, 431, False),
    "a NUL": (b"session=\x00" + ID, 400, False),
    "bytes that are no text": (b"session=\xff\xfe\xfd; \x80=\x81", 200, False),
    "text of Unicode": ("session=日本語; visitor=\U0001f600".encode(), 200, False),
    "nothing": (b"", 200, False),
    "only separators": (b";;; ,=;==;", 200, False),
    "a name without a value": (b"session; visitor; session=", 200, False),
    "a thousand": (b"; ".join(b"session=%d" % number for number in range(600)), 200, False),
    "a quote that does not end": (b'session="' + ID, 200, False),
    "octal in quotes": (b'session="\\101\\000\\777"', 200, False),
}  # fmt: skip


def test_whatever_bytes_come_as_cookies_the_answer_is_no_fault_and_only_the_id_is_somebody(
    rotation: Rotation,
) -> None:
    web, alice = rotation.new, Person()
    alice.enter(web, "alice")
    session_id = alice.cookies["session"].encode()
    for kind, (cookie, status, known) in COOKIES.items():
        answered, rest = raw(web, cookie.replace(ID, session_id))
        assert answered == status, kind
        assert (b'"alice"' in rest) == known, kind
        assert b"set-cookie" not in rest.lower(), kind
        assert session_id not in rest, kind
    for page in (b"/login", b"/nowhere", b"/account/sessions", b"/healthz"):
        for kind, (cookie, _, _) in COOKIES.items():
            answered, rest = raw(web, cookie.replace(ID, b"B" * 43), page)
            assert answered < 500, (page, kind)
            assert b"set-cookie" not in rest.lower(), (page, kind)
    assert alice.is_at(web) == "alice"


def test_random_bytes_as_cookies_are_nobody(rotation: Rotation) -> None:
    for _ in range(100):
        noise = secrets.token_bytes(secrets.randbelow(300))
        cookie = b"session=" + noise.replace(b"\r", b"").replace(b"\n", b"")
        answered, rest = raw(rotation.new, cookie)
        assert answered in (200, 400), json.dumps(noise.hex())
        assert answered == 400 or b'{"name":null}' in rest.replace(b" ", b"")
