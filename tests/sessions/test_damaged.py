"""A payload that cannot be read is an ended session and an event: not a 500, and nothing runs."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import session
from flask_login import current_user
from sqlalchemy import text

from app.sessions.payload import DEEPEST
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, with_cookie
from tests.sessions.test_payload import Opens
from tests.sessions.test_revocation import start
from tests.site import CAST, Site

DEEP = b"\x81\xa1a" + b"\x91" * 30_000 + b"\x01"


def damage(site: Site, valkey: RedisServer, row: Any, payload: bytes) -> None:
    """Put bytes in the place of a row's payload, past the code under test."""
    if row.store == "redis":
        with valkey.client() as client:
            name = f"rollcall:session:{row.data_key}"
            held = client.get(name)
            assert isinstance(held, bytes)
            client.set(name, held[:8] + payload, keepttl=True)
        return
    with site.system.ledger.transaction() as tx:
        changed = tx.connection.execute(
            text("UPDATE session_payloads SET payload = :p WHERE data_key = :k"),
            {"p": payload, "k": row.data_key},
        )
        assert changed.rowcount == 1


PAYLOADS = {
    "a pickle": pickle.dumps({"a": 1}),
    "nothing": b"",
    "truncated": msgspec.msgpack.encode({"a": "x" * 100})[:-1],
    "30 MB": msgspec.msgpack.encode({"a": "x" * 30_000_000}),
    "a list": b"\x91\x01",
    "a bad tag": b'{"a": {" d": 3}}',
    "a number for a UUID": b'{"a": {" u": 5}}',
    "a tag of nothing": b'{"a": {" di": {}}}',
    "nested deep": DEEP,
    "noise": bytes(range(256)),
    "an extension": b"\x81\xa1a\xd4\x05x",
    "an integer of 30 digits": b'{"a": ' + b"1" * 30 + b"}",
    "NaN in JSON": b'{"a": NaN}',
    "a name that is no UTF-8": b"\x81\xa1\xff\x01",
    "text that is no UTF-8": b'{"a": "\xff"}',
    "half a character": b'{"a": "\\ud800"}',
    "messages that are a number": b'{"_flashes": 1}',
    "messages that are no pairs": b'{"_flashes": [1]}',
    "a token that is a list": b'{"csrf_token": []}',
    "a list of 2**32 - 1": b"\x81\xa1a\xdd\xff\xff\xff\xff",
}
READABLE = {
    "NaN": b"\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    "the same name twice": b'{"a": 1, "a": "second"}',
    "names with markup": json.dumps(
        {"<script>alert(1)</script>": 1, '"><img src=x onerror=alert(1)>': {"=1+1": "\r\n"}}
    ).encode(),
    "Flask's own names": b'{"_flashes": [["<b>", [1]], [{}, null]], "_permanent": "x"}',
    "Flask-Login's names": b'{"_user_id": "1", "_fresh": true, "role": "admin"}',
    "numbers as names inside": b"\x81\xa1a\x81\x01\x02",
    "as deep as allowed": b"\x81\xa1a" + b"\x91" * DEEPEST + b"\x01",
    "as large as allowed": msgspec.msgpack.encode({"a": "x" * 65_000}),
    "an empty name": b'{"": ""}',
}
"""No payloads of ours, but data: whoever can write to the store can write these."""


@pytest.mark.parametrize("name", ["alice", "ada"], ids=["in Redis", "in SQL"])
@pytest.mark.parametrize("kind", PAYLOADS)
def test_damaged_data_ends_the_session_with_an_event(
    site: Site, valkey: RedisServer, kind: str, name: str
) -> None:
    browser = site.signed_in(name)
    (row,) = site.live(name)
    damage(site, valkey, row, PAYLOADS[kind])
    response = browser.get("/account/password")
    assert response.status_code == 401
    assert row.reference in response.text
    (ended,) = site.rows()
    assert ended.end_reason == "damaged"
    assert not ended.purge_pending
    assert site.payload(ended) is None
    assert [e.verb for e in site.events()] == ["session.signed_in", "session.damaged"]
    assert site.events()[1].reference == row.reference
    assert site.events()[1].actor_kind == "system"
    assert not browser.is_signed_in()


def test_a_damaged_pickle_runs_nothing(site: Site, valkey: RedisServer, tmp_path: Path) -> None:
    browser = site.signed_in("alice")
    made = tmp_path / "executed"
    damage(site, valkey, site.live("alice")[0], pickle.dumps(Opens(str(made))))
    assert browser.get("/").status_code == 401
    assert not made.exists()


def test_a_post_with_damaged_data_is_a_401_and_changes_nothing(
    site: Site, valkey: RedisServer
) -> None:
    browser = site.signed_in("alice")
    token = browser.token("/account/password")
    damage(site, valkey, site.live("alice")[0], b"\xc1")
    response = browser.client.post("/", data={"csrf_token": token, "note": "milk"})
    assert response.status_code == 401


