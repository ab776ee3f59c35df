"""The receipt of a revocation: what was ended, what was deleted, and what a second look still found.

`revocation` reads back after each purge; pages and the CLI show the receipt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, func, select, update

from app.columns import AnyRow, clock
from app.people.models import User
from app.sessions import frozen
from app.sessions.models import PendingPurge, Revocation, UserSession
from app.sessions.store import DataKey
from app.sessions.stores import budget
from app.sessions.system import SessionSystem

COUNTS = ("ended", "already_ended", "purged", "purge_pending", "present")
"""The five integers that the CLI prints."""

_OWN = ("reference", "store", "ended_at", "end_reason", "ended_by", "reason_code")
OUTCOME = ("reference", "user", "role", *_OWN[1:], "by_this", "purged")
"""What `outcomes` says of a session."""

_BATCH = 5000
_LEAST = 0.3
"""Seconds of a request's deadline with which a further batch is looked up: what was seen is still to be
noted, and the receipt to be shown. The worker looks at all of them."""


@dataclass(frozen=True, slots=True)
class StoreReceipt:
    """One store's part: sessions ended, data deleted, data that waits for the store."""

    ended: int
    purged: int
    pending: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a revocation did. `present` counts payloads that the last look into the stores still found."""

    revocation_id: int
    ended: int
    already_ended: int
    purged: int
    purge_pending: int
    present: int
    waiting: int
    finished: bool
    reason: str
    note: str
    tell: bool
    actor_name: str
    confirmed_at: datetime
    finished_at: datetime | None
    read_back_at: datetime | None
    held_back: str | None
    left_out: int
    by_store: dict[str, StoreReceipt]
    new_password: bool = False
    matched_by: str = ""

    def counts(self) -> dict[str, int]:
        """Return the five integers that the CLI prints."""
        return {name: getattr(self, name) for name in COUNTS}


def receipt(system: SessionSystem, revocation_id: int) -> Receipt | None:
    """Return the receipt as it stands; None for a set that does not exist or is not confirmed."""
    found = system.ledger.read(
        select(Revocation.__table__).where(
            Revocation.id == revocation_id, Revocation.confirmed_at.is_not(None)
        )
    )
    if not found:
        return None
    row = found[0]
    purged = PendingPurge.row_id.is_(None)
    outcome = case(
        (UserSession.revocation_id == revocation_id, "ended"),
        (UserSession.ended_at.is_not(None), "already_ended"),
        else_="waiting",
    ).label("outcome")
    seen = frozen.ended if row.everyone else frozen.chosen
    apart = (UserSession.store, purged.label("purged"), outcome)
    counted = system.ledger.read(
        seen(row, *apart, func.count().label("n"))
        .outerjoin(PendingPurge, PendingPurge.row_id == UserSession.id)
        .group_by(*apart)
    )
    ended = [part for part in counted if part.outcome == "ended"]
    already_ended = sum(part.n for part in counted if part.outcome == "already_ended")
    waiting = sum(part.n for part in counted if part.outcome == "waiting")
    forgotten = 0
    if row.everyone:
        if row.finished_at is None:
            waiting = system.ledger.read(frozen.waiting(row, func.count()))[0][0]
        rest = max(0, row.size - sum(part.n for part in ended) - waiting)
        already_ended = rest if row.already_ended is None else row.already_ended
        # Only what was purged is ever forgotten.
        forgotten = max(0, rest - already_ended)
    return Receipt(
        revocation_id=revocation_id,
        ended=sum(part.n for part in ended) + forgotten,
        already_ended=already_ended,
        purged=sum(part.n for part in ended if part.purged) + forgotten,
        purge_pending=sum(part.n for part in ended if not part.purged),
        present=row.present or 0,
        waiting=waiting,
        finished=row.finished_at is not None,
        reason=row.reason,
        note=row.note or "",
        tell=row.tell_user,
        actor_name=row.actor_name,
        confirmed_at=row.confirmed_at,
        finished_at=row.finished_at,
        read_back_at=row.read_back_at,
        held_back=row.held_back,
        left_out=row.left_out,
        by_store={store: _of_store(ended, store) for store in sorted({p.store for p in ended})},
        new_password=row.new_password,
        matched_by=row.matched_by,
    )


def read_back(system: SessionSystem, revocation_id: int) -> int:
    """Look again into the stores for what was ended, note what is still there, and return how many.

    What is still there counts as not purged, so that the worker goes on. While a store is silent, or
    where the request has too little time, the set is not read back: nobody has looked.
    """
    still: list[AnyRow] = []
    silent: set[str] = set()
    late = False
    for batch in _ended_rows(system, revocation_id):
        left = budget.remaining()
        if late := left is not None and left < _LEAST:
            break
        keys: dict[str, list[DataKey]] = {}
        for row in batch:
            keys.setdefault(row.store, []).append(DataKey(row.data_key))
        # What was seen is still to be noted: a slow store must not take all the time.
        with budget.half():
            found, unasked = system.stores.present(keys)
        silent |= unasked
        still += [row for row in batch if DataKey(row.data_key) in found.get(row.store, {})]
        if silent:
            break
    looked = not (silent or late)
    with system.ledger.transaction() as tx:
        for start in range(0, len(still), _BATCH):
            tx.purge_again([row.id for row in still[start : start + _BATCH]])
        tx.connection.execute(
            update(Revocation)
            .where(Revocation.id == revocation_id)
            .values(
                present=len(still) if looked else None, read_back_at=clock() if looked else None
            )
        )
    return len(still)


def shown(system: SessionSystem, revocation_id: int, limit: int) -> list[int]:
    """Return the ledger ids of the first sessions of a confirmed set, for its page."""
    some = row_ids(system, revocation_id).order_by(UserSession.id).limit(limit)
    return [row.id for row in system.ledger.read(some)]


def row_ids(system: SessionSystem, revocation_id: int) -> Select[Any]:
    """Return what selects the ledger ids of a confirmed set; of everyone's, of what it has ended."""
    of = _set(system, revocation_id)
    return frozen.ended(of, UserSession.id) if of.everyone else frozen.chosen(of, UserSession.id)


