"""The list of sessions over all stores, and one session."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Blueprint, abort, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Row, select

from app.admin.chips import chips
from app.admin.flags import Flag, flags_of, overdue_flag
from app.admin.helpers import export_csv, person, record_export
from app.audit.models import AuditEvent
from app.auth.access import requires
from app.filters import clock_time, duration, end_reason, role_name, state_name, store_name
from app.listing import SESSION_COLUMNS, arguments, asked_format, json_list, session_record
from app.people.models import Permission, Role
from app.sessions import passive
from app.sessions.changed import Seen, changed_since, seen_now
from app.sessions.facets import MOST_COUNTED, Counts, facets
from app.sessions.filter import STATES, STATUSES, FilterError, SessionFilter
from app.sessions.rows import SessionRow, get, value_names
from app.sessions.search import (
    SORTS,
    SessionPage,
    find,
    ids_matching,
    of_user,
    walk,
)
from app.sessions.system import system
from app.texts import gettext as _
from app.texts import pgettext

blueprint = Blueprint("sessions", __name__)

_BY_FORM = ("user", "ip", "store", "role", "reference", "state")
_PAGE_SIZES = ("50", "100", "200")
_VIEW = {"sort": SORTS, "rows": _PAGE_SIZES}
"""How a list is shown, and not what it finds: the values of each, the first of which goes without saying."""

_BY_BOX = ("q", "status", "client", "idle", "age", "ended", "reason", "by", "flag")


@blueprint.get("/sessions")
@requires(Permission.STAFF)
def index() -> ResponseReturnValue:
    """List sessions, newest activity first; a filter that is not understood is a 400."""
    asked = asked_format()
    query = arguments()
    try:
        view = _read_view(query)
        where = _read_filter(query)
        after = request.args.get("after") or None
        if asked == "csv":
            batches = _batches(where, after, view["sort"])
            return export_csv("sessions", SESSION_COLUMNS, batches, ids_matching(where))
        since = seen_now() if asked == "html" else None
        page = find(where, after=after, limit=int(view["rows"]), sort=view["sort"])
    except FilterError as error:
        return _refuse(error, query, asked)
    if since is None:
        return _json(where, page, view)
    return _page(where, page, view, since)


@blueprint.get("/sessions/changes")
@requires(Permission.STAFF)
@passive
def changes() -> ResponseReturnValue:
    """Say whether the list that a filter finds has changed since a moment, and from which to ask on."""
    query = arguments()
    try:
        since = Seen.from_text(query.pop("since", ""))
    except ValueError:
        abort(400, _("This page of the list does not exist."))
    try:
        changed, seen = changed_since(_read_filter(query), since)
    except FilterError as error:
        return _refuse(error, query, "json")
    return jsonify(changed=changed, since=str(seen))


def _read_filter(query: dict[str, Any]) -> SessionFilter:
    """Return the filter; a name that is none is refused as a bad value is, and never ignored."""
    if unknown := set(query) - {*_BY_FORM, *_BY_BOX}:
        allowed = ", ".join((*_BY_FORM, *_BY_BOX))
        message = _("There is no filter “%(a)s”. Use %(b)s.", a=min(unknown), b=allowed)
        raise FilterError(min(unknown), message)
    return SessionFilter.from_query(query)


def _read_view(query: dict[str, Any]) -> dict[str, str]:
    """Take out of the query how the list is shown."""
    view = {name: query.pop(name, allowed[0]) for name, allowed in _VIEW.items()}
    for name, allowed in _VIEW.items():
        if view[name] not in allowed:
            message = _("%(field)s can be: %(allowed)s.", field=name, allowed=", ".join(allowed))
            raise FilterError(name, message)
    return view


def _said(view: dict[str, str]) -> dict[str, str]:
    """Return what of a view an address has to say."""
    return {name: value for name, value in view.items() if value != _VIEW.get(name, ("",))[0]}


def _page(where: SessionFilter, page: SessionPage, view: dict[str, str], since: Seen) -> str:
    query: dict[str, Any] = where.to_query()
    narrowed = any(name != "state" for name in query)
    after = request.args.get("after")

    def link(**more: Any) -> str:
        return url_for("admin.sessions.index", **{**query, **_said({**view, **more})})

    return render_template(
        "admin/sessions/list.html",
        page=page,
        flags=flags_of(page.rows),
        where=where,
        query=query,
        values={name: query.get(name, "") for name in (*_BY_FORM, *_BY_BOX)}
        | {"sort": view["sort"]},
        by_box=_BY_BOX,
        selects=_selects(),
        **_chips(where, page.total, _said(view)),
        view=view,
        page_sizes=_PAGE_SIZES,
        narrowed=narrowed,
        opened=set(_BY_FORM) <= set(request.args),
        after=after,
        link=link,
        changes=url_for("admin.sessions.changes", **query, since=str(since)),
        error=None,
        search=where.to_text(),
    )


def _refuse(error: FilterError, query: dict[str, Any], asked: str) -> ResponseReturnValue:
    """Answer a bad filter: nothing is looked up, and the message stands beside its field."""
    if asked != "html":
        return jsonify(error="bad_filter", field=error.field, message=error.message), 400
    given = arguments()
    page = render_template(
        "admin/sessions/list.html",
        page=None,
        flags={},
        where=None,
        query={},
        values={name: given.get(name, "") for name in (*_BY_FORM, *_BY_BOX, "sort")},
        by_box=_BY_BOX,
        selects=_selects(),
        **_chips(None, None),
        narrowed=True,
        opened=error.field not in _BY_BOX,
        after=None,
        error=error,
        search=query.get("q", ""),
        search_error=error.message if error.field in _BY_BOX else None,
    )
    return page, 400


def _json(where: SessionFilter, page: SessionPage, view: dict[str, str]) -> ResponseReturnValue:
    following = None
    if page.next:
        query: dict[str, Any] = {**where.to_query(), **_said(view), "after": page.next}
        following = url_for("admin.sessions.index", **query, format="json")
    record_export("sessions", "json", len(page.rows))
    return json_list(
        "sessions",
        [session_record(row) for row in page.rows],
        following,
        total=page.total,
        unavailable=list(page.unavailable),
    )


def _batches(
    where: SessionFilter, after: str | None, sort: str
) -> Iterator[list[dict[str, object]]]:
    """Yield all that match, a page at a time."""
    for rows in walk(where, after, sort):
        yield [session_record(row) for row in rows]


def _chips(
    where: SessionFilter | None, total: int | None, view: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return the filters that are one click away, and up to how many sessions what has no number is counted.

    Nothing is counted for a filter that is not understood.
    """
    if where is None or total is None:
        named = {"status": STATUSES, "store": tuple(system.stores)}
        counts: Counts = {facet: dict.fromkeys(named[facet]) for facet in named}
        return {"chips": chips(None, None, counts), "uncounted": None}
    counts = facets(where, total)
    uncounted = any(None in counts[facet].values() for facet in counts)
    return {
        "chips": chips(where, total, counts, view),
        "uncounted": MOST_COUNTED if uncounted else None,
    }


