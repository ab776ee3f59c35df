"""Notice the guessing of session ids: many different unknown ones from one client (OWASP).

An unknown id costs the ledger and the stores nothing but the question. It is counted where failed
sign-ins are, and a client that fills its window is one event of the trail, however long it goes on.
What all clients together take up in Redis and in the trail is bounded too.
"""

import logging
from functools import partial
from typing import Any

from flask import Flask
from limits.strategies import MovingWindowRateLimiter

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.auth.throttle import network_of, throttle_of
from app.sessions.interface import unknown_id
from app.sessions.store import StoreUnavailable
from app.sessions.system import system_of

log = logging.getLogger(__name__)

IDS = 50
IDS_OF_ALL = 10_000
"""Ids that are told apart at a time, of all clients. They lie beside sessions: this is about 3 MB."""

EVENTS = 20
"""Clients that are recorded in a window; the last event says so."""

WINDOW = 600
"""Seconds, from the first unknown id on."""


def init_app(app: Flask) -> None:
    """Listen for unknown ids."""
    unknown_id.connect(_note, app)


def _note(app: Flask, *, handle: bytes, actor: Actor, **_: Any) -> None:
    client = _client_at(actor.ip or "")
    event = throttle_of(app).ask(partial(_alarm, client, handle[:8].hex()))
    if event is None:
        return
    try:
        with system_of(app).ledger.transaction() as tx:
            tx.record(actor, [event])
    except StoreUnavailable as error:
        log.warning("ids_guessed_not_recorded client=%s detail=%s", client, error.detail)


def _client_at(ip: str) -> str:
    """Return what one client may have to itself: an address of IPv4, a /48 of IPv6."""
    return network_of(ip, of_ipv6=48) if ":" in ip else ip


def _alarm(client: str, digest: str, limiter: MovingWindowRateLimiter) -> Event | None:
    """Count an id; return the event of the one with which a window is full.

    The same id again is a browser that was not told, not a guess. A full window counts no further, so
    that neither a client nor all of them together take up more room than that.
    """
    counters, sent = limiter.storage, f"ids/{client}"
    if counters.get(sent) >= IDS or counters.get("ids") >= IDS_OF_ALL:
        return None
    if counters.incr(f"id/{client}/{digest}", WINDOW) > 1:
        return None
    of_client = counters.incr(sent, WINDOW)
    if counters.incr("ids", WINDOW) == IDS_OF_ALL:
        return _event("many", IDS_OF_ALL, "No more are told apart until the time is over")
    if of_client != IDS or (number := counters.incr("ids_events", WINDOW)) > EVENTS:
        return None
    return _event(client, IDS, "More are not recorded" if number == EVENTS else None)


def _event(client: str, ids: int, note: str | None) -> Event:
    details = {"client": client, "ids": ids, "seconds": WINDOW}
    return Event(Verb.IDS_GUESSED, note=note, result="alarm", details=details)
