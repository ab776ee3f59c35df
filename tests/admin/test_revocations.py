"""Receipts and the list of revocations: nothing is called gone before a second look has found nothing."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from app.admin.words import is_done, receipt_verdict
from app.sessions.models import Revocation
from app.sessions.receipt import Receipt
from tests import servers
from tests.site import Site

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
