"""The stored data of one live session during one request: load it, and save it without losing updates.

Only `interface` uses it. It knows a row of the ledger and a store, and no session id.
"""

import logging
import random
import time
from datetime import timedelta
from typing import Any

from app.sessions.ledger import OpenRow
from app.sessions.payload import merge
from app.sessions.store import DataKey, Saved, SessionStore, StoredSession, StoreUnavailable
from app.sessions.stores import budget
from app.sessions.stores.failures import Failure
from app.sessions.system import SessionSystem
from app.sessions.timeouts import store_ttl

log = logging.getLogger(__name__)

_UNWRITABLE = (Failure.READ_ONLY.value, Failure.FULL.value)
_LONGEST_PAUSE = 0.02
_MERGE_FOR = 5.0


class DataMissing(StoreUnavailable):
    """The ledger says that the session is live, and its store answers that it has no such data."""

    def __init__(self, store: str) -> None:
        super().__init__(store, "it answers, but the data of this session is not there")


class SessionData:
    """Loads at most once, saves by compare-and-set, merges on conflict.

    `extend` says that this request moves the deadline, so the store's time left moves with it.
    """

    def __init__(self, system: SessionSystem, row: OpenRow, *, extend: bool) -> None:
        self._system = system
        self._row = row
        self._stored: StoredSession | None = None
        self._ttl: timedelta | None = None
        if extend:
            policy = system.policy.of(row.role)
            self._ttl = store_ttl(policy, row.now, row.absolute_expires_at)

    @property
    def _store(self) -> SessionStore:
        return self._system.stores[self._row.store]

    @property
    def _key(self) -> DataKey:
        return DataKey(self._row.data_key)

    @property
    def loaded(self) -> bool:
        return self._stored is not None

    def load(self) -> dict[str, Any]:
        """Return the data. Raises StoreUnavailable, DataMissing, UnreadablePayload."""
        self._stored = self._read()
        if self._stored is None:
            raise DataMissing(self._row.store)
        return self._system.codec.decode(self._stored.payload)

    def _read(self) -> StoredSession | None:
        """Read, and extend if that is due; a store that refuses to write is read all the same."""
        try:
            return self._store.load(self._key, extend_to=self._ttl)
        except StoreUnavailable as error:
            if self._ttl is None or error.detail not in _UNWRITABLE:
                raise
            log.warning("touch_without_store store=%s", error.store)
            return self._store.load(self._key)

    def extend(self) -> None:
        """Move the store's time left though nobody asked for the data. Raises StoreUnavailable."""
        if self._ttl is not None and not self.loaded:
            self._stored = self._store.load(self._key, extend_to=self._ttl)

    def save(self, data: dict[str, Any]) -> Saved:
        """Write what changed since `load`, onto what other requests have written meanwhile.

        Returns SAVED or GONE. Raises StoreUnavailable, also when the conflicts do not end in time.
        """
        payload = self._system.codec.encode(data)
        seen = self._stored
        if seen is None:
            seen, data, payload = self._onto_latest({}, data)
        elif payload == seen.payload:
            return Saved.SAVED
        for _ in self._tries():
            if seen is None:
                return Saved.GONE
            saved = self._store.save(self._key, payload, seen.version, self._ttl)
            if saved is not Saved.CONFLICT:
                return saved
            base = self._system.codec.decode(self._stored.payload) if self._stored else {}
            seen, _merged, payload = self._onto_latest(base, data)
        raise StoreUnavailable(self._row.store, "other requests kept changing this session")

    def _onto_latest(
        self, base: dict[str, Any], mine: dict[str, Any]
    ) -> tuple[StoredSession | None, dict[str, Any], bytes]:
        latest = self._store.load(self._key)
        if latest is None:
            return None, mine, b""
        merged = merge(base, mine, self._system.codec.decode(latest.payload))
        return latest, merged, self._system.codec.encode(merged)

    def _tries(self) -> Any:
        """Yield until the request's deadline, pausing in between so that someone gets through."""
        left = budget.remaining()
        ends = time.monotonic() + (_MERGE_FOR if left is None else min(_MERGE_FOR, left))
        yield 0
        while time.monotonic() < ends:
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - it only spreads
            yield 1
