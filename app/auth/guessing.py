"""Notice the guessing of session ids: many different unknown ones from one client (OWASP).

An unknown id costs the ledger and the stores nothing but the question. It is counted where failed
sign-ins are, and a client that fills its window is one event of the trail, however long it goes on.
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
WINDOW = 600
"""Seconds, from a client's first unknown id on."""


def init_app(app: Flask) -> None:
    """Listen for unknown ids."""
    unknown_id.connect(_note, app)


def _note(app: Flask, *, handle: bytes, actor: Actor, **_: Any) -> None:
    client = _client_at(actor.ip or "")
    if not throttle_of(app).ask(partial(_fills_window, client, handle[:8].hex())):
        return
    details = {"client": client, "ids": IDS, "seconds": WINDOW}
    try:
        with system_of(app).ledger.transaction() as tx:
            tx.record(actor, [Event(Verb.IDS_GUESSED, result="alarm", details=details)])
    except StoreUnavailable as error:
        log.warning("ids_guessed_not_recorded client=%s detail=%s", client, error.detail)


def _client_at(ip: str) -> str:
    """Return what one client has to itself: an address of IPv4, a /64 of IPv6."""
    return network_of(ip) if ":" in ip else ip


def _fills_window(client: str, digest: str, limiter: MovingWindowRateLimiter) -> bool:
    """Count an id; True for the one with which the client has sent IDS different ones.

    The same id again is a browser that was not told, not a guess. A full window counts no further, so
    that a client takes up no more room than that.
    """
    counters, sent = limiter.storage, f"ids/{client}"
    if counters.get(sent) >= IDS or counters.incr(f"id/{client}/{digest}", WINDOW) > 1:
        return False
    return counters.incr(sent, WINDOW) == IDS
