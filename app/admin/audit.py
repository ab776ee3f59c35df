"""The audit trail: who did what to whom and why, for auditors and administrators."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, abort, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, Row, Select, select

from app.admin.helpers import BATCH, after_id, export_csv, export_ndjson, record_export
from app.audit.models import AuditEvent, Verb
from app.auth.access import requires
from app.listing import arguments, asked_format, json_list, record
from app.people.models import Permission
from app.people.names import is_named
from app.sessions.system import system
from app.texts import gettext as _

blueprint = Blueprint("audit", __name__)

_PER_PAGE = 50
_COLUMNS = tuple(column.name for column in AuditEvent.__table__.columns)
_EVENTS = select(*AuditEvent.__table__.columns).order_by(AuditEvent.id.desc())
_FILTERS = ("verb", "who", "whom", "reference")


@blueprint.get("/audit")
@requires(Permission.AUDIT)
def index() -> ResponseReturnValue:
    """List events, newest first, by action, person or session; an export is an event itself."""
    asked, query = asked_format("json", "csv", "ndjson"), arguments()
    events, after = _EVENTS.where(*_where(query)), after_id()
    if asked == "csv":
        return export_csv("audit", _COLUMNS, _batches(events, after), events)
    if asked == "ndjson":
        return export_ndjson("audit", _batches(events, after), events)
    rows, following = _read(events, after, _PER_PAGE)
    if asked == "json":
        record_export("audit", "json", len(rows))
        more = {**query, "after": following, "format": "json"}
        url = url_for("admin.audit.index", **more) if following else None
        return json_list("events", [record(row, _COLUMNS) for row in rows], url)
    return render_template(
        "admin/audit/list.html",
        rows=rows,
        query=query,
        verbs=[verb.value for verb in Verb],
        next=following,
        kept=system.keep.events,
        now=system.ledger.now(),
    )


def _read(events: Select[Any], after: int | None, size: int) -> tuple[list[Row[Any]], int | None]:
    """Return the events that follow `after`, and after which the next ones follow."""
    statement = events if after is None else events.where(AuditEvent.id < after)
    rows = list(system.ledger.read(statement.limit(size + 1)))
    return rows[:size], rows[size - 1].id if len(rows) > size else None


def _batches(events: Select[Any], after: int | None) -> Iterator[list[dict[str, object]]]:
    while True:
        rows, after = _read(events, after, BATCH)
        yield [record(row, _COLUMNS) for row in rows]
        if after is None:
            return


def _where(query: dict[str, Any]) -> list[ColumnElement[bool]]:
    if unknown := set(query) - set(_FILTERS):
        allowed = ", ".join(_FILTERS)
        abort(400, _("There is no filter “%(a)s”. Use %(b)s.", a=min(unknown), b=allowed))
    where: list[ColumnElement[bool]] = []
    if verb := query.get("verb"):
        if verb not in list(Verb):
            abort(400, _("There is no action “%(verb)s”.", verb=verb))
        where.append(AuditEvent.verb == verb)
    if who := query.get("who"):
        where.append(is_named(AuditEvent.actor_name, who))
    if whom := query.get("whom"):
        where.append(is_named(AuditEvent.target_name, whom))
    if reference := query.get("reference"):
        where.append(AuditEvent.reference == reference.strip().casefold())
    return where
