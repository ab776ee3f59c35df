"""Serve a list as a page, JSON, CSV or NDJSON: the format asked for, and cells that are safe to open.

The views of lists use it, in `account` and `admin`.
"""

import csv
import io
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import Response, abort, jsonify, request, stream_with_context
from werkzeug.datastructures import MultiDict

from app.filters import iso, number
from app.sessions.rows import SessionRow
from app.sessions.store import StoreUnavailable
from app.texts import gettext as _

_FORMATS = ("json", "csv")
NDJSON = "application/x-ndjson"
MOST_ROWS = 100_000
"""The most rows that one export has; where it is cut, its last line says so."""

Record = Mapping[str, object]

SESSION_COLUMNS = (
    "reference",
    "user",
    "role",
    "store",
    "state",
    "started_at",
    "last_seen_at",
    "idle_expires_at",
    "absolute_expires_at",
    "ip",
    "client",
    "user_agent",
    "ended_at",
    "end_reason",
    "ended_by",
    "note",
    "present",
)
"""What a sessions list serves of each row, as JSON and as CSV: section 10 of the design."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def asked_format(*served: str) -> str:
    """Return the format that the request asks for: html, or one of `served`, by default json and csv.

    One that is not known is a 400 naming the others, and so is one that this page does not have.
    """
    served = served or _FORMATS
    asked = request.args.get("format")
    if asked is None:
        best = request.accept_mimetypes
        wanted = best["application/json"] > best["text/html"]
        return "json" if wanted and "json" in served else "html"
    if asked not in ("html", *_FORMATS, *served):
        abort(400, _("The format “%(asked)s” is not known. Use json or csv.", asked=asked))
    if asked not in ("html", *served):
        abort(400, _("There is no %(format)s of this page.", format=asked.upper()))
    return asked


def arguments() -> dict[str, Any]:
    """Return the query's filters: all that is not empty and does not say format or page."""
    return each_once(request.args, ("format", "after"))


def each_once(pairs: MultiDict[str, str], leave: Container[str]) -> dict[str, Any]:
    """Return what is not empty, but for the names to `leave` out.

    One that stands there twice is a 400: to go by the first would be to ignore the second.
    """
    given: dict[str, Any] = {}
    for name, value in pairs.items(multi=True):
        if not value or name in leave:
            continue
        if name in given:
            abort(400, _("“%(token)s:” stands there twice.", token=name))
        given[name] = value
    return given


def refuse_filters() -> None:
    """Answer 400 if the query has a filter: this list has none, and ignores none."""
    if unknown := arguments():
        abort(400, _("There is no filter “%(a)s”. Use %(b)s.", a=min(unknown), b="format"))


def safe_cell(value: object) -> str:
    """Return a value as CSV text that no spreadsheet takes for a formula (CWE-1236)."""
    if value is None:
        return ""
    match value:
        case datetime():
            text = iso(value) or ""
        case dict():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    return "'" + text if text.startswith(_FORMULA) else text


def ndjson_stream(name: str, batches: Iterable[Sequence[Record]]) -> Response:
    """Return batches of rows as an attachment with a JSON object a line, sent while it is read.

    The last line has an `error` instead if not all rows are there, for the reasons of `csv_stream`.
    """
    return _attachment(f"{name}.ndjson", stream_with_context(_objects(batches)), NDJSON)


def _objects(batches: Iterable[Sequence[Record]]) -> Iterator[str]:
    for rows, problem in _parts(batches):
        objects = [*rows, {"error": problem}] if problem else rows
        if objects:
            yield "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def csv_response(name: str, columns: Sequence[str], rows: Iterable[Record]) -> Response:
    """Return rows as a CSV attachment with a heading line."""
    body = _line(columns) + "".join(_line(row[column] for column in columns) for row in rows)
    return _attachment(f"{name}.csv", body)


def csv_stream(name: str, columns: Sequence[str], batches: Iterable[Sequence[Record]]) -> Response:
    """Return batches of rows as a CSV attachment that is sent while it is read.

    The last line says in words if it was cut at MOST_ROWS, or because a server stopped answering.
    """
    return _attachment(f"{name}.csv", stream_with_context(_lines(columns, batches)))


def _lines(columns: Sequence[str], batches: Iterable[Sequence[Record]]) -> Iterator[str]:
    heading = _line(columns)
    for rows, problem in _parts(batches):
        lines = "".join(_line(row[column] for column in columns) for row in rows)
        yield heading + lines + (_line([problem]) if problem else "")
        heading = ""


def _parts(batches: Iterable[Sequence[Record]]) -> Iterator[tuple[Sequence[Record], str]]:
    """Yield the rows of an export, and with the last ones why they are not all, if so."""
    sent = 0
    try:
        for batch in batches:
            rows = batch[: MOST_ROWS - sent]
            sent += len(rows)
            if len(rows) < len(batch):
                most = number(MOST_ROWS)
                yield rows, _("Cut here: an export has at most %(most)s rows. Filter.", most=most)
                return
            if rows or not sent:
                yield rows, ""
    except StoreUnavailable:
        yield (), _("Not complete: a server stopped answering. Export again.")


def _line(values: Iterable[object]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([safe_cell(value) for value in values])
    return out.getvalue()


def _attachment(name: str, body: str | Iterator[str], mimetype: str = "text/csv") -> Response:
    disposition = f'attachment; filename="{name}"'
    return Response(body, mimetype=mimetype, headers={"Content-Disposition": disposition})


def json_list(
    name: str, records: Sequence[Record], following: str | None, **more: object
) -> Response:
    """Return a page of a list as JSON. `next` is the URL of the next page, null on the last."""
    return jsonify({name: records, "next": following, **more})


def record(row: object, columns: Sequence[str]) -> dict[str, object]:
    """Return the named attributes of a row, ready for JSON: times as RFC 3339 in UTC."""
    values = {name: getattr(row, name) for name in columns}
    return {k: iso(v) if isinstance(v, datetime) else v for k, v in values.items()}


def session_record(row: SessionRow) -> dict[str, object]:
    """Return what a list serves of a session."""
    return record(row, SESSION_COLUMNS)
