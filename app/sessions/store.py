"""What a session store is: a handful of verbs over bytes, a key and a deadline.

A store carries a session's payload from request to request and decides nothing: whether a session
counts is the ledger's word. Absence is an answer; an exception is for a broken server.
Implementations live in `app.sessions.stores`; `interface`, `purge`, `upkeep` and the sessions list call them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import NewType, Protocol

DataKey = NewType("DataKey", str)
"""The random name of a payload. It is not derived from the session id and survives regeneration."""

Version = NewType("Version", bytes)
"""Opaque: the store hands it out with a payload and compares it on save."""


class SessionError(Exception):
    """The base of what can go wrong with a session's data."""


class StoreUnavailable(SessionError):
    """A server did not answer, or answered that it cannot work. It says nothing about the session."""

    def __init__(self, store: str, detail: str = "") -> None:
        super().__init__(f"{store} did not answer" + (f": {detail}" if detail else ""))
        self.store = store
        self.detail = detail


class SessionExists(SessionError):
    """`create` met a data key that is taken. With random keys this means a fault, never chance."""


class UnreadablePayload(SessionError):
    """The stored bytes are not a payload: too large, truncated, or of a foreign form."""


class Saved(Enum):
    """What became of a save."""

    SAVED = auto()
    CONFLICT = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A payload with the version under which it was read."""

    payload: bytes
    version: Version


class SessionStore(Protocol):
    """One server's payloads. Every method raises StoreUnavailable when the server does not answer in time.

    A payload whose time is up is absent from every method.
    """

    name: str

    def load(self, key: DataKey, *, extend_to: timedelta | None = None) -> StoredSession | None:
        """Read a payload; with `extend_to`, set its time left in the same round trip."""
        ...

    def create(self, key: DataKey, payload: bytes, ttl: timedelta) -> None:
        """Write a payload under a key that is free. Raises SessionExists."""
        ...

    def save(self, key: DataKey, payload: bytes, version: Version, ttl: timedelta | None) -> Saved:
        """Replace a payload if it still has `version`. It never creates. A ttl of None keeps the time left."""
        ...

    def delete(self, keys: Sequence[DataKey]) -> int:
        """Delete payloads and return how many were there."""
        ...

    def present(self, keys: Sequence[DataKey]) -> dict[DataKey, timedelta]:
        """Return the time left of those payloads that exist."""
        ...

    def delete_expired(self) -> int:
        """Delete what is past its time, where the server does not do so by itself; return how many."""
        ...
