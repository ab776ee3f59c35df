"""What the worker has done, as metrics, and the small server at which they are read.

The worker is a process of its own, often on a host of its own, so the web server cannot tell of it.
`flask worker` notes each pass here; a scraper and the health check of its container read it.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from click import ClickException
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from app import metrics
from app.sessions.upkeep import Pass

log = logging.getLogger(__name__)

_DONE = ("expired", "purged", "lost", "deleted", "forgotten")
_PATIENCE = 5
"""Seconds for which a scraper may keep its thread waiting."""


class Passes(Collector):
    """The passes of one worker. The pass itself and the scraper are different threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last: tuple[float, float, int] | None = None
        self._done = dict.fromkeys(_DONE, 0)
        self._results = {"finished": 0, "skipped": 0}

    def finished(self, done: Pass, seconds: float, at: float | None = None) -> None:
        """Note a pass that came to its end now (or `at`, in seconds since the epoch)."""
        with self._lock:
            self._last = (time.time() if at is None else at, seconds, len(done.alarms))
            self._results["finished"] += 1
            for what in _DONE:
                self._done[what] += getattr(done, what)

    def skipped(self) -> None:
        """Note a pass that a silent database cut short."""
        with self._lock:
            self._results["skipped"] += 1

    def collect(self) -> Iterator[Metric]:
        """Return what has been noted; of the last pass nothing before there was one."""
        with self._lock:
            last, done, results = self._last, dict(self._done), dict(self._results)
        passes = CounterMetricFamily(
            "rollcall_worker_passes",
            "Passes by result; skipped: the database was silent.",
            labels=["result"],
        )
        for result, number in results.items():
            passes.add_metric([result], number)
        work = CounterMetricFamily(
            "rollcall_worker_done", "What finished passes did, in rows.", labels=["what"]
        )
        for what, number in done.items():
            work.add_metric([what], number)
        yield passes
        yield work
        for (name, words), value in zip(_OF_LAST_PASS, last or (), strict=False):
            yield GaugeMetricFamily(f"rollcall_worker_{name}", words, value)


_OF_LAST_PASS = (
    ("last_pass_timestamp_seconds", "When the last finished pass ended, since the epoch."),
    ("last_pass_seconds", "How long the last finished pass took."),
    ("alarms", "Stores that the last finished pass raised an alarm about."),
)


@contextmanager
def served(passes: Passes, address: str, token: str) -> Iterator[None]:
    """Serve the worker's metrics at `host:port` for the block; an empty address serves nothing.

    Raises ClickException for an address that cannot be used.
    """
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server = _listening(host.strip("[]"), int(port), _guarded(passes, token))
    except OSError as error:
        raise ClickException(
            f"WORKER_METRICS_ADDRESS: {address} cannot be used: {error.strerror}"
        ) from None
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def _guarded(passes: Passes, token: str) -> App:
    everything = CollectorRegistry()
    everything.register(metrics.REGISTRY)
    everything.register(passes)
    scraped: App = make_wsgi_app(everything)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if metrics.may_scrape(environ.get("HTTP_AUTHORIZATION", ""), token):
            return scraped(environ, start_response)
        headers = [("WWW-Authenticate", 'Bearer realm="metrics"'), ("Content-Type", "text/plain")]
        start_response("401 Unauthorized", headers)
        return [b"The metrics need a token.\n"]

    return answer


class _Silent(WSGIRequestHandler):
    """A scrape every few seconds is no event."""

    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Log nothing."""


def _listening(host: str, port: int, app: App) -> ThreadingWSGIServer:
    class Server(ThreadingWSGIServer):
        address_family = AF_INET6 if ":" in host else AF_INET

        def server_bind(self) -> None:
            """Bind without asking the DNS for our own name, which can take long and is not used."""
            TCPServer.server_bind(self)
            self.server_name, self.server_port = host, port
            self.setup_environ()

        def handle_error(self, _request: object, client_address: tuple[Any, ...]) -> None:
            """Log what broke off a scrape: most often a client that hung up or never asked."""
            log.warning("scrape_failed client=%s detail=%s", client_address[0], sys.exception())

    return make_server(host, port, app, Server, _Silent)
