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
        except BaseException:
            budget.clear()
            raise
        callbacks = [budget.clear]
        if close := getattr(body, "close", None):
            callbacks.insert(0, close)
        return ClosingIterator(self._chunks(body), callbacks)

    def _chunks(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in body:
            yield chunk
            budget.start(self._seconds)
