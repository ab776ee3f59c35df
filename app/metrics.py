"""What a process counts and times, for Prometheus. Any module may call it; it knows none of them.

Under gunicorn each worker process keeps its counts in files of the folder that gunicorn.conf.py
makes, and whichever process is scraped adds all files up. The one that replaces a process goes on in
its files, so that they do not pile up. Elsewhere they are the process's own.
What is counted has already happened, so nothing that counts here raises: see `unfailing`.
Labels have few values and all are ours: never a name, an address, a path or a reference.
"""

import hmac
import logging
import os
import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder; prometheus_client reads it when it is imported."""

SLOT = "ROLLCALL_METRICS_SLOT"
"""The variable by which gunicorn.conf.py says under which name this process keeps its files."""

if os.environ.get("FLASK_RUN_FROM_CLI") == "true":
    # A command's file would be added to the web server's for as long as that runs.
    os.environ.pop(FOLDER, None)

from prometheus_client import (  # noqa: E402 -- see above
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402

log = logging.getLogger(__name__)
P = ParamSpec("P")

if FOLDER in os.environ and (_slot := os.environ.get(SLOT)):
    values.ValueClass = values.MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

EVENTS = Counter(
    "rollcall_events",
    "Committed events of the audit trail.",
    ["verb", "reason", "result"],
    registry=REGISTRY,
)
SIGN_INS = Counter(
    "rollcall_sign_ins",
    "Sign-ins by result: ok, wrong_password, unknown_name, disabled, at_limit.",
    ["result"],
    registry=REGISTRY,
)
THROTTLED = Counter(
    "rollcall_throttled",
    "Passwords that were not looked at because too many had failed before.",
    registry=REGISTRY,
)
SESSIONS_ENDED = Counter(
    "rollcall_sessions_ended",
    "Sessions that ended, by cause.",
    ["cause"],
    registry=REGISTRY,
)
REVOCATIONS = Counter(
    "rollcall_revocations",
    "Confirmed revocations, of one session or many, by reason code.",
    ["reason"],
    registry=REGISTRY,
)
REGENERATIONS = Counter(
    "rollcall_regenerations",
    "New ids for the same session, by cause.",
    ["cause"],
    registry=REGISTRY,
)
UNKNOWN_IDS = Counter(
    "rollcall_unknown_session_ids",
    "Well-formed session cookies that the ledger does not know.",
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "rollcall_request_seconds",
    "Time until a request's answer began.",
    ["endpoint", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    registry=REGISTRY,
)
STORE_SECONDS = Histogram(
    "rollcall_store_seconds",
    "Time of a call to a server, answered or failed; a transaction counts as one call.",
    ["store", "operation"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    registry=REGISTRY,
)
STORE_FAILURES = Counter(
    "rollcall_store_failures",
    "Calls that a server did not answer as asked, by kind; not_asked: breaker open, or no time left.",
    ["store", "kind"],
    registry=REGISTRY,
)
BREAKER_OPEN = Gauge(
    "rollcall_breaker_open",
    "1 from the failure that opened a process's breaker until the server answers it again.",
    ["store"],
    multiprocess_mode="livemax",
    registry=REGISTRY,
)


def unfailing(note: Callable[P, None]) -> Callable[P, None]:
    """Make a function that counts one that never raises: the act itself has succeeded by then."""

    @wraps(note)
    def noted(*args: P.args, **named: P.kwargs) -> None:
        try:
            note(*args, **named)
        except Exception:  # noqa: BLE001 -- whatever it is, the act stands
            _complain()

    return noted


@cache
def _complain() -> None:
    """Log the first failure of this process; all others would say the same."""
    log.error("counting_failed", exc_info=sys.exception())


@unfailing
def add(counter: Counter, *labels: str, times: int = 1) -> None:
    """Add to a counter."""
    (counter.labels(*labels) if labels else counter).inc(times)


@unfailing
def set_breaker(store: str, *, is_open: bool) -> None:
    """Note how a breaker of this process stands."""
    BREAKER_OPEN.labels(store).set(is_open)


@unfailing
def store_took(store: str, operation: str, seconds: float) -> None:
    """Note the duration of a call to a server."""
    _store_timer(store, operation)(seconds)


@unfailing
def request_took(endpoint: str, method: str, status: str, seconds: float) -> None:
    """Note the duration of a request."""
    _request_timer(endpoint, method, status)(seconds)


@cache
def _store_timer(store: str, operation: str) -> Callable[[float], None]:
    return STORE_SECONDS.labels(store, operation).observe


@cache
def _request_timer(endpoint: str, method: str, status: str) -> Callable[[float], None]:
    return REQUEST_SECONDS.labels(endpoint, method, status).observe


def exposition() -> bytes:
    """Return the counts, of all processes of this web server, in Prometheus' text form."""
    if (folder := os.environ.get(FOLDER)) is None:
        return generate_latest(REGISTRY)
    everybody = CollectorRegistry()
    MultiProcessCollector(everybody, folder)  # type: ignore[no-untyped-call]
    return generate_latest(everybody)


def may_scrape(authorization: str, token: str) -> bool:
    """Say whether an Authorization header carries the token; without a token everybody may."""
    scheme, _, sent = authorization.partition(" ")
    right = hmac.compare_digest(sent.strip().encode(), token.encode())
    return not token or (right and scheme.lower() == "bearer")
