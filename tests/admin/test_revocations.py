"""Receipts and the list of revocations: nothing is called gone before a second look has found nothing."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select, update

from app import create_app
from app.admin.words import is_done, receipt_verdict
from app.columns import clock
from app.people.models import User
from app.sessions import revocation
from app.sessions.later import later
from app.sessions.models import Revocation, UserSession
from app.sessions.receipt import Receipt, receipt
from app.sessions.stores import Stores, budget
from app.sessions.transaction import live
from tests import servers
from tests.sessions.helpers import bring_back
from tests.sessions.test_receipt import deaf
from tests.sessions.test_revocation import CLI, commanding, start
from tests.site import PASSWORD, UNHURRIED, Browser, Site, clock_moved, settings

STEP_UP_AGE = 601
AT = datetime(2026, 11, 20, 11, 4, tzinfo=UTC)
DONE = Receipt(
    revocation_id=1,
    ended=3,
    already_ended=0,
    purged=3,
    purge_pending=0,
    present=0,
    waiting=0,
    finished=True,
    reason="incident",
    note="",
    tell=False,
    actor_name="ada",
    confirmed_at=AT,
    finished_at=AT,
    read_back_at=AT,
    held_back=None,
    left_out=0,
    by_store={},
)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"finished": False}, "Confirmed and under way."),
        ({"read_back_at": None}, "Not read back yet."),
        ({"purge_pending": 1}, "Not all of their data is deleted."),
        ({"present": 1, "purge_pending": 1}, "Not all of their data is deleted."),
    ],
)
def test_a_receipt_says_what_is_left_and_is_not_done(
    site: Site, left: dict[str, object], said: str
) -> None:
    receipt = replace(DONE, **left)
    with site.app.test_request_context():
        verdict = receipt_verdict(receipt)
    assert said in verdict.head
    assert verdict.kind == "warning"
    assert not is_done(receipt)


def test_a_receipt_is_done_when_a_second_look_found_nothing(site: Site) -> None:
    with site.app.test_request_context():
        verdict = receipt_verdict(DONE)
    assert verdict.kind == "good"
    assert "3 of 3 gone" in verdict.strong
    assert is_done(DONE)


def test_a_receipt_says_which_of_those_that_are_gone_it_did_not_end(site: Site) -> None:
    with site.app.test_request_context():
        verdict = receipt_verdict(replace(DONE, ended=2, already_ended=1))
    assert verdict.strong == "3 of 3 gone."
    assert "Of these, 1 session had ended already." in verdict.text


def test_nothing_is_called_gone_while_its_store_is_down(
    site: Site, valkey: servers.RedisServer
) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    valkey.kill()
    assert "Retry the deletion now" in ada.revoke(row.reference).text
    listed = ada.get("/admin/revocations").text
    assert "Not read back" in listed
    assert "Gone" not in listed
    body = ada.get("/admin/revocations/1?format=json").json
    assert body is not None
    assert (body["purge_pending"], body["read_back_at"]) == (1, None)
    retried = ada.post("/admin/revocations/1/purge", form="/admin/revocations/1")
    assert retried.status_code == 303
    assert "It is not done yet" in ada.get("/admin/revocations/1").text


def test_a_receipt_without_a_read_back_offers_another_look_until_one_found_nothing(
    site: Site,
) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    assert "read back now" not in ada.revoke(row.reference).text
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(Revocation).values(read_back_at=None))
    page = ada.get("/admin/revocations/1").text
    assert "Not read back yet." in page
    assert "Go on and read back now" in page
    assert "Go on and read back now" not in site.signed_in("vera").get("/admin/revocations/1").text
    ada.post("/admin/revocations/1/purge", form="/admin/revocations/1")
    page = ada.get("/admin/revocations/1").text
    assert "All data is deleted. A second look found none." in page
    assert "1 of 1 gone." in page
    assert "Gone" in ada.get("/admin/revocations").text


def test_the_pages_promise_no_more_than_the_code_does(site: Site) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    frozen = ada.post(
        "/admin/revocations", {"reference": row.reference}, form="/admin/sessions"
    ).location
    review = ada.get(frozen).text
    assert "in batches, each with its events" in review
    assert "one transaction" not in review
    trail = ada.get("/admin/audit").text
    assert "<h1>Audit trail</h1>" in trail
    assert "each is kept for 365 days" in trail
    assert "Audit log" not in review + trail


def test_cancelling_a_review_leads_back_to_the_list_it_came_from(site: Site) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    came_from = "/admin/sessions?role=member&store=redis"
    choice = {"reference": row.reference, "next": came_from}
    review = ada.post("/admin/revocations", choice, form="/admin/sessions").location
    assert f'href="{came_from.replace("&", "&amp;")}">Cancel</a>' in ada.get(review).text
    elsewhere = review.partition("?")[0] + "?next=//evil.example"
    assert 'href="/admin/sessions">Cancel</a>' in ada.get(elsewhere).text


def test_cancelling_a_review_leads_back_to_the_user_or_the_session_it_came_from(site: Site) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    for page in (f"/admin/users/{site.user_id('alice')}", f"/admin/sessions/{row.reference}"):
        assert f'name="next" value="{page}"' in ada.get(page).text


def test_the_password_leads_back_to_a_review_whose_address_is_long(site: Site) -> None:
    ada = site.signed_in("ada")
    with clock_moved(STEP_UP_AGE):
        site.signed_in("vera")
        (row,) = site.live("vera")
        choice = {"reference": row.reference, "next": f"/admin/sessions?client={'%20' * 600}"}
        review = ada.post("/admin/revocations", choice, form="/account/sessions").location
        asked = ada.get(review).location
        assert asked.startswith("/reauth")
        (back,) = parse_qs(urlsplit(asked).query)["next"]
        done = ada.post("/reauth", {"password": PASSWORD, "next": back})
        assert urlsplit(done.location).path == urlsplit(review).path


def choose(site: Site, staff: Browser, *names: str) -> str:
    """Freeze these people's sessions by ticks and return the review's address."""
    ticked = [row.reference for name in names for row in site.live(name)]
    frozen = staff.post("/admin/revocations", {"reference": ticked}, form="/account/password")
    assert frozen.location is not None
    return frozen.location


def match(staff: Browser, query: str) -> str:
    """Freeze all that match a filter and return the review's address."""
    path = f"/admin/revocations?{query}"
    location = staff.post(path, {"all_matching": "1"}, form="/account/password").location
    assert location is not None
    return location


