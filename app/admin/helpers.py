"""What the staff pages share: the person who acts, and the record of an export."""

from flask import request

from app.audit.models import Verb
from app.audit.trail import Event
from app.filters import number
from app.sessions.interface import session
from app.sessions.ledger import Principal
from app.sessions.system import system
from app.texts import ngettext

ID = "int(max=9223372036854775807)"
"""The URL converter of a row's id: what no database can hold is a 404."""


def person() -> Principal:
    """Return who is signed in; the page's rule has made sure that somebody is."""
    principal = session.principal
    assert isinstance(principal, Principal)
    return principal


def record_export(noun: str, rows: int) -> None:
    """Write to the trail that a list was exported, with its filters."""
    details = {"list": noun, "rows": rows, "query": request.query_string.decode("utf-8", "replace")}
    with system.ledger.transaction() as tx:
        tx.record(session.actor(), [Event(Verb.EXPORTED, details=details)])


def sessions_in_words(count: int) -> str:
    """Return `3 sessions`."""
    return ngettext("%(count)s session", "%(count)s sessions", count, count=number(count))


def join_sentences(*sentences: str) -> str:
    """Return sentences as one text, without the empty ones."""
    return " ".join(sentence for sentence in sentences if sentence)
