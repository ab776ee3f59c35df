"""What the staff pages share: the person who acts, exports, refusals, and the records of both."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NoReturn

from flask import Response, abort, request
from sqlalchemy import Select, func, select
from werkzeug.exceptions import Forbidden

from app.audit.models import Verb
from app.audit.trail import Event
from app.filters import number
from app.listing import MOST_ROWS, Record, csv_stream, ndjson_stream
from app.sessions.interface import session
from app.sessions.ledger import Principal
from app.sessions.system import system
from app.texts import gettext as _
from app.texts import ngettext

ID = "int(max=9223372036854775807)"
"""The URL converter of a row's id: what no database can hold is a 404."""

BATCH = 500
"""Rows that an export reads at a time."""


def person() -> Principal:
    """Return who is signed in; the page's rule has made sure that somebody is."""
    principal = session.principal
    assert isinstance(principal, Principal)
    return principal


def after_id() -> int | None:
    """Return the id after which the list goes on; what is none is a 400, and not the first page."""
    after = request.args.get("after")
    if not after:
        return None
    if not after.isdecimal() or len(after) > 18:
        abort(400, _("This page of the list does not exist."))
    return int(after)


def export_csv(
    noun: str, columns: Sequence[str], batches: Iterator[Sequence[Record]], count: Select[Any]
) -> Response:
    """Serve all rows of a list as CSV, batch by batch.

    `count` selects one column of the rows, for their number in the trail.
    """
    return csv_stream(noun, columns, _recorded(noun, "csv", batches, count))


def export_ndjson(noun: str, batches: Iterator[Sequence[Record]], count: Select[Any]) -> Response:
    """Serve all rows of a list as `export_csv` does, as a JSON object a line."""
    return ndjson_stream(noun, _recorded(noun, "ndjson", batches, count))


def _recorded(
    noun: str, form: str, batches: Iterator[Sequence[Record]], count: Select[Any]
) -> Iterator[Sequence[Record]]:
    """Write an export to the trail, which knows of it before the first row leaves."""
    first = next(batches, [])
    counted = select(func.count()).select_from(count.limit(MOST_ROWS).subquery())
    record_export(noun, form, int(system.ledger.read(counted)[0][0]))
    return chain([first], batches)


def record_export(noun: str, form: str, rows: int) -> None:
    """Write to the trail that a list was exported, with its filters; what a page polls is no export."""
    if request.headers.get("X-Passive") == "1":
        return
    query = request.query_string.decode("utf-8", "replace")
    details = {"list": noun, "format": form, "rows": rows, "query": query}
    with system.ledger.transaction() as tx:
        tx.record(session.actor(), [Event(Verb.EXPORTED, details=details)])


def refuse(message: str) -> NoReturn:
    """Answer 403 with a sentence, and write the refusal to the trail as the rules of access do."""
    me = person()
    details = {"path": request.path, "method": request.method}
    event = Event(Verb.ACCESS_REFUSED, me.user_id, result="refused", details=details)
    with system.ledger.transaction() as tx:
        tx.record(session.actor(), [event])
    raise Forbidden(message)


def sessions_in_words(count: int) -> str:
    """Return `3 sessions`."""
    return ngettext("%(count)s session", "%(count)s sessions", count, count=number(count))
