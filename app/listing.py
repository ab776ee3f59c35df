"""Serve a list as a page, as JSON or as CSV: the format asked for, and cells that are safe to open.

The views of lists use it, in `account` and `admin`.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import Response, abort, request

from app.filters import iso
from app.sessions.search import SessionRow
from app.texts import gettext as _

FORMATS = ("html", "json", "csv")
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


def asked_format() -> str:
    """Return the format that the request asks for; an unknown one is a 400 naming the others."""
    asked = request.args.get("format")
    if asked is None:
        best = request.accept_mimetypes
        return "json" if best["application/json"] > best["text/html"] else "html"
    if asked not in FORMATS:
        abort(400, _("The format “%(asked)s” is not known. Use json or csv.", asked=asked))
    return asked


def arguments() -> dict[str, Any]:
    """Return the query's filters: all that is not empty and does not say format or page."""
    return {k: v for k, v in request.args.items() if v and k not in ("format", "after")}


def safe_cell(value: object) -> str:
    """Return a value as CSV text that no spreadsheet takes for a formula (CWE-1236)."""
    if value is None:
        return ""
    text = iso(value) or "" if isinstance(value, datetime) else str(value)
    return "'" + text if text.startswith(_FORMULA) else text


def csv_response(
    name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> Response:
    """Return rows as a CSV attachment with a heading line."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([safe_cell(row[column]) for column in columns])
    disposition = f'attachment; filename="{name}.csv"'
    return Response(
        out.getvalue(),
        mimetype="text/csv",
        headers={"Content-Disposition": disposition},
    )


def record(row: object, columns: Sequence[str]) -> dict[str, object]:
    """Return the named attributes of a row, ready for JSON: times as RFC 3339 in UTC."""
    values = {name: getattr(row, name) for name in columns}
    return {k: iso(v) if isinstance(v, datetime) else v for k, v in values.items()}


def session_record(row: SessionRow) -> dict[str, object]:
    """Return what a list serves of a session."""
    return record(row, SESSION_COLUMNS)
