"""What the ledger counts for the overview, the stores page and the chips of the list."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from time import monotonic
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from app.audit.models import AuditEvent, Verb
from app.columns import now
from app.people.models import Role
from app.sessions.filter import SessionFilter, seen_lately
from app.sessions.flags import ANY, crowded_users
from app.sessions.models import PendingPurge, Revocation, SessionSample, UserSession
from app.sessions.sampling import SAMPLE_EVERY
from app.sessions.search import MOST_OF_USERS, count_of, number_live
from app.sessions.store import DataKey, StoreUnavailable
from app.sessions.stores import budget
from app.sessions.stores.engines import PLANNED_ANEW
from app.sessions.stores.facts import Facts, TellsFacts
from app.sessions.system import system
from app.sessions.transaction import RECORDED_WITHIN, live

DAMAGED_DAYS = 30
MOST_OVER_LIMIT = 50_000
_LOOK = 0.3
"""Seconds that a store may take to answer: what else a page needs must have its share of the deadline."""

_HOUR, _DAY = 3600.0, 86400.0
_ALARM_HOLDS = _HOUR + RECORDED_WITHIN
"""The worker repeats an alarm once an hour, at its first pass after it."""

_FEW = select(UserSession.user_id).where(live()).limit(MOST_OF_USERS + 1).subquery()
_USERS = select(func.count(), func.count(_FEW.c.user_id.distinct())).select_from(_FEW)
_MISSING = select(func.count()).where(live(), UserSession.missing_since.is_not(None))
_WAITING = select(PendingPurge.store, func.count().label("rows")).group_by(PendingPurge.store)
_BEGAN = UserSession.started_at > now(-_HOUR)
# Each half is read from an index of its own.
_STARTED_LATELY = select(
    select(func.count()).where(UserSession.ended_at.is_(None), _BEGAN).scalar_subquery()
    + select(func.count()).where(UserSession.ended_at > now(-_HOUR), _BEGAN).scalar_subquery()
)
_REVOKED_LATELY = select(func.count()).where(
    UserSession.ended_at > now(-_DAY), UserSession.end_reason == "revoked"
)
_UNFINISHED = select(func.count()).where(
    and_(Revocation.confirmed_at.is_not(None), Revocation.finished_at.is_(None))
)


_MISSING_BY_STORE = (
    select(UserSession.store, func.count().label("rows"))
    .where(live(), UserSession.missing_since.is_not(None))
    .group_by(UserSession.store)
)
_DAMAGED_BY_STORE = (
    select(UserSession.store, func.count().label("rows"))
    .join(AuditEvent, AuditEvent.reference == UserSession.reference)
    .where(AuditEvent.verb == Verb.DAMAGED.value, AuditEvent.at > now(-DAMAGED_DAYS * _DAY))
    .group_by(UserSession.store)
)
_SAMPLED = select(func.max(SessionSample.at), now())


_ALARMS = (
    select(AuditEvent.at, AuditEvent.reason.label("store"), AuditEvent.note, AuditEvent.details)
    .where(AuditEvent.verb == Verb.WORKER_ALARM.value, AuditEvent.at > now(-_ALARM_HOLDS))
    .order_by(AuditEvent.id.desc())
)


@dataclass(frozen=True, slots=True)
class LiveCounts:
    """Live sessions now, by store, and how many of them were seen in the last five minutes."""

    by_store: dict[str, int]
    active: int

    @property
    def total(self) -> int:
        return sum(self.by_store.values())


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the worker raised about a store, and when."""

    store: str
    at: datetime
    note: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """Whether a store answered just now, and in how many milliseconds."""

    name: str
    reachable: bool
    milliseconds: float | None


def live_counts() -> LiveCounts:
    """Count the live sessions; every configured store is there, with zero too."""
    main = system.policy.of(Role.MEMBER).store
    others = [name for name in system.stores if name != main]
    store, elsewhere = UserSession.store, _none_of(sorted(system.stores))
    numbers = [number_live(elsewhere), *(number_live(store == name) for name in others)]
    asked = select(number_live(), number_live(seen_lately()), *numbers)
    row = system.ledger.read(asked.execution_options(**PLANNED_ANEW))[0]
    total, active, gone, *counted = (int(number) for number in row)
    # Most are in one store: what is left is its number.
    there = {main: total - gone - sum(counted), **dict(zip(others, counted, strict=True))}
    by_store = {name: there[name] for name in system.stores}
    if gone:
        named = select(store, func.count().label("live")).where(live(), elsewhere).group_by(store)
        by_store |= {row.store: row.live for row in system.ledger.read(named)}
    return LiveCounts(by_store, active)


