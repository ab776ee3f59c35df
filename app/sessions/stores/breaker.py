"""Where driver errors become `StoreUnavailable`, and the breaker: a dead server costs time once.

Stores and the ledger wrap each call in `Breaker.answering()`. `Breaker.state` says how it stands.
"""

from enum import StrEnum
from threading import Lock
from time import monotonic
from types import TracebackType

from app import metrics
from app.sessions.store import StoreUnavailable
from app.sessions.stores import budget
from app.sessions.stores.failures import Failure, failure_of

OPEN_FOR = 1.0
"""Seconds for which an open breaker answers at once."""

COSTLY = 0.1
"""A failure for which fewer seconds were waited does not open the breaker: asking again is cheap."""

PROBE_EXPIRES = 2.0
"""Seconds after which a probe that has not come back no longer keeps the next one out."""


class BreakerState(StrEnum):
    """Closed lets every call through, open none, half-open one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Fail at once for a short time after a failure that cost time; then let one probe through."""

    def __init__(self, name: str, *, open_for: float = OPEN_FOR) -> None:
        self.name = name
        self._open_for = open_for
        self._lock = Lock()
        self._opened_at: float | None = None
        self._probe_at: float | None = None
        self._detail = ""
        metrics.set_breaker(name, is_open=False)

    @property
    def state(self) -> BreakerState:
        with self._lock:
            if self._opened_at is None:
                return BreakerState.CLOSED
            if monotonic() - self._opened_at < self._open_for:
                return BreakerState.OPEN
            return BreakerState.HALF_OPEN

    def answering(self, operation: str = "other") -> "_Call":
        """Run one call, the block, and time it.

        Raises StoreUnavailable for a broken server, and at once while open. Errors of the program
        (bad SQL, a violated constraint, a wrong type) pass through.
        """
        return _Call(self, operation)

    def _enter(self) -> None:
        if self._opened_at is not None:
            self._probe()

    def _probe(self) -> None:
        with self._lock:
            if self._opened_at is None:
                return
            at = monotonic()
            resting = at - self._opened_at < self._open_for
            probing = self._probe_at is not None and at - self._probe_at < PROBE_EXPIRES
            if resting or probing:
                metrics.add(metrics.STORE_FAILURES, self.name, "not_asked")
                raise StoreUnavailable(self.name, f"{self._detail}; not asked again yet")
            self._probe_at = at

    def _failed(self, failure: Failure, waited: float) -> None:
        with self._lock:
            was_probe = self._probe_at is not None
            self._probe_at = None
            if failure.means_down and (was_probe or waited >= COSTLY):
                self._opened_at = monotonic()
                self._detail = failure.value
            elif not failure.means_down:
                self._opened_at = None
            metrics.set_breaker(self.name, is_open=self._opened_at is not None)
        metrics.add(metrics.STORE_FAILURES, self.name, failure.name.lower())

    def _ended(self, error: BaseException | None, waited: float | None) -> None:
        """Judge how a call ended; raise StoreUnavailable in place of a server's error.

        `waited` is None for a call that had no time to wait: its failure says nothing of the server.
        """
        if error is None:
            self._close()
        elif isinstance(error, StoreUnavailable) or not isinstance(error, Exception):
            # Another server's, or the program ends: nothing is known of this one.
            self._abandon()
        elif (failure := failure_of(error)) is None:
            self._close()
        else:
            if waited is None:
                self._abandon()
                metrics.add(metrics.STORE_FAILURES, self.name, "not_asked")
            else:
                self._failed(failure, waited)
            raise StoreUnavailable(self.name, failure.value) from error

    def _close(self) -> None:
        if self._opened_at is None and self._probe_at is None:
            return
        with self._lock:
            if self._opened_at is not None:
                metrics.set_breaker(self.name, is_open=False)
            self._opened_at = None
            self._probe_at = None

    def _abandon(self) -> None:
        with self._lock:
            self._probe_at = None


class _Call:
    """The context of one call. A class: a generator's context costs several times as much."""

    __slots__ = ("_began", "_breaker", "_left", "_operation")

    def __init__(self, breaker: Breaker, operation: str) -> None:
        self._breaker = breaker
        self._operation = operation

    def __enter__(self) -> None:
        self._breaker._enter()
        self._left = budget.remaining()
        self._began = monotonic()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _t: TracebackType | None,
    ) -> None:
        took = monotonic() - self._began
        try:
            self._breaker._ended(error, took if error is None else self._waited(took))
        finally:
            metrics.store_took(self._breaker.name, self._operation, took)

    def _waited(self, took: float) -> float | None:
        """Return the seconds of the budget that the call took; all of its time where there is none."""
        if self._left is None:
            return took
        return self._left - (budget.remaining() or 0.0) if self._left else None