TYPED = {
    "reason": "policy",
    "note": "Ticket 4711: <b>lost</b>",
    "tell_user": "y",
    "new_password": "y",
    "count": "1",
}


def test_what_was_typed_is_still_there_after_the_password_was_asked_for(site: Site) -> None:
    start(site, "vera")
    ada, otto = site.signed_in("ada"), site.signed_in("otto")
    review = f"{choose(site, ada, 'vera')}?next=/admin/sessions?role=viewer"
    token = ada.token(review)
    with clock_moved(STEP_UP_AGE):
        with site.system.ledger.transaction() as tx:
            late = {"expires_at": clock(200)}
            tx.connection.execute(update(Revocation).values(late))
        asked = ada.client.post(review, data={**TYPED, "csrf_token": token})
        led = urlsplit(asked.location or "")
        assert led.path == "/reauth"
        assert "4711" not in led.query
        assert "policy" not in led.query
        assert len(site.live("vera")) == 1
        assert otto.get(review).status_code == 404
        back = ada.post("/reauth", {"password": PASSWORD, "next": parse_qs(led.query)["next"][0]})
        assert back.location == review
        page = ada.get(review).text
        assert "What you typed before your password was asked for is still here." in page
        assert '<option selected value="policy">' in page
        assert "Ticket 4711: &lt;b&gt;lost&lt;/b&gt;</textarea>" in page
        assert re.search(r'<input[^>]* checked [^>]*name="tell_user"', page)
        assert re.search(r'<input[^>]* checked [^>]*name="new_password"', page)
        assert re.search(r'<input[^>]*name="count"[^>]* value="1"', page)
        assert 'href="/admin/sessions?role=viewer">Cancel' in page
        ada.post(review, TYPED)
        assert site.live("vera") == []
    (row,) = site.system.ledger.read(select(Revocation.draft, Revocation.note))
    assert tuple(row) == (None, TYPED["note"])


def test_a_step_up_is_asked_for_where_only_the_box_asks_for_it(site: Site) -> None:
    start(site, "alice")
    ada = site.signed_in("ada")
    review = choose(site, ada, "alice")
    with clock_moved(STEP_UP_AGE):
        with site.system.ledger.transaction() as tx:
            tx.connection.execute(update(Revocation).values(expires_at=clock(200)))
        asked = ada.post(review, {"reason": "incident", "new_password": "y"})
        assert asked.location is not None
        assert asked.location.startswith("/reauth")
        assert len(site.live("alice")) == 1
        assert ada.post(review, {"reason": "incident"}).location == review
    assert site.live("alice") == []