def _none_of(names: list[str]) -> ColumnElement[bool]:
    """Match stores that are not configured any more, as the stretches between names: an index has those."""
    store = UserSession.store
    between = [and_(store > one, store < next_) for one, next_ in pairwise(names)]
    return or_(store < names[0], *between, store > names[-1])


def signed_in_users(total: int) -> int | None:
    """Count the people behind `total` live sessions; None if these are over MOST_OF_USERS, as in the list."""
    if total > MOST_OF_USERS:
        return None
    sessions, users = system.ledger.read(_USERS)[0]
    return int(users) if sessions <= MOST_OF_USERS else None


def missing_data() -> int:
    """Count live sessions that the worker marked because their store did not have their data."""
    return _one(_MISSING)


def flagged() -> int:
    """Count the live sessions that need a look for anything but their number."""
    return count_of(SessionFilter(flag=ANY))[0]


def alarms() -> list[Alarm]:
    """Return the worker's newest alarm of each store during the last hour."""
    newest: dict[str, Alarm] = {}
    for row in system.ledger.read(_ALARMS):
        newest.setdefault(row.store, Alarm(row.store, row.at, row.note or "", row.details))
    return list(newest.values())


def overdue() -> int:
    """Count sessions past a deadline that no worker has recorded; they are not live any more."""
    return count_of(SessionFilter(state="overdue"))[0]


def purges_waiting() -> dict[str, int]:
    """Count, by store, the sessions that have ended and whose data is not known to be deleted."""
    return {row.store: row.rows for row in system.ledger.read(_WAITING)}


def last_sample() -> tuple[datetime | None, bool]:
    """Return when the worker sampled last, None for never, and whether that is as lately as it should."""
    at, clock_says = system.ledger.read(_SAMPLED)[0]
    late = SAMPLE_EVERY + timedelta(seconds=RECORDED_WITHIN)
    return at, at is not None and clock_says - at <= late


def missing_by_store() -> dict[str, int]:
    """Count, by store, the live sessions whose data the worker did not find."""
    return {row.store: row.rows for row in system.ledger.read(_MISSING_BY_STORE)}


def damaged_by_store() -> dict[str, int]:
    """Count, by store, the payloads that the trail calls damaged, of the last DAMAGED_DAYS."""
    return {row.store: row.rows for row in system.ledger.read(_DAMAGED_BY_STORE)}


def started_lately() -> int:
    """Count the sign-ins of the last hour."""
    return _one(_STARTED_LATELY)


def revoked_lately() -> int:
    """Count the sessions that staff ended in the last 24 hours."""
    return _one(_REVOKED_LATELY)


def unfinished_revocations() -> int:
    """Count the revocations that were confirmed and are still ending sessions."""
    return _one(_UNFINISHED)


def users_over_limit() -> int:
    """Count users with more live sessions than their role allows: the limit was lowered.

    It looks at every live session: ask it while they are at most MOST_OVER_LIMIT.
    """
    return _one(select(func.count()).select_from(crowded_users().subquery()))


def ask_stores() -> list[StoreAnswer]:
    """Ask every store for a key that is nobody's, and time the answer."""
    answers = []
    for name, store in system.stores.items():
        started = monotonic()
        try:
            with budget.within(_LOOK):
                store.present([DataKey("ping")])
        except StoreUnavailable:
            answers.append(StoreAnswer(name, reachable=False, milliseconds=None))
        else:
            took = round((monotonic() - started) * 1000, 1)
            answers.append(StoreAnswer(name, reachable=True, milliseconds=took))
    return answers


def ask_facts(name: str) -> Facts | None:
    """Ask a store's server what it is; None if it cannot say, or not in time."""
    store = system.stores[name]
    if not isinstance(store, TellsFacts):
        return None
    try:
        with budget.within(_LOOK):
            return store.facts()
    except StoreUnavailable:
        return None


def _one(statement: Select[Any]) -> int:
    return int(system.ledger.read(statement)[0][0])
