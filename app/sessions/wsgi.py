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
        budget.start(self._seconds)
        try:
            body = self._app(environ, start_response)
            left = budget.remaining() or 0.0
        finally:
            budget.clear()
        return _Body(body, left, self._seconds)


class _Body:
    """An answer whose chunks, and whose end, which hands connections back, are held to a budget each."""

    __slots__ = ("_body", "_chunks", "_left", "_seconds")

    def __init__(self, body: Iterable[bytes], left: float, seconds: float) -> None:
        self._body = body
        self._chunks = iter(body)
        self._left = left
        self._seconds = seconds

    def __iter__(self) -> "_Body":
        return self

    def __next__(self) -> bytes:
        with budget.limit(self._left):
            chunk = next(self._chunks)
        self._left = self._seconds
        return chunk

    def close(self) -> None:
        if (close := getattr(self._body, "close", None)) is not None:
            with budget.limit(self._seconds):
                close()