def test_json_is_told_with_a_401_too(site: Site, valkey: RedisServer) -> None:
    browser = site.signed_in("ada")
    damage(site, valkey, site.live("ada")[0], b"\xc1")
    response = browser.get("/account/password", headers={"Accept": "application/json"})
    assert response.status_code == 401
    assert response.json is not None


def test_one_who_met_damage_signs_in_again(site: Site, valkey: RedisServer) -> None:
    browser = site.signed_in("alice")
    damage(site, valkey, site.live("alice")[0], b"\xc1")
    browser.get("/")
    assert browser.sign_in("alice").status_code == 303
    assert browser.is_signed_in()


def test_damage_met_by_two_requests_is_recorded_once(site: Site, valkey: RedisServer) -> None:
    browser = site.signed_in("alice")
    copy = with_cookie(site, browser.cookie or "")
    damage(site, valkey, site.live("alice")[0], b"\xc1")
    browser.get("/")
    copy.get("/")
    assert len(site.events("session.damaged")) == 1


PAGES = ("", "?q=alice", "?state=ended", "?format=json", "?format=csv")


@pytest.mark.admin
@pytest.mark.parametrize("store", ["redis", "sql"])
def test_staff_see_every_hostile_payload_and_nothing_runs(
    make_site: Callable[..., Site], valkey: RedisServer, tmp_path: Path, store: str
) -> None:
    site = make_site(
        SESSION_LIMIT=100, SESSION_MAX_BYTES=65536, SESSION_STORE_BY_ROLE={"member": store}
    )
    made = tmp_path / "executed"
    hostile = PAYLOADS | READABLE
    hostile["a pickle that acts"] = pickle.dumps(Opens(str(made)))
    hostile["larger when it is written"] = msgspec.msgpack.encode({"a": b"x" * 60_000})
    references = start(site, *["alice"] * len(hostile))
    planted = dict(zip(hostile, site.live("alice"), strict=True))
    for kind, payload in hostile.items():
        damage(site, valkey, planted[kind], payload)
    for name in ("ada", "otto"):
        browser = site.signed_in(name)
        for query in PAGES:
            listed = browser.get(f"/admin/sessions{query}")
            assert listed.status_code == 200, query
            assert "<script>alert" not in listed.text
        for kind, row in planted.items() if name == "otto" else ():
            page = browser.get(f"/admin/sessions/{row.reference}")
            assert page.status_code == 200, kind
            assert "<script>alert" not in page.text, kind
            assert "<img src=x" not in page.text, kind
            assert (page.text.count("&lt;script&gt;alert") > 0) == (kind == "names with markup")
        for path in ("/admin/", "/admin/stores", "/admin/statistics", "/admin/users"):
            assert browser.get(path).status_code < 500
    assert not made.exists()
    assert {row.reference for row in site.live("alice")} == set(references)


@pytest.mark.parametrize("name", ["alice", "ada"], ids=["in Redis", "in SQL"])
def test_planted_data_that_can_be_read_is_data_that_can_be_changed_and_no_more(
    site: Site, valkey: RedisServer, name: str
) -> None:
    """Names that Flask-Login or Rollcall would heed elsewhere make nobody somebody else."""

    def look() -> str:
        return f"{current_user.name} {current_user.role} {session.get('a') is not None}"

    def change() -> str:
        session["more"] = "changed"
        return "changed"

    add_view(site, "/look", look)
    add_view(site, "/change", change)
    add_view(site, "/more", lambda: str(session.get("more")))
    for kind, payload in READABLE.items():
        browser = site.signed_in(name)
        (row,) = site.live(name)
        damage(site, valkey, row, payload)
        assert browser.get("/look").text.startswith(f"{name} {CAST[name]}"), kind
        assert browser.get("/account/sessions").status_code == 200, kind
        if kind != "as large as allowed":
            assert browser.get("/change").text == "changed", kind
            assert browser.get("/more").text == "changed", kind
        assert [each.reference for each in site.live(name)] == [row.reference], kind
        site.signed_in(name)


@pytest.mark.admin
def test_a_damaged_sessions_value_names_are_not_shown_and_no_500(
    site: Site, valkey: RedisServer
) -> None:
    site.signed_in("alice")
    (row,) = site.live("alice")
    damage(site, valkey, row, b"\xc1")
    ada = site.signed_in("ada")
    assert ada.get(f"/admin/sessions/{row.reference}").status_code == 200


def test_a_key_of_another_type_is_damage_too(site: Site, valkey: RedisServer) -> None:
    browser = site.signed_in("alice")
    (row,) = site.live("alice")
    with valkey.client() as client:
        client.delete(f"rollcall:session:{row.data_key}")
        client.rpush(f"rollcall:session:{row.data_key}", "not", "ours")
    assert browser.get("/account/sessions").status_code == 401
    assert [r.end_reason for r in site.rows()] == ["damaged"]


def test_damage_found_while_an_error_page_is_made_leaves_that_page(
    site: Site, valkey: RedisServer
) -> None:
    browser = site.signed_in("alice")
    damage(site, valkey, site.live("alice")[0], b"\xc1")
    assert browser.get("/nowhere").status_code == 404
    assert [r.end_reason for r in site.rows()] == ["damaged"]