def _selects() -> list[tuple[str, str, list[tuple[str, str]]]]:
    stores = [(name, store_name(name)) for name in system.stores]
    roles = [(role.value, role_name(role)) for role in Role]
    states = [(state, state_name(state)) for state in STATES]
    sorts = [("seen", _("Last seen")), ("signed_in", pgettext("time", "Signed in"))]
    return [
        ("store", _("Store"), [("", _("any store")), *stores]),
        ("role", _("Role"), [("", _("any role")), *roles]),
        ("state", _("State"), states),
        ("sort", _("Sort by"), sorts),
    ]


@blueprint.get("/sessions/<reference>")
@requires(Permission.STAFF)
def show(reference: str) -> ResponseReturnValue:
    """Show one session: what is left, where from, its data, and its timeline from the trail."""
    row = get(reference)
    if row is None:
        abort(404, _("No session has the reference %(reference)s.", reference=reference[:20]))
    if asked_format("json") == "json":
        return jsonify(session_record(row))
    now = system.ledger.now()
    me = person()
    sees_values = me.may(Permission.AUDIT)
    live, ended = of_user(row.user_id)
    policy = system.policy.of(row.role)
    idle, absolute = row.idle_expires_at - now, row.absolute_expires_at - now
    return render_template(
        "admin/sessions/detail.html",
        row=row,
        now=now,
        verdict=_verdict(row, now),
        flags=_flags(row, now),
        clocks=[
            (_("until it ends if unused"), idle, policy.idle, row.idle_expires_at),
            (_("until it ends in any case"), absolute, policy.absolute, row.absolute_expires_at),
        ],
        timeline=_timeline(row.reference),
        others=[other for other in [*live, *ended] if other.reference != row.reference],
        may_revoke=_may_revoke(row),
        may_see_values=sees_values,
        names=value_names(row) if sees_values and row.state == "live" else None,
    )


def _flags(row: SessionRow, now: datetime) -> list[Flag]:
    overdue = overdue_flag(row, now)
    return [overdue] if overdue else flags_of([row]).get(row.reference, [])


def _may_revoke(row: SessionRow) -> bool:
    me = person()
    if row.state != "live" or row.reference == me.reference or not me.may(Permission.REVOKE):
        return False
    return row.role != Role.ADMIN or me.may(Permission.ADMINISTER)


def _verdict(row: SessionRow, now: Any) -> str:
    if row.state == "ended":
        if row.ended_at is None or row.end_reason is None:
            due = min(row.idle_expires_at, row.absolute_expires_at) <= now
            cause = _("past its deadline") if due else _("everyone was signed out")
            return _("Not signed in any more: %(cause)s.", cause=cause)
        cause = end_reason(row.end_reason)
        return _("Ended at %(time)s. %(cause)s.", time=clock_time(row.ended_at), cause=cause)
    left = min(row.idle_expires_at, row.absolute_expires_at) - now
    return _(
        "Signed in. It ends in %(left)s unless used, and at %(time)s in any case.",
        left=duration(left),
        time=clock_time(row.absolute_expires_at),
    )


def _timeline(reference: str) -> list[Row[Any]]:
    statement = (
        select(AuditEvent)
        .where(AuditEvent.reference == reference)
        .order_by(AuditEvent.id)
        .limit(200)
    )
    return list(system.ledger.read(statement.with_only_columns(*AuditEvent.__table__.columns)))