def outcomes(
    system: SessionSystem, revocation_id: int, size: int
) -> Iterator[list[dict[str, object]]]:
    """Return what became of each of these sessions, in batches: its end, and whether its data is deleted."""
    rows = (
        select(
            User.name.label("user"),
            User.role,
            *(getattr(UserSession, name) for name in _OWN),
            UserSession.revocation_id,
            PendingPurge.row_id.label("pending"),
        )
        .join(User, User.id == UserSession.user_id)
        .outerjoin(PendingPurge, PendingPurge.row_id == UserSession.id)
        .order_by(UserSession.id)
    )
    for batch in _batches(system, revocation_id, rows, size):
        yield [
            {
                **{name: getattr(row, name) for name in OUTCOME[:-2]},
                "by_this": row.revocation_id == revocation_id,
                "purged": row.ended_at is not None and row.pending is None,
            }
            for row in batch
        ]


def _set(system: SessionSystem, revocation_id: int) -> AnyRow:
    return system.ledger.read(select(Revocation.__table__).where(Revocation.id == revocation_id))[0]


def _ended_rows(system: SessionSystem, revocation_id: int) -> Iterator[Sequence[AnyRow]]:
    rows: Any = select(UserSession.id, UserSession.store, UserSession.data_key)
    rows = rows.where(UserSession.ended_at.is_not(None))
    return _batches(system, revocation_id, rows, _BATCH)


def _batches(
    system: SessionSystem, revocation_id: int, rows: Select[Any], size: int
) -> Iterator[Sequence[AnyRow]]:
    last = 0
    of = _set(system, revocation_id)
    while ids := [row[0] for row in system.ledger.read(frozen.next_ended(of, last, size))]:
        yield system.ledger.read(rows.where(system.ledger.among(UserSession.id, ids)))
        last = ids[-1]


def _of_store(ended: Sequence[AnyRow], store: str) -> StoreReceipt:
    of_store = [part for part in ended if part.store == store]
    purged = sum(part.n for part in of_store if part.purged)
    total = sum(part.n for part in of_store)
    return StoreReceipt(total, purged, total - purged)
