"""Where a store and the ledger differ, looked at by a person, and put right as the worker would.

`look` changes nothing. `settle` does what was looked at and no more, by upkeep's own functions: so a
session still ends only when its data was missing in two looks, and never when too many are missing.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from app.audit.trail import Actor
from app.columns import AnyRow, clock
from app.sessions.models import PendingPurge, UserSession
from app.sessions.purge import purge
from app.sessions.store import DataKey
from app.sessions.system import SessionSystem
from app.sessions.transaction import TARGET
from app.sessions.upkeep import BATCH, LOOK_AGAIN, are_too_many, end_lost, missing_twice, not_ended

MOST = 5000
"""How many sessions one look takes: what a store answers within a request's deadline."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What a look found. `next` is after which id to go on, None at the end of the store's sessions.

    `twice` are the references of those `absent` that were missing a while ago already. `waiting` counts
    what has ended and may still have data, of which `ended` has the first.
    """

    looked: int
    next: int | None
    absent: tuple[AnyRow, ...]
    twice: frozenset[str]
    too_many: bool
    waiting: int
    ended: tuple[AnyRow, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """What was done: sessions ended as lost, noted for a second look, data deleted and still pending."""

    lost: int
    noted: int
    deleted: int
    pending: int


def look(system: SessionSystem, store: str, after: int = 0) -> Drift:
    """Look up the next MOST sessions of a store that have not ended. Raises StoreUnavailable."""
    rows = system.ledger.read(
        TARGET.add_columns(UserSession.missing_since, clock().label("now"))
        .where(UserSession.store == store, UserSession.ended_at.is_(None), UserSession.id > after)
        .order_by(UserSession.id)
        .limit(MOST)
    )
    found = system.stores[store].present([DataKey(row.data_key) for row in rows])
    missing = [row for row in rows if DataKey(row.data_key) not in found]
    absent: list[AnyRow] = []
    for start in range(0, len(missing), BATCH):
        absent += not_ended(system, missing[start : start + BATCH])
    waiting = _waiting(store)
    counted = system.ledger.read(
        select(func.count()).select_from(PendingPurge).where(PendingPurge.store == store)
    )
    return Drift(
        looked=len(rows),
        next=rows[-1].id if len(rows) == MOST else None,
        absent=tuple(absent),
        twice=frozenset(row.reference for row in absent if _is_old(row)),
        too_many=are_too_many(len(absent), len(rows)),
        waiting=int(counted[0][0]),
        ended=tuple(system.ledger.read(waiting.order_by(UserSession.id).limit(BATCH))),
    )


def settle(
    system: SessionSystem, store: str, references: Collection[str], by: Actor, after: int = 0
) -> Settled:
    """Look again, and end those of the sessions whose data is still missing; delete data that waits.

    Nothing ends while too many are missing. Raises StoreUnavailable, and then nothing was done.
    """
    seen = look(system, store, after)
    chosen = [] if seen.too_many else [row for row in seen.absent if row.reference in references]
    lost = missing_twice(system, chosen, LOOK_AGAIN)
    ended = end_lost(system, by, lost)
    purged = purge(system, seen.ended).get(store)
    return Settled(
        lost=ended,
        noted=len(chosen) - len(lost),
        deleted=purged.purged if purged else 0,
        pending=seen.waiting - (purged.purged if purged else 0),
    )


def _waiting(store: str) -> Any:
    return TARGET.join(PendingPurge, PendingPurge.row_id == UserSession.id).where(
        PendingPurge.store == store
    )


def _is_old(row: AnyRow) -> bool:
    return (
        row.missing_since is not None
        and (row.now - row.missing_since).total_seconds() >= LOOK_AGAIN
    )