def test_who_matches_later_is_offered_and_not_swept_in(site: Site) -> None:
    start(site, "alice")
    ada = site.signed_in("ada")
    review = match(ada, "role=member&client=unknown+client")
    start(site, "bob")
    ada.post(review, {"reason": "incident"})
    assert [len(site.live(name)) for name in ("alice", "bob")] == [0, 1]
    page = ada.get(review).text
    assert "1 session matches the same choice now." in page
    found = re.search(r'href="([^"]+)">Show what matches now', page)
    assert found
    (row,) = site.live("bob")
    listed = ada.get(f"{unescape(found[1])}&format=json").json
    assert listed is not None
    assert [each["reference"] for each in listed["sessions"]] == [row.reference]
    assert "same choice" not in ada.revoke(row.reference).text, "a choice by hand has no filter"
    assert "same choice" not in ada.get(review).text


def test_of_one_user_and_of_everyone_it_is_offered_too(site: Site) -> None:
    start(site, "alice", "vera")
    ada = site.signed_in("ada")
    user = {"user": str(site.user_id("alice"))}
    one = ada.post("/admin/revocations", user, form="/account/password").location
    assert one is not None
    ada.post(one, {"reason": "incident"})
    start(site, "alice")
    assert f'href="/admin/users/{user["user"]}">Show what matches now' in ada.get(one).text
    everyone = match(ada, "state=live")
    review = ada.get(everyone).text
    assert "Type 2 to confirm" in review
    assert "Your own session is left out." in review
    ada.post(everyone, {"reason": "incident", "count": "2"})
    assert [row.name for row in site.rows() if row.ended_at is None] == ["ada"]
    page = ada.get(everyone).text
    assert "2 of 2 gone." in page
    assert "same choice" not in page, "one's own session was held back"
    start(site, "bob")
    assert "1 session matches the same choice now." in ada.get(everyone).text


def test_somebody_named_everyone_is_not_everyone(site: Site) -> None:
    with site.system.ledger.transaction() as tx:
        named = update(User).where(User.name == "bob").values(name="everyone", name_key="everyone")
        tx.connection.execute(named)
    start(site, "alice", "everyone")
    ada = site.signed_in("ada")
    review = match(ada, "q=everyone")
    assert "all that matched" in ada.get(review).text
    ada.post(review, {"reason": "incident"})
    assert "same choice" not in ada.get(review).text
    start(site, "everyone")
    assert "1 session matches the same choice now." in ada.get(review).text
    assert len(site.live("alice")) == 1


def test_a_choice_that_is_no_filter_offers_nothing(site: Site) -> None:
    """One that was cut short to fit would match others."""
    with site.app.test_request_context():
        for matched_by in ("", "user:" + "a" * 495, "reference:7k3m9q2xva", "user_id:x"):
            assert later(replace(DONE, matched_by=matched_by)) is None
        assert later(replace(DONE, matched_by="role:member")) is not None


