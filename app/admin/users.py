"""Users: the list, one user with sessions, and the changes that staff may make to a person."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Blueprint, abort, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, Row, func, select

from app.admin import drawings, reports
from app.admin.charts import Chart
from app.admin.forms import NewUserForm
from app.admin.helpers import (
    BATCH,
    ID,
    export_csv,
    person,
    record_export,
    refuse,
    sessions_in_words,
)
from app.admin.user_changes import CHANGES
from app.auth import changes
from app.auth.access import require_step_up, requires
from app.auth.changes import ChangeRefused
from app.auth.forms import Form
from app.listing import arguments, asked_format, json_list, record
from app.people.models import Permission, Role, User
from app.people.names import name_key
from app.sessions.models import UserSession
from app.sessions.search import of_user
from app.sessions.store import StoreUnavailable
from app.sessions.system import system
from app.sessions.transaction import live
from app.texts import gettext as _

blueprint = Blueprint("users", __name__)

_PER_PAGE = 50
_DAYS = 30
"""How many days of sign-ins the page of a user draws."""
_COLUMNS = ("id", "name", "role", "active", "sessions", "last_seen_at", "created_at", "disabled_at")
_SESSIONS = (
    select(func.count())
    .where(UserSession.user_id == User.id, live())
    .correlate(User)
    .scalar_subquery()
)
_LAST_SEEN = (
    select(func.max(UserSession.last_seen_at))
    .where(UserSession.user_id == User.id)
    .correlate(User)
    .scalar_subquery()
)
_USER = select(
    User.id,
    User.name,
    User.name_key,
    User.role,
    User.active,
    User.created_at,
    User.disabled_at,
    User.password_changed_at,
    User.new_password_required,
    _SESSIONS.label("sessions"),
    _LAST_SEEN.label("last_seen_at"),
)


@blueprint.get("/users")
@requires(Permission.STAFF)
def index() -> ResponseReturnValue:
    """List users by name, with their live sessions against the limit."""
    asked, query = asked_format(), arguments()
    if unknown := set(query) - {"name", "role"}:
        abort(400, _("There is no filter “%(name)s”. Use name or role.", name=min(unknown)))
    where = _where(query)
    after = request.args.get("after") or None
    if asked == "csv":
        matching = select(User.id).where(*where)
        return export_csv("users", _COLUMNS, _batches(where, after), matching)
    rows, following = _read(where, after, _PER_PAGE)
    total = system.ledger.read(select(func.count()).select_from(User).where(*where))[0][0]
    if asked == "json":
        record_export("users", "json", len(rows))
        more = {**query, "after": following, "format": "json"}
        url = url_for("admin.users.index", **more) if following else None
        return json_list("users", [record(row, _COLUMNS) for row in rows], url, total=total)
    return render_template(
        "admin/users/list.html",
        rows=rows,
        total=total,
        query=query,
        next=following,
        roles=[role.value for role in Role],
        limits={role.value: system.policy.of(role).limit for role in Role},
        now=system.ledger.now(),
    )


def _read(
    where: list[ColumnElement[bool]], after: str | None, size: int
) -> tuple[list[Row[Any]], str | None]:
    """Return the users that follow `after`, and after which the next ones follow."""
    further = [] if after is None else [User.name_key > after]
    statement = _USER.where(*where, *further).order_by(User.name_key)
    rows = list(system.ledger.read(statement.limit(size + 1)))
    return rows[:size], rows[size - 1].name_key if len(rows) > size else None


def _batches(
    where: list[ColumnElement[bool]], after: str | None
) -> Iterator[list[dict[str, object]]]:
    while True:
        rows, after = _read(where, after, BATCH)
        yield [record(row, _COLUMNS) for row in rows]
        if after is None:
            return


def _where(query: dict[str, Any]) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if name := query.get("name"):
        where.append(User.name_key.startswith(name_key(name), autoescape=True))
    if role := query.get("role"):
        if role not in list(Role):
            abort(400, _("The roles are: %(roles)s.", roles=", ".join(Role)))
        where.append(User.role == role)
    return where


def _get(user_id: int) -> Row[Any]:
    rows = system.ledger.read(_USER.where(User.id == user_id))
    if not rows:
        abort(404, _("There is no such user."))
    return rows[0]


@blueprint.get(f"/users/<{ID}:user_id>")
@requires(Permission.STAFF)
def show(user_id: int) -> ResponseReturnValue:
    """Show one user: sessions, facts, and what may be changed by whoever looks."""
    user = _get(user_id)
    if asked_format("json") == "json":
        return jsonify(record(user, _COLUMNS))
    live_rows, ended = of_user(user_id)
    me = person()
    targets = [row for row in live_rows if row.reference != me.reference]
    admin = user.role == Role.ADMIN
    now = system.ledger.now()
    return render_template(
        "admin/users/detail.html",
        user=user,
        live=live_rows,
        ended=ended,
        policy=system.policy.of(user.role),
        verdict=_verdict(user, len(live_rows)),
        changes=[
            {"action": name, "label": change.label, "risky": change.risky}
            for name, change in CHANGES.items()
            if change.offered(user)
        ],
        may_revoke=bool(targets)
        and me.may(Permission.REVOKE)
        and (not admin or me.may(Permission.ADMINISTER)),
        sign_ins=_sign_ins(user_id, now),
        days=_DAYS,
        now=now,
    )


def _sign_ins(user_id: int, now: datetime) -> Chart | None:
    """Draw the last days' sign-ins; None where the database is too slow for it."""
    today = int(now.timestamp()) // reports.DAY
    try:
        return drawings.by_day(reports.sign_ins_by_day(user_id, today - _DAYS + 1, today))
    except StoreUnavailable:
        return None


