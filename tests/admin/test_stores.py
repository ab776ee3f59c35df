"""The stores page: what each server is, where it and the ledger differ, and putting that right."""

from collections.abc import Callable

import pytest

from app.admin import counts
from app.sessions.models import UserSession
from tests.servers import RedisServer
from tests.sessions.test_revocation import start
from tests.sessions.test_upkeep import lose, run
from tests.site import Site, clock_moved

pytestmark = pytest.mark.admin

DRIFT = "/admin/stores/redis/drift"


def test_the_page_says_what_each_server_is_and_what_to_do_about_its_settings(
    site: Site, valkey: RedisServer
) -> None:
    start(site, "alice")
    vera = site.signed_in("vera")
    with valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        page = vera.get("/admin/stores").text
        client.config_set("maxmemory-policy", "noeviction")
    assert "Its maxmemory-policy is allkeys-lru: short of memory, it drops sessions." in page
    assert "Valkey 9" in page
    assert "SQLite 3" in page
    assert "1 setting of a server is unsafe." in page
    body = vera.get("/admin/stores?format=json").json
    assert body is not None
    redis, sql = body["stores"]
    assert (redis["product"], redis["rows"], redis["live"], redis["missing"]) == ("Valkey", 1, 1, 0)
    assert (sql["product"], sql["rows"], sql["unsafe"]) == ("SQLite", 1, [])
    assert ",Valkey,9." in vera.get("/admin/stores?format=csv").text


def test_a_silent_store_is_named_and_the_page_goes_on(site: Site, valkey: RedisServer) -> None:
    start(site, "alice")
    ops = site.signed_in("ops")
    valkey.kill()
    page = ops.get("/admin/stores")
    assert page.status_code == 200
    assert "Redis did not answer." in page.text
    assert "SQLite 3" in page.text
    assert "Nothing was compared" in ops.get(DRIFT).text
    posted = ops.post(DRIFT, form="/account/sessions")
    assert posted.status_code == 303
    assert "Redis did not answer: nothing was done." in ops.get("/admin/stores").text


def test_stores_that_take_the_whole_deadline_are_named(
    make_site: Callable[..., Site],
    migrated_postgresql_url: str,
    valkey: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counts, "_LOOK", 1.0)  # one store takes what three may
    site = make_site(DATABASE_URL=migrated_postgresql_url)
    ops = site.signed_in("ops")
    with valkey.frozen():
        page = ops.get("/admin/stores")
    assert page.status_code == 200
    assert "Redis, SQL did not answer." in page.text
    assert "get an error page wherever their data is needed" in page.text


def test_a_look_changes_nothing_and_says_what_would_happen(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=50)
    references = start(site, *["alice"] * 40)
    lose(site, valkey, 2)
    ops = site.signed_in("ops")
    seen = ops.get(f"{DRIFT}?format=json").json
    assert seen is not None
    assert seen["absent"] == references[:2]
    assert (seen["looked"], seen["missing_twice"], seen["too_many"]) == (40, [], False)
    page = ops.get(DRIFT).text
    assert page.count('name="reference"') == 2
    assert "Noted" in page
    assert [row.missing_since for row in site.rows(UserSession.missing_since.is_not(None))] == []


def test_what_was_shown_is_settled_in_two_looks_and_nothing_else(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=50)
    references = start(site, *["alice"] * 40)
    lose(site, valkey, 2)
    ops = site.signed_in("ops")
    first, second = references[:2]
    ops.post(DRIFT, {"reference": [first, references[5]]})
    assert "Noted for a second look: 1 session." in ops.get(DRIFT).text
    assert len(site.live("alice")) == 40
    with clock_moved(21):
        assert "Ends as lost" in ops.get(DRIFT).text
        ops.post(DRIFT, {"reference": first})
        assert "Ended as lost: 1 session." in ops.get(DRIFT).text
    (ended,) = site.rows(UserSession.ended_at.is_not(None))
    assert (ended.reference, ended.end_reason, ended.ended_by) == (first, "lost", "ops")
    assert [event.actor_name for event in site.events("session.lost")] == ["ops"]
    assert second in {row.reference for row in site.live("alice")}


def test_too_many_are_never_ended(make_site: Callable[..., Site], valkey: RedisServer) -> None:
    site = make_site(SESSION_LIMIT=50)
    references = start(site, *["alice"] * 20)
    lose(site, valkey, 3)
    run(site)
    ops = site.signed_in("ops")
    with clock_moved(60):
        page = ops.get(DRIFT).text
        assert "Too many are missing to be true." in page
        assert "Do this now" not in page
        assert "ends as lost" not in page
        ops.post(DRIFT, {"reference": references[:3]}, form="/account/sessions")
    assert len(site.live("alice")) == 20


def test_data_of_the_ended_is_deleted_on_demand(site: Site, valkey: RedisServer) -> None:
    start(site, "alice")
    (row,) = site.live("alice")
    held = site.payload(row)
    site.signed_in("ada").revoke(row.reference)
    with site.system.ledger.transaction() as tx:
        tx.purge_again([row.id])
    with valkey.client() as client:
        client.set(f"rollcall:session:{row.data_key}", b"12345678" + (held or b""))
    ops = site.signed_in("ops")
    assert "1 ended session whose data is not deleted" in ops.get(DRIFT).text
    ops.post(DRIFT)
    assert site.payload(row) is None
    assert "No difference" in ops.get(DRIFT).text


def test_who_may_not_put_it_right_may_look(site: Site) -> None:
    vera = site.signed_in("vera")
    assert vera.get(DRIFT).status_code == 200
    assert vera.post(DRIFT, form="/account/sessions").status_code == 403
    assert vera.get("/admin/stores/floppy/drift").status_code == 404


def test_the_password_is_asked_again_first(site: Site) -> None:
    ops = site.signed_in("ops")
    with clock_moved(601):
        answer = ops.post(DRIFT, form="/account/sessions")
        later = ops.post(DRIFT, {"after": "7"}, form="/account/sessions")
    assert answer.location == f"/reauth?next={DRIFT}"
    assert later.location == f"/reauth?next={DRIFT}?after%3D7"
