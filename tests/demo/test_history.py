"""The past of the demo: what was laid down keeps every invariant, as what happens does."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

from app import create_app
from app.audit.models import AuditEvent, Verb
from app.columns import skew
from app.people.models import User
from app.sessions import upkeep
from app.sessions.models import (
    EndReason,
    Revocation,
    RevocationTarget,
    SessionSample,
    UserAgent,
)
from demo.__main__ import FEWEST, SETTINGS
from demo.cast import VISITORS, Person, people
from demo.history import LENGTH, History
from tests.servers import RedisServer
from tests.site import PASSWORD, Site, copied_sqlite, settings

PEOPLE = people(24, 10)
ENDS = {
    EndReason.SIGNED_OUT: Verb.SIGNED_OUT,
    EndReason.REVOKED: Verb.REVOKED,
    EndReason.SUPERSEDED: Verb.SUPERSEDED,
    EndReason.IDLE_TIMEOUT: Verb.EXPIRED,
    EndReason.ABSOLUTE_TIMEOUT: Verb.EXPIRED,
    EndReason.PASSWORD_CHANGED: Verb.ENDED,
    EndReason.USER_DISABLED: Verb.ENDED,
    EndReason.ROLE_CHANGED: Verb.ENDED,
    EndReason.LOST: Verb.LOST,
    EndReason.DAMAGED: Verb.DAMAGED,
}


@pytest.fixture(scope="module")
def begun() -> datetime:
    return datetime.now(UTC)


@contextmanager
def laid_down(
    cast: list[Person], until: datetime, valkey: RedisServer, database: str
) -> Iterator[Site]:
    """Yield a site with the past of some people."""
    valkey.reset()
    rules = {
        name: value for name, value in SETTINGS.items() if name.startswith(("SESSION_", "AUD"))
    }
    site = Site(create_app(settings(database, valkey.url, **rules)))
    History(site.app, cast, Random(1), until).lay_down(PASSWORD, lambda: None)
    yield site
    site.close()
    valkey.reset()


@pytest.fixture(scope="module")
def past(
    begun: datetime,
    valkey_process: RedisServer,
    sqlite_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A site with the past of a few people. Its tests only look, but for the last two: they come at the end."""
    url = copied_sqlite(sqlite_template, tmp_path_factory.mktemp("past"))
    with laid_down(PEOPLE, begun, valkey_process, url) as site:
        yield site


def events(site: Site) -> list[AuditEvent]:
    columns = AuditEvent.__table__.columns
    return list(site.system.ledger.read(select(*columns).order_by(AuditEvent.id)))


def test_the_clock_of_the_process_is_right_again(past):
    assert skew.seconds == 0.0


def test_every_way_to_end_is_there_and_somebody_is_still_signed_in(past):
    reasons = {row.end_reason for row in past.rows()}
    assert reasons == {None, *EndReason}


def test_sessions_lie_in_both_stores_from_many_addresses_and_clients(past):
    rows = past.rows()
    assert {row.store for row in rows} == {"redis", "sql"}
    assert len({row.first_ip for row in rows}) > len(PEOPLE)
    clients = past.system.ledger.read(select(UserAgent.client))
    assert len({row.client for row in clients}) > 10


def test_the_worker_has_sampled_the_hours_as_they_went_by(past):
    rows = past.system.ledger.read(select(SessionSample.at, SessionSample.live))
    assert {row.at.hour for row in rows} == set(range(24))
    assert max(row.live for row in rows) > 1


def test_every_end_has_exactly_its_event_at_its_time_and_no_event_has_no_end(past):
    ended = {
        (row.reference, ENDS[EndReason(row.end_reason)], row.ended_at)
        for row in past.rows()
        if row.ended_at is not None
    }
    recorded = [
        (event.reference, event.verb, event.at)
        for event in events(past)
        if event.verb in set(ENDS.values())
    ]
    assert len(recorded) == len(set(recorded))
    assert set(recorded) == ended


def test_every_session_has_exactly_its_sign_in_and_references_are_unique(past):
    begun = [(row.reference, row.started_at) for row in past.rows()]
    recorded = [(e.reference, e.at) for e in events(past) if e.verb == Verb.SIGNED_IN]
    assert sorted(recorded) == sorted(begun)
    assert len({reference for reference, _ in begun}) == len(begun)


def test_the_trail_is_in_the_order_of_its_times_and_ends_before_the_demo_begins(past, begun):
    times = [event.at for event in events(past) if event.verb != Verb.USER_CREATED]
    assert times == sorted(times)
    assert times[0] > begun - LENGTH - timedelta(minutes=5)
    assert times[-1] < begun + timedelta(seconds=5)


def test_everybody_was_created_before_they_came_each_with_an_event(past):
    made = {e.target_name: e.at for e in events(past) if e.verb == Verb.USER_CREATED}
    first = {row.name: row.started_at for row in reversed(past.rows())}
    assert {person.name for person in PEOPLE} | set(VISITORS) == set(made)
    assert all(made[name] < at for name, at in first.items())