def _verdict(user: Row[Any], sessions: int) -> str:
    if not user.active:
        return _("Disabled: cannot sign in.")
    if user.new_password_required and not sessions:
        return _("May sign in, and must choose a new password then.")
    if not sessions:
        return _("May sign in. Not signed in now.")
    return _("Signed in with %(what)s.", what=sessions_in_words(sessions))


@blueprint.route("/users/new", methods=["GET", "POST"])
@requires(Permission.ADMINISTER)
def create() -> ResponseReturnValue:
    """Create a user."""
    require_step_up()
    form = NewUserForm()
    problem = None
    if form.validate_on_submit():
        name, role, password = form.username.data or "", form.role.data, form.password.data or ""
        try:
            user_id = changes.create_user(name, role, password, actor=person())
        except ChangeRefused as error:
            problem = _refusal(form, error)
        else:
            flash(_("The user is created and may sign in."))
            return redirect(url_for("admin.users.show", user_id=user_id), 303)
    page = render_template(
        "admin/users/form.html",
        form=form,
        problem=problem,
        title=_("New user"),
        consequence=_("The user may sign in at once with the first password."),
        label=_("Create the user"),
        risky=False,
        back=url_for("admin.users.index"),
    )
    return page, 422 if request.method == "POST" else 200


@blueprint.route(
    f"/users/<{ID}:user_id>/<any({', '.join(CHANGES)}):action>", methods=["GET", "POST"]
)
@requires(Permission.DISABLE_MEMBERS)
def change(user_id: int, action: str) -> ResponseReturnValue:
    """Ask, then make one change to a user."""
    user, what = _get(user_id), CHANGES[action]
    if refusal := what.refusal(user):
        refuse(refusal)
    if not what.fits(user):
        abort(404, _("There is nothing to do: somebody has done it already."))
    require_step_up()
    form = what.form(role=user.role) if action == "role" else what.form()
    problem = None
    if form.validate_on_submit():
        try:
            what.act(user_id, form)
        except ChangeRefused as error:
            problem = _refusal(form, error)
        else:
            flash(str(what.done))
            return redirect(url_for("admin.users.show", user_id=user_id), 303)
    page = render_template(
        "admin/users/form.html",
        form=form,
        problem=problem,
        title=str(what.title) % {"name": user.name},
        consequence=what.consequence,
        name=user.name,
        label=str(what.label).rstrip("…"),
        risky=what.risky,
        back=url_for("admin.users.show", user_id=user_id),
    )
    return page, 422 if request.method == "POST" else 200


def _refusal(form: Form, error: ChangeRefused) -> str | None:
    """Put a refusal beside the field it is about; return it if it is about none."""
    if error.field is None or error.field not in form:
        return error.message
    form[error.field].errors = [*form[error.field].errors, error.message]
    return None
