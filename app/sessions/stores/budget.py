"""The budget of a request: how many seconds it may still spend waiting for servers.

Only waiting is charged, so a slow view can still save its session. The WSGI middleware calls
`start` for a request (and again for each chunk of a stream) and `clear` after it; the connection
classes of `connections` and `drivers` charge their waits and ask for the `timeout` of the next one.
Without a budget (the CLI, the worker) nothing is cut short.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic


class DeadlineExceeded(TimeoutError):
    """The request has spent its budget. It is a TimeoutError, so drivers treat it as their own."""

    def __init__(self) -> None:
        super().__init__("the request's deadline has passed")


class _Budget:
    """Seconds left, and since when a wait has been running: one wait may hold others inside it."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._since: float | None = None

    def left(self) -> float:
        running = 0.0 if self._since is None else monotonic() - self._since
        return max(0.0, self._left - running)

    def charge(self, seconds: float) -> None:
        self._left -= seconds

    @contextmanager
    def waiting(self) -> Iterator[None]:
        if self._since is not None:
            yield
            return
        self._since = monotonic()
        try:
            yield
        finally:
            self._left -= monotonic() - self._since
            self._since = None


_budget: ContextVar[_Budget | None] = ContextVar("rollcall_budget", default=None)


def start(seconds: float) -> None:
    """Give this context a fresh budget, in seconds of waiting. It replaces the one before."""
    _budget.set(_Budget(seconds))


def clear() -> None:
    """Take the budget away: nothing is cut short from here on."""
    _budget.set(None)


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Hold the block to a budget of its own, in seconds of waiting; None lifts it for the block."""
    token = _budget.set(None if seconds is None else _Budget(seconds))
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Hold the block to so many seconds of what is left; what it waited is charged. None stays none."""
    outer = _budget.get()
    if outer is None:
        yield
        return
    inner = _Budget(min(seconds, outer.left()))
    given = inner.left()
    token = _budget.set(inner)
    try:
        yield
    finally:
        _budget.reset(token)
        outer.charge(given - inner.left())


def remaining() -> float | None:
    """Return the seconds of waiting that are left, 0 when all are spent, None without a budget."""
    budget = _budget.get()
    return None if budget is None else budget.left()


def charge(seconds: float) -> None:
    """Take seconds off the budget, for a wait that `waiting` could not hold."""
    budget = _budget.get()
    if budget is not None:
        budget.charge(seconds)


@contextmanager
def waiting() -> Iterator[None]:
    """Charge the block's duration to the budget. Blocks may nest; the outermost one is charged."""
    budget = _budget.get()
    if budget is None:
        yield
        return
    with budget.waiting():
        yield


def timeout(at_most: float) -> float:
    """Return how long the next wait may last: what is left, and never more than `at_most` seconds.

    Raises DeadlineExceeded when nothing is left, before anything is sent.
    """
    left = remaining()
    if left is None:
        return at_most
    if left <= 0.0:
        raise DeadlineExceeded
    return min(left, at_most)