def test_a_look_that_does_not_fit_into_a_request_is_left_to_the_worker(
    migrated_postgresql_url: str, valkey: servers.RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(create_app(settings(migrated_postgresql_url, valkey.url)))
    references = start(site, "alice", "bob", "vera", "ops")
    with commanding(site):
        done = revocation.revoke(references, actor=CLI, reason="incident")
    ada = site.signed_in("ada")
    look = Stores.present

    def slowly(*arguments: Any) -> Any:
        budget.charge(0.4 * UNHURRIED)
        return look(*arguments)

    monkeypatch.setattr("app.sessions.receipt._BATCH", 1)
    monkeypatch.setattr(Stores, "present", slowly)
    retry = f"/admin/revocations/{done.revocation_id}/purge"
    assert ada.post(retry, form="/account/password").status_code == 303
    with commanding(site):
        revocation.resume(site.system)
    counted = receipt(site.system, done.revocation_id)
    site.close()
    assert counted is not None
    assert counted.read_back_at is not None
    assert counted.read_back_at > (done.read_back_at or AT)


def test_only_the_store_that_is_named_is_tried_again(
    site: Site, valkey: servers.RedisServer
) -> None:
    start(site, "alice", "vera")
    ada = site.signed_in("ada")
    review = choose(site, ada, "alice", "vera")
    (vera,) = site.live("vera")
    valkey.kill()
    kind = deaf(site, "sql")
    ada.post(review, {"reason": "incident", "count": "2"})
    site.system.stores["sql"].__class__ = kind
    page = ada.get(review).text
    assert "Retry in Redis" in page
    assert "Retry in SQL" in page
    again = {"form": review, "data": {"store": "redis"}}
    assert ada.post(f"{review}/purge", **again).location == review
    assert "It is not done yet" in ada.get(review).text
    bring_back(site, valkey)
    ada.post(f"{review}/purge", **again)
    page = ada.get(review).text
    assert "Tried again. Redis has deleted its data." in page
    assert "Retry in Redis" not in page
    assert "Retry in SQL" in page
    assert site.payload(vera) is not None, "what another store holds was not tried again"
    ada.post(f"{review}/purge", {"store": "sql"}, form=review)
    assert site.payload(vera) is None
    assert "2 of 2 gone." in ada.get(review).text
    assert ada.post(f"{review}/purge", {"store": "moon"}, form=review).status_code == 400


def test_the_progress_of_a_long_revocation_is_the_ledgers(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=9)
    start(site, *["alice"] * 3)
    ada = site.signed_in("ada")
    review = choose(site, ada, "alice")
    monkeypatch.setattr(revocation, "FIRST_BATCH", 1)
    monkeypatch.setattr(revocation, "_ENOUGH_BUDGET", 60)
    ada.post(review, {"reason": "incident"})
    for _ in range(2):
        page = ada.get(review).text
        assert "Confirmed and under way." in page
        assert re.findall(r'<progress max="3" value="(\d)"', page) == ["1", "1"]
    body = ada.get(f"{review}?format=json").json
    assert body is not None
    assert [body[name] for name in ("ended", "waiting", "purged", "done")] == [1, 2, 1, False]
    assert body["verdict"]["strong"] == "Ending: 1 session so far."
    with site.app.app_context():
        revocation.resume(site.system)
    assert "<progress" not in ada.get(review).text
    body = ada.get(f"{review}?format=json").json
    assert body is not None
    assert [body[name] for name in ("ended", "waiting", "purged", "done")] == [3, 0, 3, True]
    assert (body["verdict"]["kind"], body["verdict"]["strong"]) == ("good", "3 of 3 gone.")
    assert body["by_store"] == {"redis": {"ended": 3, "purged": 3, "pending": 0}}


def test_what_waits_for_a_lock_is_confirmed_and_left_to_the_worker(shared_site: Site) -> None:
    start(shared_site, "alice", "bob")
    ada = shared_site.signed_in("ada")
    review = choose(shared_site, ada, "alice", "bob")
    with shared_site.system.ledger.transaction() as tx:
        tx.lock_users([shared_site.user_id("bob")])
        assert ada.post(review, {"reason": "incident"}).status_code == 303
        page = ada.get(review).text
        assert "Confirmed and under way." in page
        assert '<progress max="2" value="0"' in page
    with shared_site.app.app_context():
        revocation.resume(shared_site.system)
    assert "2 of 2 gone." in ada.get(review).text
    assert {row.name for row in shared_site.rows(live())} == {"ada"}


def test_a_review_says_what_has_ended_since(site: Site) -> None:
    start(site, "alice", "bob")
    ada = site.signed_in("ada")
    review = choose(site, ada, "alice", "bob")
    assert "ended since" not in ada.get(review).text
    site.signed_in("ops").revoke(site.live("alice")[0].reference)
    page = ada.get(review).text
    assert "1 session in this list has ended since." in page
    assert "What is confirmed ends the others." in page
    site.signed_in("ops").revoke(site.live("bob")[0].reference)
    assert "Nothing is left to end; go back and choose again." in ada.get(review).text


def exported(browser: Browser, path: str) -> list[dict[str, str]]:
    response = browser.get(f"{path}?format=csv")
    assert response.status_code == 200
    assert response.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(response.text)))