def test_nobody_ever_had_more_sessions_than_the_limit(past):
    spans = defaultdict(list)
    for row in past.rows():
        until = row.ended_at or min(row.idle_expires_at, row.absolute_expires_at)
        spans[row.name].append((row.started_at, until, row.id))
    roles = {person.name: person.role for person in PEOPLE}
    for name, own in spans.items():
        limit = past.system.policy.of(roles[name]).limit
        for begin, _, _ in own:
            there = [row_id for start, end, row_id in own if start <= begin < end]
            assert len(there) <= limit, (name, begin, there)


def test_deadlines_are_those_of_the_settings_and_none_was_outlived(past):
    for row in past.rows():
        roles = {r.role for r in PEOPLE if r.name == row.name}
        policy = past.system.policy.of(roles.pop())
        assert row.started_at <= row.last_seen_at
        # A touch reads the clock for each of the two.
        idle = row.idle_expires_at - row.last_seen_at
        assert timedelta(0) <= idle - policy.idle < timedelta(seconds=1)
        assert row.absolute_expires_at - row.started_at == policy.absolute
        deadline = min(row.idle_expires_at, row.absolute_expires_at)
        if row.end_reason in (EndReason.IDLE_TIMEOUT, EndReason.ABSOLUTE_TIMEOUT):
            first = row.idle_expires_at <= row.absolute_expires_at
            assert (row.end_reason == EndReason.IDLE_TIMEOUT) == first
            assert deadline <= row.ended_at < deadline + timedelta(minutes=2)
        elif row.ended_at is not None:
            assert row.last_seen_at <= row.ended_at < deadline + timedelta(seconds=31)


def test_a_superseded_session_names_the_one_that_came_at_that_moment(past):
    by_id = {row.id: row for row in past.rows()}
    superseded = [row for row in by_id.values() if row.end_reason == EndReason.SUPERSEDED]
    assert superseded
    for row in superseded:
        newer = by_id[row.superseded_by_id]
        assert (newer.user_id, newer.started_at) == (row.user_id, row.ended_at)


def test_revocations_are_finished_read_back_and_say_why(past):
    done = past.system.ledger.read(select(Revocation.__table__))
    assert len(done) >= 2
    targets = past.system.ledger.read(select(RevocationTarget.__table__))
    by_id = {row.id: row for row in past.rows()}
    for row in done:
        assert row.reason
        assert row.note
        assert (row.present, row.finished_at is None, row.read_back_at is None) == (0, False, False)
        assert row.size == len([t for t in targets if t.revocation_id == row.id])
    revoked_at = {row.id: row.finished_at for row in done}
    for target in targets:
        ended = by_id[target.row_id]
        assert ended.ended_at is not None
        assert (
            ended.revocation_id == target.revocation_id
            or ended.ended_at <= revoked_at[target.revocation_id]
        )


def test_failed_sign_ins_are_there_and_the_visitors_were_left_alone(past):
    failed = [event for event in events(past) if event.verb == Verb.SIGN_IN_FAILED]
    assert {event.details["why"] for event in failed} >= {"unknown name", "disabled"}
    assert past.rows(User.name.in_(VISITORS)) == []
    users = past.system.ledger.read(select(User).where(User.name.in_(VISITORS)))
    assert all(user.active for user in users)


def test_the_data_of_whoever_is_still_signed_in_is_in_its_store_and_no_other(past):
    assert all((past.payload(row) is None) == (row.ended_at is not None) for row in past.rows())


def test_the_worker_finds_nothing_to_mend_and_keeps_the_48_hours(past, begun):
    before = {event.id for event in events(past) if event.at > begun - LENGTH}
    sessions = {row.id for row in past.rows()}
    done = upkeep.run(past.system, look_again=0.0)
    again = upkeep.run(past.system, look_again=0.0)
    for found in (done, again):
        assert (found.purged, found.purge_pending, found.lost, found.missing) == (0, 0, 0, 0)
        assert (found.alarms, found.silent) == ([], [])
    # The accounts are older than the trail is kept.
    assert (done.forgotten, again.forgotten) == (len(PEOPLE) + len(VISITORS), 0)
    assert before <= {event.id for event in events(past)}
    assert sessions == {row.id for row in past.rows()}


def test_the_smallest_past_has_every_end_and_is_the_same_at_any_hour(
    begun, valkey_process, sqlite_template, tmp_path_factory
):
    smallest = people(FEWEST, FEWEST)
    ends = []
    for hour in (3, 15):
        until = begun.replace(hour=hour) - timedelta(days=1)
        url = copied_sqlite(sqlite_template, tmp_path_factory.mktemp("past"))
        with laid_down(smallest, until, valkey_process, url) as site:
            ends.append(Counter(row.end_reason for row in site.rows()))
    assert ends[0] == ends[1]
    assert set(ends[0]) >= {*EndReason}
