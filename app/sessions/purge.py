"""Delete the data of sessions that have ended, and note beside the ledger that it is gone.

Access was denied when the ledger's transaction committed; this is cleaning up. What a silent store
leaves behind is retried by the worker until it is done.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete

from app.columns import AnyRow
from app.sessions.models import PendingPurge
from app.sessions.store import DataKey, StoreUnavailable
from app.sessions.stores import budget
from app.sessions.system import SessionSystem

log = logging.getLogger(__name__)

_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Purged:
    """What became of a purge in one store: rows purged, rows that wait for the store."""

    purged: int = 0
    pending: int = 0


def purge(system: SessionSystem, rows: Iterable[AnyRow]) -> dict[str, Purged]:
    """Delete the rows' payloads; a silent store leaves its rows pending."""
    by_store: dict[str, list[AnyRow]] = defaultdict(list)
    for row in rows:
        by_store[row.store].append(row)
    return {store: _purge_one(system, store, ended) for store, ended in by_store.items()}


def _purge_one(system: SessionSystem, store: str, rows: Sequence[AnyRow]) -> Purged:
    done = 0
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        try:
            _delete(system, store, [DataKey(row.data_key) for row in batch])
            _mark(system, [row.id for row in batch])
        except StoreUnavailable as error:
            log.warning("purge_pending store=%s waiting=%d", error.store, len(rows) - done)
            return Purged(done, len(rows) - done)
        done += len(batch)
    return Purged(done, 0)


def _delete(system: SessionSystem, store: str, keys: Sequence[DataKey]) -> None:
    # What was done before is committed: a silent store must not cost its answer.
    with budget.half():
        system.stores[store].delete(keys)


def _mark(system: SessionSystem, row_ids: Sequence[int]) -> None:
    with system.ledger.transaction() as tx:
        tx.connection.execute(delete(PendingPurge).where(tx.among(PendingPurge.row_id, row_ids)))


def discard(system: SessionSystem, store: str, key: DataKey) -> None:
    """Delete a payload that no row names: a sign-in that was denied. Left alone, it expires by itself."""
    try:
        _delete(system, store, [key])
    except StoreUnavailable:
        log.warning("discard_skipped store=%s", store)
