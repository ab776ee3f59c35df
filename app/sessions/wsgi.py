"""Give each request its budget of waiting, around everything else that the application does."""

from collections.abc import Callable, Iterable
from typing import Any

from app.sessions.stores import budget

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Deadline:
    """WSGI middleware. A stream has the budget up to its first chunk, and anew for each further one."""

    def __init__(self, app: App, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        given = budget.start(self._seconds)
        try:
            body = self._app(environ, start_response)
        finally:
            budget.clear()
        return _Body(body, given, self._seconds)


class _Body:
    """An answer whose chunks, and whose end, which hands connections back, are held to a budget each."""

    __slots__ = ("_body", "_chunks", "_given", "_seconds")

    def __init__(self, body: Iterable[bytes], given: budget.Budget, seconds: float) -> None:
        self._body = body
        self._chunks = iter(body)
        self._given = given
        self._seconds = seconds

    def __iter__(self) -> "_Body":
        return self

    def __next__(self) -> bytes:
        budget.resume(self._given)
        try:
            return next(self._chunks)
        finally:
            budget.clear()
            self._given.renew(self._seconds)

    def close(self) -> None:
        if (close := getattr(self._body, "close", None)) is not None:
            self._given.renew(self._seconds)
            budget.resume(self._given)
            try:
                close()
            finally:
                budget.clear()
