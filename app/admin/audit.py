"""The audit trail: who did what to whom and why, for auditors and administrators."""

from typing import Any

from flask import Blueprint, abort, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, func, select

from app.admin.helpers import record_export
from app.audit.models import AuditEvent, Verb
from app.auth.access import requires
from app.listing import arguments, asked_format, csv_response, record
from app.people.models import Permission
from app.sessions.system import system
from app.texts import gettext as _

blueprint = Blueprint("audit", __name__)

_PER_PAGE, _PER_EXPORT = 50, 10_000
_COLUMNS = tuple(column.name for column in AuditEvent.__table__.columns)
_EVENTS = select(*AuditEvent.__table__.columns).order_by(AuditEvent.id.desc())
_FILTERS = ("verb", "who", "whom", "reference")


@blueprint.get("/audit")
@requires(Permission.AUDIT)
def index() -> ResponseReturnValue:
    """List events, newest first, by action, person or session; an export is an event itself."""
    asked, query = asked_format(), arguments()
    where = _where(query)
    if after := request.args.get("after"):
        if not after.isdecimal() or len(after) > 18:
            abort(400, _("This page of the list does not exist."))
        where.append(AuditEvent.id < int(after))
    size = _PER_EXPORT if asked == "csv" else _PER_PAGE
    rows = list(system.ledger.read(_EVENTS.where(*where).limit(size + 1)))
    rows, further = rows[:size], len(rows) > size
    following = rows[-1].id if further else None
    if asked != "html":
        record_export("audit", len(rows))
        records = [record(row, _COLUMNS) for row in rows]
        if asked == "csv":
            return csv_response("audit", _COLUMNS, records)
        url = url_for("admin.audit.index", **query, after=following, format="json")
        return jsonify(events=records, next=url if further else None)
    return render_template(
        "admin/audit/list.html",
        rows=rows,
        query=query,
        verbs=[verb.value for verb in Verb],
        next=following,
        kept=system.keep.events,
        now=system.ledger.now(),
    )


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
        where.append(func.lower(AuditEvent.actor_name) == who.lower())
    if whom := query.get("whom"):
        where.append(func.lower(AuditEvent.target_name) == whom.lower())
    if reference := query.get("reference"):
        where.append(AuditEvent.reference == reference)
    return where
