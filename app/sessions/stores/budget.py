"""The budget of a request: how many seconds it may still spend waiting for servers.

Only waiting is charged, so a slow view can still save its session. The WSGI middleware calls
`start` for a request (and again for each chunk of a stream) and `clear` after it; the connection
classes of `connections` and `drivers` charge their waits and ask for the `timeout` of the next one.
Without a budget (the CLI, the worker) nothing is cut short.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from time import monotonic


class DeadlineExceeded(TimeoutError):
    """The request has spent its budget. It is a TimeoutError, so drivers treat it as their own."""

    def __init__(self) -> None:
        super().__init__("the request's deadline has passed")


class Budget:
    """Seconds left, and since when a wait has been running: one wait may hold others inside it."""

    __slots__ = ("_left", "_since")

    def __init__(self, seconds: float) -> None:
        self.renew(seconds)

    def renew(self, seconds: float) -> None:
        """Begin again with so many seconds, outside every wait."""
        self._left = seconds
        self._since: float | None = None

    def left(self) -> float:
        running = 0.0 if self._since is None else monotonic() - self._since
        return max(0.0, self._left - running)

    @property
    def is_waiting(self) -> bool:
        return self._since is not None

    def charge(self, seconds: float) -> None:
        self._left -= seconds

    def begin(self) -> bool:
        """Begin to wait; False inside another wait, which is charged."""
        if self._since is not None:
            return False
        self._since = monotonic()
        return True

    def end(self) -> None:
        if self._since is not None:
            self._left -= monotonic() - self._since
            self._since = None


_budget: ContextVar[Budget | None] = ContextVar("rollcall_budget", default=None)


def start(seconds: float) -> Budget:
    """Give this context a fresh budget, in seconds of waiting. It replaces the one before."""
    given = Budget(seconds)
    _budget.set(given)
    return given


def resume(given: Budget) -> None:
    """Go on with a budget that `start` gave; `clear` took it away meanwhile."""
    _budget.set(given)


def clear() -> None:
    """Take the budget away: nothing is cut short from here on."""
    _budget.set(None)


class limit:  # noqa: N801 - it reads as a verb
    """Hold the block to a budget of its own, in seconds of waiting; None lifts it for the block."""

    __slots__ = ("_outer", "_own")

    def __init__(self, seconds: float | None) -> None:
        self._own = None if seconds is None else Budget(seconds)

    def __enter__(self) -> None:
        self._outer = _budget.set(self._own)

    def __exit__(self, *_: object) -> None:
        _budget.reset(self._outer)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Hold the block to so many seconds of what is left; what it waited is charged. None stays none."""
    outer = _budget.get()
    if outer is None:
        yield
        return
    inner = Budget(min(seconds, outer.left()))
    given = inner.left()
    token = _budget.set(inner)
    try:
        yield
    finally:
        _budget.reset(token)
        if not outer.is_waiting:
            outer.charge(given - inner.left())


def half() -> AbstractContextManager[None]:
    """Hold the block to half of what is left: what follows needs its part too. None stays none."""
    return within(0.5 * (remaining() or 0.0))


def remaining() -> float | None:
    """Return the seconds of waiting that are left, 0 when all are spent, None without a budget."""
    budget = _budget.get()
    return None if budget is None else budget.left()


def charge(seconds: float) -> None:
    """Take seconds off the budget, for a wait that `waiting` could not hold."""
    budget = _budget.get()
    if budget is not None:
        budget.charge(seconds)


class waiting:  # noqa: N801 - it reads as a verb
    """Charge the block's duration to the budget. Blocks may nest; the outermost one is charged.

    A class, like `limit`: a generator's context costs several times as much, and a request has many.
    """

    __slots__ = ("_charged",)

    def __enter__(self) -> None:
        budget = _budget.get()
        self._charged = budget if budget is not None and budget.begin() else None

    def __exit__(self, *_: object) -> None:
        if self._charged is not None:
            self._charged.end()


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
