"""What the worker does in a pass: record expiries, retry purges, find what a store has lost, sample.

`flask worker` runs it on a clock, `flask sessions sweep` once. Each step goes on without a silent store.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select, update

from app.audit.models import AuditEvent, Verb
from app.audit.trail import Actor, Event
from app.columns import AnyRow, clock, now
from app.sessions.denied import end_denied
from app.sessions.models import (
    EndReason,
    PendingPurge,
    Revocation,
    RevocationTarget,
    UserSession,
)
from app.sessions.purge import purge
from app.sessions.sampling import forget_samples, sample
from app.sessions.store import DataKey, StoreUnavailable
from app.sessions.system import SessionSystem
from app.sessions.transaction import TARGET

log = logging.getLogger(__name__)

BATCH = 1000
LOST_SHARE = 0.05
_FEW = 1
_ALARM_PAUSE = timedelta(hours=1)
LOOK_AGAIN = 20.0
_STALE_REVIEW = timedelta(days=1)


LOOKS = 50_000
"""How many rows of a store one pass looks up. With more, the next pass goes on where it stopped."""


@dataclass
class Walk:
    """How far the worker has come in looking up each store's rows, by ledger id, from pass to pass."""

    after: dict[str, int] = field(default_factory=dict)


@dataclass
class Pass:
    """What one pass did. Counts of sessions, and what it could not do."""

    expired: int = 0
    purged: int = 0
    purge_pending: int = 0
    lost: int = 0
    missing: int = 0
    deleted: int = 0
    forgotten: int = 0
    alarms: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def run(
    system: SessionSystem,
    *,
    actor: Actor | None = None,
    look_again: float = LOOK_AGAIN,
    walk: Walk | None = None,
) -> Pass:
    """Do one pass. `look_again` is how many seconds lie between two looks at data that is missing.

    With a `walk`, it looks up no more than LOOKS rows of a store, from where the last one stopped.
    """
    done = Pass()
    by = actor or Actor.system("worker")
    # Before time ends them: they were denied, not unused.
    end_denied(system)
    done.expired = expire(system, by)
    purge_ended(system, done)
    reconcile(system, by, done, look_again, walk)
    for name in system.stores.names:
        try:
            done.deleted += system.stores[name].delete_expired()
        except StoreUnavailable as error:
            _note_silent(done, error)
    _forget_stale_reviews(system)
    done.forgotten = forget(system)
    sample(system)
    forget_samples(system)
    return done


def expire(system: SessionSystem, by: Actor) -> int:
    """End rows that are past a deadline, with the deadline that came first as their cause."""
    ended = 0
    due = select(UserSession.id, UserSession.user_id).where(
        UserSession.ended_at.is_(None),
        or_(UserSession.absolute_expires_at <= now(), UserSession.idle_expires_at <= now()),
    )
    while batch := system.ledger.read(due.order_by(UserSession.id).limit(BATCH)):
        with system.ledger.transaction() as tx:
            tx.lock_users([row.user_id for row in batch])
            rows = tx.expire([row.id for row in batch], by)
        purge(system, rows)
        ended += len(rows)
    return ended


def purge_ended(system: SessionSystem, done: Pass) -> None:
    """Delete the data that earlier purges could not reach."""
    waiting = select(PendingPurge.row_id.label("id"), PendingPurge.store, PendingPurge.data_key)
    for (name,) in system.ledger.read(select(PendingPurge.store).distinct()):
        of_store = waiting.where(PendingPurge.store == name)
        of_store = of_store.order_by(PendingPurge.row_id).limit(BATCH)
        while batch := system.ledger.read(of_store):
            result = purge(system, batch)[name]
            done.purged += result.purged
            if result.pending:
                done.purge_pending += _count_waiting(system, name)
                if name not in done.silent:
                    done.silent.append(name)
                break


def reconcile(
    system: SessionSystem, by: Actor, done: Pass, look_again: float, walk: Walk | None = None
) -> None:
    """End live rows whose data was absent in two looks; raise an alarm instead if they are too many."""
    for name in system.stores.names:
        try:
            live_rows, absent = _look(system, name, walk)
        except StoreUnavailable as error:
            _note_silent(done, error)
            continue
        done.missing += len(absent)
        lost = missing_twice(system, absent, look_again)
        if are_too_many(len(absent), live_rows):
            _raise_alarm(system, by, done, name, len(absent), live_rows)
            continue
        done.lost += end_lost(system, by, lost)


def are_too_many(absent: int, live_rows: int) -> bool:
    """Say whether so much is missing that the server is rather empty, or the wrong one."""
    return absent > max(_FEW, LOST_SHARE * live_rows)


def _look(system: SessionSystem, store: str, walk: Walk | None) -> tuple[int, list[AnyRow]]:
    """Look up a store's rows that have not ended, in id order; return their number and the absent ones."""
    seen, absent = 0, []
    last = walk.after.pop(store, 0) if walk else 0
    rows = TARGET.add_columns(UserSession.missing_since).where(
        UserSession.store == store, UserSession.ended_at.is_(None)
    )
    while batch := system.ledger.read(
        rows.where(UserSession.id > last).order_by(UserSession.id).limit(BATCH)
    ):
        found = system.stores[store].present([DataKey(row.data_key) for row in batch])
        absent += not_ended(system, [r for r in batch if DataKey(r.data_key) not in found])
        _mark_found(
            system, [r.id for r in batch if r.missing_since and DataKey(r.data_key) in found]
        )
        seen += len(batch)
        last = batch[-1].id
        if walk and seen >= LOOKS:
            walk.after[store] = last
            break
    return seen, absent


