"""What statistics are made of: samples over time, what began and ended in a range, who is there now.

Each function is one statement that groups in the database, whatever the number of sessions, and takes
the times between which it looks. `statistics` and `overview` show what they return.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, case, func, or_, select, union_all
from sqlalchemy.orm import InstrumentedAttribute

from app.admin.ranges import Range
from app.audit.models import AuditEvent, Verb
from app.columns import AnyRow, bucket
from app.sessions.models import Revocation, SessionSample, UserAgent, UserSession
from app.sessions.system import system
from app.sessions.transaction import live

HOUR = 3600
DAY = 24 * HOUR
_DAY = 24
_MOST_BARS = 30
_WIDTHS = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800)
_MOST_CLIENTS = 12
_MOST_MARKED = 20


def concurrency(within: Range) -> dict[int, list[AnyRow]]:
    """Return the fullest sample of each slot: a row for each store, with `at`, `live` and `active`.

    Its rows are of one time, so they may be added up; a slot in which no worker ran has none.
    """
    sample = SessionSample
    totals = (
        select(sample.at, func.sum(sample.live).label("total"))
        .where(sample.at >= within.begin, sample.at < within.end)
        .group_by(sample.at)
        .subquery()
    )
    slot = bucket(totals.c.at, within.step)
    fullest_first = (totals.c.total.desc(), totals.c.at.desc())
    rank = func.row_number().over(partition_by=slot, order_by=fullest_first)
    ranked = select(totals.c.at, slot.label("slot"), rank.label("rank")).subquery()
    rows = system.ledger.read(
        select(ranked.c.slot, sample.at, sample.store, sample.live, sample.active)
        .join(sample, sample.at == ranked.c.at)
        .where(ranked.c.rank == 1)
        .order_by(sample.at, sample.store)
    )
    by_slot: dict[int, list[AnyRow]] = {}
    for row in rows:
        by_slot.setdefault(int(row.slot), []).append(row)
    return by_slot


def ends_by_cause(within: Range) -> dict[str, int]:
    """Count what ended, by its cause, the most frequent first."""
    ended = select(UserSession.end_reason, func.count().label("rows")).where(
        UserSession.ended_at >= within.begin, UserSession.ended_at < within.end
    )
    rows = system.ledger.read(ended.group_by(UserSession.end_reason))
    return dict(Counter({row.end_reason: row.rows for row in rows}).most_common())


def sign_ins_by_hour(within: Range) -> list[int]:
    """Count what began, by the hour of the day in UTC: 24 numbers."""
    began = select(UserSession.started_at).where(
        UserSession.started_at >= within.begin, UserSession.started_at < within.end
    )
    # Each half is read from an index of its own: what is still there, and what ended after it began.
    there, gone = UserSession.ended_at.is_(None), UserSession.ended_at >= within.begin
    both = union_all(began.where(there), began.where(gone)).subquery()
    hour = bucket(both.c.started_at, HOUR).label("hour")
    of_day = Counter[int]()
    for row in system.ledger.read(select(hour, func.count().label("rows")).group_by(hour)):
        of_day[int(row.hour) % _DAY] += row.rows
    return [of_day[hour] for hour in range(_DAY)]


def sign_ins_by_day(user_id: int, first: int, last: int) -> dict[int, int | None]:
    """Count a user's sign-ins by day, as the trail has them; None for a day of which it keeps no more.

    Days are numbered as `columns.bucket` counts them, in UTC.
    """
    # The verb is no condition: its index would be taken for a better one than that of the user.
    counted = func.sum(case((AuditEvent.verb == Verb.SIGNED_IN.value, 1), else_=0))
    day = bucket(AuditEvent.at, DAY).label("day")
    begin = datetime.fromtimestamp(first * DAY, UTC)
    theirs = select(day, counted.label("rows")).where(
        AuditEvent.target_user_id == user_id, AuditEvent.at >= begin
    )
    found = {int(row.day): int(row.rows) for row in system.ledger.read(theirs.group_by(day))}
    kept = last - system.keep.events.days + 1
    return {n: found.get(n, 0) if n >= kept else None for n in range(first, last + 1)}


def bar_width(limit: timedelta) -> timedelta:
    """Return the round length of time of which a limit has at most thirty."""
    seconds = limit.total_seconds()
    width = next((w for w in _WIDTHS if w * _MOST_BARS >= seconds), seconds / _MOST_BARS)
    return timedelta(seconds=width)


def ages_and_idle_times(at: datetime) -> tuple[list[int], list[int]]:
    """Count live sessions by time since sign-in and by time since the last activity, in bars.

    The last bar is of those beyond the longest limit, of which there are some after it was lowered.
    """
    rules = system.policy.by_role.values()
    longest = (max(rule.absolute for rule in rules), max(rule.idle for rule in rules))
    age = _bar(UserSession.started_at, at, longest[0]).label("age")
    idle = _bar(UserSession.last_seen_at, at, longest[1]).label("idle")
    placed = select(age, idle).where(live()).subquery()
    counted = select(placed.c.age, placed.c.idle, func.count().label("rows"))
    ages, idles = ([0] * (_bars(limit) + 1) for limit in longest)
    for row in system.ledger.read(counted.group_by(placed.c.age, placed.c.idle)):
        ages[row.age] += row.rows
        idles[row.idle] += row.rows
    return ages, idles


def _bars(limit: timedelta) -> int:
    return -(-limit // bar_width(limit))


def _bar(
    column: InstrumentedAttribute[datetime], at: datetime, limit: timedelta
) -> ColumnElement[int]:
    width, bars = bar_width(limit), _bars(limit)
    return case(*((column > at - width * (i + 1), i) for i in range(bars)), else_=bars)


def clients() -> dict[str, int]:
    """Count live sessions by the client that was seen last, the most frequent first; a dozen of them."""
    used = (
        select(UserSession.user_agent_id, func.count().label("rows"))
        .where(live())
        .group_by(UserSession.user_agent_id)
        .subquery()
    )
    total = func.sum(used.c.rows)
    named = (
        select(UserAgent.client, total.label("rows"))
        .join(used, used.c.user_agent_id == UserAgent.id)
        .group_by(UserAgent.client)
        .order_by(total.desc(), UserAgent.client)
        .limit(_MOST_CLIENTS)
    )
    return {row.client: int(row.rows) for row in system.ledger.read(named)}


def bulk_revocations(within: Range) -> list[AnyRow]:
    """Return the last revocations of several sessions at once, oldest first."""
    last = (
        select(Revocation.id, Revocation.confirmed_at, Revocation.actor_name, Revocation.size)
        .where(
            Revocation.confirmed_at >= within.begin,
            Revocation.confirmed_at < within.end,
            or_(Revocation.size > 1, Revocation.everyone),
        )
        .order_by(Revocation.confirmed_at.desc())
        .limit(_MOST_MARKED)
    )
    return list(system.ledger.read(last))[::-1]
