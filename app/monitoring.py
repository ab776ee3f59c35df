"""What is measured around requests, and `/metrics`, where Prometheus reads it.

`create_app` calls `init_app` after `web`'s, so that a request is timed as its client sees it. What
this process counts is in `app.metrics`; what the ledger and the stores know is asked at the scrape.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

from flask import Flask, Response, current_app, request
from flask.typing import ResponseReturnValue
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from app import metrics
from app.auth.access import public
from app.people.models import Role, User
from app.sessions.ledger import DATABASE
from app.sessions.models import PendingPurge, UserSession
from app.sessions.store import DataKey, SessionStore, StoreUnavailable
from app.sessions.stores import budget
from app.sessions.system import SessionSystem, system_of
from app.sessions.transaction import live

_LOOK = 0.2
"""Seconds that one store may take to answer a scrape, so that the ledger can still be asked."""

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
_LIVE = (
    select(UserSession.store, User.role, func.count().label("rows"))
    .join(User, User.id == UserSession.user_id)
    .where(live(), User.active)
    .group_by(UserSession.store, User.role)
)
_WAITING = select(PendingPurge.store, func.count().label("rows")).group_by(PendingPurge.store)

# Starts at 0, so that a site without errors has a rate of them.
metrics.REQUEST_SECONDS.labels("none", "GET", "5xx")

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def init_app(app: Flask) -> None:
    """Time every request of an application, and answer /metrics."""
    app.add_url_rule("/metrics", "metrics", scrape)
    app.wsgi_app = Timed(app.wsgi_app)  # type: ignore[method-assign]


class Timed:
    """WSGI middleware that notes how long an answer took to begin, saving the session included."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        endpoint, status = "none", "5xx"

        def heard(line: str, *rest: Any) -> Any:
            nonlocal endpoint, status
            endpoint, status = _endpoint(environ), f"{line[0]}xx"
            return start_response(line, *rest)

        began = perf_counter()
        try:
            return self._app(environ, heard)
        finally:
            method = environ["REQUEST_METHOD"]
            known = method if method in _METHODS else "other"
            metrics.request_took(endpoint, known, status, perf_counter() - began)


def _endpoint(environ: dict[str, Any]) -> str:
    """Return the name of the route that a request met, never its path: anybody can make those up.

    Flask takes its request out of the environment at the end, but after the answer has begun.
    """
    return getattr(environ.get("werkzeug.request"), "endpoint", None) or "none"


@public
def scrape() -> ResponseReturnValue:
    """Answer a scraper, with whatever can be said: a silent server is a value, not an error."""
    token = current_app.config["METRICS_TOKEN"]
    if not metrics.may_scrape(request.headers.get("Authorization", ""), token):
        refusal = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        return Response("The metrics need a token.\n", 401, refusal, mimetype="text/plain")
    found = generate_latest(Asked(system_of(current_app)))
    return Response(metrics.exposition() + found, content_type=metrics.CONTENT_TYPE)


class Asked(Collector):
    """What the stores and the ledger say when they are asked, within the request's deadline."""

    def __init__(self, system: SessionSystem) -> None:
        self._system = system

    def collect(self) -> Iterator[Metric]:
        """Ask each server once."""
        up = GaugeMetricFamily(
            "rollcall_up", "1 if a server answered this scrape.", labels=["dependency"]
        )
        for name, store in self._system.stores.items():
            up.add_metric([name], self._answers(partial(self._look_at, store)))
        counts: list[Metric] = []
        up.add_metric([DATABASE], self._answers(lambda: counts.extend(self._counts())))
        yield up
        yield from counts

    def _answers(self, ask: Callable[[], object]) -> bool:
        try:
            ask()
        except StoreUnavailable:
            return False
        return True

    def _look_at(self, store: SessionStore) -> None:
        with budget.within(_LOOK):
            store.present([DataKey("metrics")])

    def _counts(self) -> list[Metric]:
        stores = self._system.stores.names
        live_now = GaugeMetricFamily(
            "rollcall_live_sessions", "Sessions that count now.", labels=["store", "role"]
        )
        rows = {(name, role.value): 0 for name in stores for role in Role}
        rows |= {(row.store, row.role): row.rows for row in self._system.ledger.read(_LIVE)}
        for labels, number in rows.items():
            live_now.add_metric(labels, number)
        waiting = GaugeMetricFamily(
            "rollcall_purges_waiting",
            "Ended sessions whose data is still to be deleted.",
            labels=["store"],
        )
        pending = dict.fromkeys(stores, 0)
        pending |= {row.store: row.rows for row in self._system.ledger.read(_WAITING)}
        for name, number in pending.items():
            waiting.add_metric([name], number)
        return [live_now, waiting]