def not_ended(system: SessionSystem, rows: list[AnyRow]) -> list[AnyRow]:
    """Leave out what has ended since it was read: its data is purged, not lost."""
    if not rows:
        return []
    still = select(UserSession.id).where(
        UserSession.id.in_([row.id for row in rows]), UserSession.ended_at.is_(None)
    )
    ids = {row.id for row in system.ledger.read(still)}
    return [row for row in rows if row.id in ids]


def _mark_found(system: SessionSystem, row_ids: Sequence[int]) -> None:
    if row_ids:
        with system.ledger.transaction() as tx:
            tx.connection.execute(
                update(UserSession).where(UserSession.id.in_(row_ids)).values(missing_since=None)
            )


def missing_twice(system: SessionSystem, absent: list[AnyRow], look_again: float) -> list[AnyRow]:
    """Note the first look at what is absent, and return the rows whose first look is long enough ago."""
    twice: set[int] = set()
    for start in range(0, len(absent), BATCH):
        ids = [row.id for row in absent[start : start + BATCH]]
        before = select(UserSession.id).where(
            UserSession.id.in_(ids), UserSession.missing_since <= now(-look_again)
        )
        twice |= {row.id for row in system.ledger.read(before)}
        with system.ledger.transaction() as tx:
            tx.connection.execute(
                update(UserSession)
                .where(UserSession.id.in_(ids), UserSession.missing_since.is_(None))
                .values(missing_since=clock())
            )
    return [row for row in absent if row.id in twice]


def end_lost(system: SessionSystem, by: Actor, rows: list[AnyRow]) -> int:
    lost = 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        with system.ledger.transaction() as tx:
            tx.lock_users([row.user_id for row in batch])
            ended = tx.end([row.id for row in batch], EndReason.LOST, by, Verb.LOST)
        purge(system, ended)
        lost += len(ended)
    return lost


def _raise_alarm(
    system: SessionSystem, by: Actor, done: Pass, store: str, absent: int, live_rows: int
) -> None:
    text = (
        f"{store} answers, but lacks the data of {absent} of {live_rows} live sessions:"
        " an empty server or a wrong URL? Nobody was ended"
    )
    done.alarms.append(text)
    log.error("store_lost_too_much store=%s absent=%d live=%d", store, absent, live_rows)
    said = select(AuditEvent.id).where(
        AuditEvent.verb == Verb.WORKER_ALARM,
        AuditEvent.reason == store,
        AuditEvent.at > now(-_ALARM_PAUSE.total_seconds()),
    )
    if system.ledger.read(said.limit(1)):
        return
    with system.ledger.transaction() as tx:
        details = {"store": store, "absent": absent, "live": live_rows}
        event = Event(Verb.WORKER_ALARM, reason=store, result="alarm", note=text, details=details)
        tx.record(by, [event])


def _count_waiting(system: SessionSystem, store: str) -> int:
    waiting = select(func.count()).where(PendingPurge.store == store)
    return int(system.ledger.read(waiting)[0][0])


def _forget_stale_reviews(system: SessionSystem) -> None:
    """Delete frozen sets that nobody confirmed, and their targets."""
    stale = select(Revocation.id).where(
        Revocation.confirmed_at.is_(None),
        Revocation.expires_at < now(-_STALE_REVIEW.total_seconds()),
    )
    ids = [row.id for row in system.ledger.read(stale)]
    if not ids:
        return
    with system.ledger.transaction() as tx:
        of_set = RevocationTarget.revocation_id.in_(ids)
        tx.connection.execute(delete(RevocationTarget).where(of_set))
        tx.connection.execute(delete(Revocation).where(Revocation.id.in_(ids)))


def forget(system: SessionSystem) -> int:
    """Delete ended and purged rows, and events, that are older than the settings keep them."""
    old_rows = select(UserSession.id).where(
        UserSession.ended_at <= now(-system.keep.sessions.total_seconds()),
        ~select(PendingPurge.row_id).where(PendingPurge.row_id == UserSession.id).exists(),
    )
    old_events = select(AuditEvent.id).where(
        AuditEvent.at <= now(-system.keep.events.total_seconds())
    )
    return _delete_old(system, UserSession, old_rows) + _delete_old(system, AuditEvent, old_events)


def _delete_old(system: SessionSystem, model: type[UserSession | AuditEvent], old: Any) -> int:
    deleted = 0
    while batch := system.ledger.read(old.order_by(model.id).limit(BATCH)):
        with system.ledger.transaction() as tx:
            ids = [row.id for row in batch]
            if model is UserSession:
                of_rows = RevocationTarget.row_id.in_(ids)
                tx.connection.execute(delete(RevocationTarget).where(of_rows))
            tx.connection.execute(delete(model).where(model.id.in_(ids)))
        deleted += len(batch)
    return deleted


def _note_silent(done: Pass, error: StoreUnavailable) -> None:
    if error.store not in done.silent:
        done.silent.append(error.store)
