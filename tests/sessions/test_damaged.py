"""A payload that cannot be read is an ended session and an event: not a 500, and nothing runs."""

import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from tests.servers import RedisServer
from tests.sessions.helpers import with_cookie
from tests.sessions.test_payload import Opens
from tests.site import Site

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
}


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
    assert ended.purged_at is not None
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
