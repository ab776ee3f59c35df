"""What the worker does in a pass, and when it rather does nothing and raises an alarm."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from app.audit.trail import Actor
from app.sessions import upkeep
from app.sessions.freeze import Targets, freeze
from app.sessions.revocation import revoke
from app.sessions.upkeep import Pass
from tests.processes.web import in_background
from tests.servers import RedisServer
from tests.sessions.helpers import bring_back
from tests.sessions.test_revocation import alive, commanding, start
from tests.site import Site, clock_at, clock_moved

CLI = Actor.cli("root")
DAY = 24 * 3600


def run(site: Site, after: float = 0, look_again: float = 0.0) -> Pass:
    with site.app.app_context(), clock_moved(after):
        return upkeep.run(site.system, look_again=look_again)


def lose(site: Site, valkey: RedisServer, count: int) -> None:
    """Take the data of the oldest live sessions out of Redis, past the code under test."""
    rows = [row for row in site.rows() if row.ended_at is None and row.store == "redis"]
    with valkey.client() as client:
        for row in rows[:count]:
            assert client.delete(f"rollcall:session:{row.data_key}") == 1


def test_a_pass_over_nothing_does_nothing(any_site: Site) -> None:
    assert run(any_site) == Pass()
    assert any_site.events() == []


def test_a_session_past_its_idle_deadline_expires_with_that_cause(any_site: Site) -> None:
    start(any_site, "alice", "vera")
    assert run(any_site, 901).expired == 1
    assert run(any_site, 1801).expired == 1
    assert {row.name: row.end_reason for row in any_site.rows()} == {
        "alice": "idle_timeout",
        "vera": "idle_timeout",
    }
    assert not all(row.purge_pending for row in any_site.rows())
    assert [e.reason for e in any_site.events("session.expired")] == ["idle_timeout"] * 2
    assert {e.actor_name for e in any_site.events("session.expired")} == {"worker"}


def test_a_session_past_its_absolute_deadline_expires_with_that_cause(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_IDLE_TIMEOUT=1000, SESSION_ABSOLUTE_TIMEOUT=1000)
    start(site, "alice")
    run(site, 1001)
    assert [row.end_reason for row in site.rows()] == ["absolute_timeout"]


def test_of_two_deadlines_that_have_passed_the_first_is_the_cause(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_IDLE_TIMEOUT=1000, SESSION_ABSOLUTE_TIMEOUT=2000)
    start(site, "alice")
    run(site, 5000)
    assert [row.end_reason for row in site.rows()] == ["idle_timeout"]


def test_a_session_that_is_live_is_left_alone(any_site: Site) -> None:
    (reference,) = start(any_site, "alice")
    (row,) = any_site.rows()
    with clock_at(any_site, row.idle_expires_at - timedelta(seconds=1)):
        assert run(any_site).expired == 0
    assert alive(any_site) == {reference}


def test_expiring_runs_in_batches(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=50)
    start(site, *["alice"] * 7)
    monkeypatch.setattr(upkeep, "BATCH", 3)
    assert run(site, 1801).expired == 7


def test_lost_data_is_lost_after_two_looks_a_pass_apart(
    any_site: Site, valkey: RedisServer
) -> None:
    (reference,) = start(any_site, "alice")
    lose(any_site, valkey, 1)
    first = run(any_site, 0, look_again=20.0)
    assert (first.missing, first.lost) == (1, 0)
    assert alive(any_site) == {reference}
    soon = run(any_site, 19, look_again=20.0)
    assert (soon.missing, soon.lost) == (1, 0)
    second = run(any_site, 21, look_again=20.0)
    assert (second.missing, second.lost) == (1, 1)
    (row,) = any_site.rows()
    assert row.end_reason == "lost"
    assert [e.reference for e in any_site.events("session.lost")] == [reference]


def test_data_that_is_found_again_counts_from_the_start(site: Site, valkey: RedisServer) -> None:
    start(site, "alice")
    (row,) = site.live("alice")
    name = f"rollcall:session:{row.data_key}"
    with valkey.client() as client:
        held = client.get(name)
        assert isinstance(held, bytes)
        client.delete(name)
        run(site, 0, look_again=20.0)
        client.set(name, held, ex=600)
        run(site, 10, look_again=20.0)
        client.delete(name)
    assert run(site, 25, look_again=20.0).lost == 0
    assert run(site, 50, look_again=20.0).lost == 1


def test_more_than_five_in_a_hundred_missing_is_an_alarm_that_ends_nobody(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=200)
    references = start(site, *["alice"] * 30)
    lose(site, valkey, 30)
    for at in (0, 30, 60):
        done = run(site, at)
        assert done.lost == 0
        assert len(done.alarms) == 1
        assert "30 of 30" in done.alarms[0]
    assert alive(site) == set(references)
    (alarm,) = site.events("worker.alarm")
    assert (alarm.result, alarm.reason) == ("alarm", "redis")


def test_up_to_five_in_a_hundred_are_ended(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=200)
    start(site, *["alice"] * 120)
    lose(site, valkey, 6)
    run(site, 0)
    assert run(site, 30).lost == 6
    lose(site, valkey, 7)
    assert run(site, 60).alarms
    assert len(alive(site)) == 114


def test_what_is_revoked_while_the_worker_looks_is_not_missing(any_site: Site) -> None:
    references = start(any_site, "alice", "bob")

    @event.listens_for(any_site.system.ledger.engine, "after_cursor_execute")
    def revoked_between(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "user_sessions.missing_since" in statement and references:
            theirs = [references.pop() for _ in (1, 2)]
            in_background(lambda: _revoke(any_site, theirs)).result(10)

    done = run(any_site)
    assert not references
    assert (done.missing, done.lost, done.alarms) == (0, 0, [])


def _revoke(site: Site, references: list[str]) -> None:
    with commanding(site):
        assert revoke(references, actor=CLI, reason="incident").purged == len(references)


def test_an_alarm_in_one_store_does_not_stop_the_other(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=50)
    start(site, *["alice"] * 10, "vera")
    lose(site, valkey, 10)
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(text("DELETE FROM session_payloads"))
    run(site, 0)
    done = run(site, 30)
    assert (len(done.alarms), done.lost) == (1, 1)
    assert site.live("vera") == []


def test_a_silent_store_loses_nobody_and_the_pass_goes_on(site: Site, valkey: RedisServer) -> None:
    alice, _vera = start(site, "alice", "vera")
    valkey.kill()
    done = run(site, 901)
    assert done.silent == ["redis"]
    assert (done.expired, done.lost, done.missing) == (1, 0, 0)
    assert alive(site) == {alice}


def test_purges_are_retried_until_they_are_done(site: Site, valkey: RedisServer) -> None:
    (alice,) = start(site, "alice")
    (row,) = site.live("alice")
    valkey.kill()
    with commanding(site):
        revoke([alice], actor=CLI, reason="incident")
    assert run(site).purge_pending == 1
    bring_back(site, valkey)
    done = run(site)
    assert (done.purged, done.purge_pending) == (1, 0)
    assert site.payload(row) is None
    assert run(site).purged == 0


def test_expired_payloads_are_deleted_from_sql(site: Site) -> None:
    start(site, "vera")
    run(site, 0)
    with clock_moved(2000):
        assert site.system.stores["sql"].delete_expired() == 1


def test_ended_sessions_are_forgotten_after_their_time_and_events_after_theirs(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_HISTORY_DAYS=10, AUDIT_RETENTION_DAYS=20)
    start(site, "alice")
    run(site, 3600)
    assert run(site, 9 * DAY).forgotten == 0
    assert run(site, 10 * DAY + 3700).forgotten == 1
    assert site.rows() == []
    assert len(site.events()) == 2
    run(site, 20 * DAY + 3700)
    assert site.events() == []


def test_a_session_whose_data_waits_for_its_store_is_not_forgotten(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(SESSION_HISTORY_DAYS=1)
    start(site, "alice")
    valkey.kill()
    run(site, 3600)
    run(site, 3 * DAY)
    assert len(site.rows()) == 1
    assert site.rows()[0].purge_pending


def test_a_revoked_session_is_forgotten_with_its_place_in_the_receipt(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_HISTORY_DAYS=1)
    (alice,) = start(site, "alice")
    with commanding(site):
        revoke([alice], actor=CLI, reason="incident")
    assert run(site, 2 * DAY).forgotten == 1
    assert site.rows() == []


def test_a_review_that_nobody_confirmed_is_forgotten_after_a_day(site: Site) -> None:
    (alice,) = start(site, "alice")
    with commanding(site):
        freeze(Targets(references=(alice,)), actor=CLI)
    run(site, 300)
    assert count(site, "revocations") == 1
    run(site, DAY + 400)
    assert count(site, "revocations") == 0
    assert count(site, "revocation_targets") == 0


def count(site: Site, table: str) -> int:
    return int(site.system.ledger.read(text(f"SELECT count(*) FROM {table}"))[0][0])


def test_the_alarm_marks_what_is_missing_though_it_ends_nobody(
    site: Site, valkey: RedisServer
) -> None:
    start(site, *["alice", "bob"])
    lose(site, valkey, 2)
    before = upkeep._FEW
    upkeep._FEW = 0
    try:
        assert run(site).alarms
    finally:
        upkeep._FEW = before
    assert all(row.missing_since is not None for row in site.rows())
    assert all(row.ended_at is None for row in site.rows())


def test_a_worker_with_many_rows_goes_on_where_its_last_pass_stopped(
    make_site: Callable[..., Site], valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=50)
    start(site, *["alice"] * 5)
    lose(site, valkey, 5)
    monkeypatch.setattr(upkeep, "LOOKS", 2)
    monkeypatch.setattr(upkeep, "BATCH", 2)
    walk = upkeep.Walk()
    with site.app.app_context():
        passes = [upkeep.run(site.system, look_again=3600, walk=walk) for _ in range(4)]
    missing = [each.missing for each in passes]
    assert missing == [2, 2, 1, 2]
    assert run(site, look_again=3600).missing == 5
