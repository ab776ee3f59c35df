"""The overview's checks say what is known, and repeat the worker's alarm."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import update

from app.admin import counts
from app.audit.models import AuditEvent
from app.sessions import upkeep
from app.sessions.models import UserSession
from tests.servers import RedisServer
from tests.sessions.test_revocation import commanding, start
from tests.site import Site, clock_moved


@pytest.fixture
def alarmed(make_site: Callable[..., Site], valkey: RedisServer) -> Site:
    """A site whose Redis lost the data of all members, seen by the worker."""
    site = make_site(SESSION_LIMIT=10)
    for _ in range(6):
        site.signed_in("alice")
    valkey.reset()
    with site.app.app_context():
        assert upkeep.run(site.system).alarms
    return site


def test_nothing_is_said_about_a_look_that_nothing_records(site: Site) -> None:
    page = site.signed_in("ada").get("/admin/").text
    assert "No live session is marked as missing its data" in page
    assert "last look" not in page
    assert "Nothing needs a look." in page


def test_an_alarm_of_the_last_hour_stands_among_the_checks(alarmed: Site) -> None:
    ada = alarmed.signed_in("ada")
    page = ada.get("/admin/").text
    assert "Redis answers, but lacks the data of 6 of 6 live sessions" in page
    assert "Alarm at" in page
    # The alarm, and the worker that has not come again: the missing are said as sessions.
    assert "6 sessions need a look. 1 check needs a look." in page
    body = ada.get("/admin/?format=json").json
    assert body is not None
    assert len(body["alarms"]) == 1


def test_an_alarm_is_said_in_the_language_of_the_page(alarmed: Site) -> None:
    ada = alarmed.signed_in("ada")
    chinese = {"Accept-Language": "zh-Hant"}
    for path in ("/admin/", "/admin/audit?verb=worker.alarm"):
        page = ada.get(path, headers=chinese).text
        assert "Redis 有回應，但缺少 6 個有效工作階段中 6 個的資料" in page
        assert "Nobody was ended" not in page
    with alarmed.system.ledger.transaction() as tx:
        told = update(AuditEvent).where(AuditEvent.verb == "worker.alarm")
        tx.connection.execute(told.values(details={}, note="as it was told once"))
    for path in ("/admin/", "/admin/audit?verb=worker.alarm"):
        assert "as it was told once" in ada.get(path, headers=chinese).text


def test_a_check_that_is_left_out_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST_OVER_LIMIT", 0)
    page = site.signed_in("ada").get("/admin/").text
    assert "Too many sessions to count who holds more than the limit" in page


def test_an_old_alarm_is_history(alarmed: Site) -> None:
    with clock_moved(2 * 3600):
        assert "Alarm at" not in alarmed.signed_in("ada").get("/admin/").text


def test_a_session_without_data_is_not_said_to_end_in_any_case(alarmed: Site) -> None:
    row = alarmed.live("alice")[0]
    page = alarmed.signed_in("ada").get(f"/admin/sessions/{row.reference}").text
    assert "Redis has no data for this session." in page
    assert "but not while the store lacks the data of so many that it raises an alarm" in page


def test_a_session_that_no_worker_records_is_counted_and_listed(site: Site) -> None:
    site.signed_in("alice")
    reference = site.live("alice")[0].reference
    with clock_moved(1921):
        ada = site.signed_in("ada")
        page = ada.get("/admin/").text
        found = re.search(r'1 session is past its deadline.*?href="([^"]*)">Show</a>', page)
        assert found
        listed = ada.get(unescape(found[1]))
        assert "1 session is past its deadline, and no worker has recorded it." in listed.text
        assert "Is the worker running?" in listed.text
        assert reference in listed.text
        assert 'name="reference"' not in listed.text.split("<tbody")[1], "there is nothing to tick"
        with site.app.app_context():
            upkeep.run(site.system)
        assert reference not in ada.get(unescape(found[1])).text
        assert "No session is past a deadline without a record" in ada.get("/admin/").text


def test_the_figure_of_the_revoked_is_the_length_of_its_list(site: Site) -> None:
    ada = site.signed_in("ada")
    for hours in (30, 20, 1):
        site.signed_in("alice")
        (row,) = site.live("alice")
        ada.revoke(row.reference)
        with site.system.ledger.transaction() as tx:
            at = site.system.ledger.now() - timedelta(hours=hours)
            ended = update(UserSession).where(UserSession.reference == row.reference)
            tx.connection.execute(ended.values(ended_at=at))
    page = ada.get("/admin/").text
    found = re.search(r'href="([^"]*reason=revoked)".*?<b>(\d+)</b>', page)
    assert found
    href, figure = found.groups()
    body: Any = ada.get(unescape(href) + "&format=json").json
    assert (int(figure), body["total"]) == (2, 2)


def test_the_last_actions_say_whom_a_revocation_hit(site: Site) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    ada.revoke(row.reference)
    assert "<td>1 session, by hand</td>" in ada.get("/admin/").text


def test_sessions_of_a_store_that_is_configured_no_more_are_counted_under_its_name(
    any_site: Site,
) -> None:
    start(any_site, "alice", "bob", "vera")
    (bob,) = any_site.live("bob")
    with any_site.system.ledger.transaction() as tx:
        of_bob = update(UserSession).where(UserSession.id == bob.id)
        tx.connection.execute(of_bob.values(store="tape"))
    with commanding(any_site):
        found = counts.live_counts()
    assert found == counts.LiveCounts({"redis": 1, "sql": 1, "tape": 1}, active=3)