def test_the_csv_of_a_receipt_has_each_session_of_the_set(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=9)
    monkeypatch.setattr("app.admin.revocations.BATCH", 2)
    with site.system.ledger.transaction() as tx:
        formula = update(User).where(User.name == "bob").values(name="=1+1", name_key="=1+1")
        tx.connection.execute(formula)
    references = start(site, "alice", "=1+1", "alice")
    ada = site.signed_in("ada")
    review = choose(site, ada, "alice", "=1+1")
    assert ada.get(f"{review}?format=csv").status_code == 400
    site.signed_in("ops").revoke(references[0], "lost_device")
    ada.post(review, {"reason": "incident"})
    rows = exported(site.signed_in("vera"), review)
    assert list(rows[0]) == [
        "reference",
        "user",
        "role",
        "store",
        "ended_at",
        "end_reason",
        "ended_by",
        "reason_code",
        "by_this",
        "purged",
    ]
    assert [row["reference"] for row in rows] == references
    assert [row["user"] for row in rows] == ["alice", "'=1+1", "alice"]
    assert [row["by_this"] for row in rows] == ["False", "True", "True"]
    assert [row["ended_by"] for row in rows] == ["ops", "ada", "ada"]
    assert [row["reason_code"] for row in rows] == ["lost_device", "incident", "incident"]
    assert {row["end_reason"] for row in rows} == {"revoked"}
    assert {row["purged"] for row in rows} == {"True"}
    assert all(re.fullmatch(r"[-0-9]{10}T[:.0-9]{12}Z", row["ended_at"]) for row in rows)
    (event,) = site.events("data.exported")
    details = json.loads(event.details)
    number = urlsplit(review).path.rpartition("/")[2]
    listed = (details["list"], details["format"], details["rows"])
    assert (event.actor_name, *listed) == ("vera", f"revocation-{number}", "csv", 3)


def test_the_csv_of_everyones_receipt_has_whom_it_ended(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=9)
    monkeypatch.setattr("app.admin.revocations.BATCH", 2)
    before, *references = start(site, "bob", "alice", "bob", "alice")
    ops, ada = site.signed_in("ops"), site.signed_in("ada")
    ops.revoke(before)
    ops.sign_out()
    everyone = match(ada, "state=live")
    site.signed_in("ops").revoke(references.pop())
    ada.get(everyone)
    ada.post(everyone, {"reason": "incident", "count": "3"})
    body = ada.get(f"{everyone}?format=json").json
    assert body is not None
    rows = exported(ada, everyone)
    assert len(rows) == body["ended"]
    assert [row["reference"] for row in rows] == references
    assert {(row["by_this"], row["purged"]) for row in rows} == {("True", "True")}
    own = next(row.reference for row in site.rows(live()) if row.name == "ada")
    assert (body["matched_by"], body["held_back"]) == ("everyone", own)


def test_the_csv_of_a_receipt_says_what_has_not_ended_and_whose_data_is_left(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=9)
    references = start(site, *["alice"] * 3)
    ada = site.signed_in("ada")
    review = choose(site, ada, "alice")
    monkeypatch.setattr(revocation, "FIRST_BATCH", 1)
    monkeypatch.setattr(revocation, "_ENOUGH_BUDGET", 60)
    ada.post(review, {"reason": "incident"})
    rows = exported(ada, review)
    assert [row["reference"] for row in rows] == references
    assert [bool(row["ended_at"]) for row in rows] == [True, False, False]
    assert [row["by_this"] for row in rows] == ["True", "False", "False"]
    assert [row["purged"] for row in rows] == ["True", "False", "False"]
    ended = site.rows(UserSession.reference == references[0])[0]
    with site.system.ledger.transaction() as tx:
        tx.purge_again([ended.id])
    assert [row["purged"] for row in exported(ada, review)] == ["False"] * 3


def test_the_json_of_a_receipt_says_who_confirmed_what_and_why(site: Site) -> None:
    start(site, "alice")
    ada = site.signed_in("ada")
    review = match(ada, "q=alice&role=member")
    ada.post(review, {"reason": "policy", "note": "Ticket 4711", "tell_user": "y"})
    body = ada.get(f"{review}?format=json").json
    assert body is not None
    said = ("actor_name", "reason", "note", "tell_user", "held_back")
    assert [body[name] for name in said] == ["ada", "policy", "Ticket 4711", True, None]
    (stored,) = site.system.ledger.read(select(Revocation.matched_by))
    assert body["matched_by"] == stored.matched_by != ""
    for name in ("confirmed_at", "finished_at"):
        assert re.fullmatch(r"[-0-9]{10}T[:.0-9]{12}Z", body[name])
    page = ada.get(review).text
    assert f'href="{review}?format=csv">Export CSV</a>' in page
    assert f'href="{review}?format=json">JSON</a>' in page
    assert "<dt>Chosen</dt><dd>all that matched" in page


def test_who_may_not_see_a_receipt_gets_no_csv_of_it(site: Site) -> None:
    start(site, "alice")
    ada = site.signed_in("ada")
    review = choose(site, ada, "alice")
    ada.post(review, {"reason": "incident"})
    for browser, status in ((site.signed_in("bob"), 403), (site.browser(), 303)):
        for path in (review, "/admin/revocations"):
            assert browser.get(f"{path}?format=csv").status_code == status
    assert ada.get("/admin/revocations/999?format=csv").status_code == 400
    assert site.events("data.exported") == []
