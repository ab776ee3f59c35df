"""Give each request its budget of waiting, around everything else that the application does."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from werkzeug.wsgi import ClosingIterator

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
        close = getattr(body, "close", None)
        return ClosingIterator(
            self._chunks(body, left), [] if close is None else [self._held(close)]
        )

    def _chunks(self, body: Iterable[bytes], left: float) -> Iterator[bytes]:
        chunks = iter(body)
        while True:
            with budget.limit(left):
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            yield chunk
            left = self._seconds

    def _held(self, close: Callable[[], None]) -> Callable[[], None]:
        """Hold the end of the request, which hands connections back, to a budget too."""

        def held() -> None:
            with budget.limit(self._seconds):
                close()

        return held
