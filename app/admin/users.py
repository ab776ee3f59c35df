"""Users: the list, one user with sessions, and the changes that staff may make to a person."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel.speaklater import LazyString
from sqlalchemy import ColumnElement, Row, func, select

from app.admin.forms import ConfirmForm, NewPasswordForm, NewUserForm, RoleForm
from app.admin.helpers import ID, person, sessions_in_words
from app.auth import changes
from app.auth.access import require_step_up, requires
from app.auth.changes import ChangeRefused
from app.auth.forms import Form
from app.listing import arguments, asked_format, csv_response, record
from app.people.models import Permission, Role, User
from app.people.names import name_key
from app.sessions.models import UserSession
from app.sessions.search import of_user
from app.sessions.system import system
from app.sessions.transaction import live
from app.texts import gettext as _
from app.texts import lazy_gettext

blueprint = Blueprint("users", __name__)

_PER_PAGE = 50
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
    further = [User.name_key > request.args["after"]] if request.args.get("after") else []
    rows = list(
        system.ledger.read(
            _USER.where(*where, *further).order_by(User.name_key).limit(_PER_PAGE + 1)
        )
    )
    after = rows[_PER_PAGE - 1].name_key if len(rows) > _PER_PAGE else None
    rows = rows[:_PER_PAGE]
    total = system.ledger.read(select(func.count()).select_from(User).where(*where))[0][0]
    if asked != "html":
        records = [record(row, _COLUMNS) for row in rows]
        if asked == "csv":
            return csv_response("users", _COLUMNS, records)
        following = after and url_for("admin.users.index", **query, after=after, format="json")
        return jsonify(users=records, total=total, next=following)
    return render_template(
        "admin/users/list.html",
        rows=rows,
        total=total,
        query=query,
        next=after,
        roles=[role.value for role in Role],
        limits={role.value: system.policy.of(role).limit for role in Role},
        now=system.ledger.now(),
    )


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
    if asked_format() == "json":
        return jsonify(record(user, _COLUMNS))
    live_rows, ended = of_user(user_id)
    me = person()
    targets = [row for row in live_rows if row.reference != me.reference]
    admin = user.role == Role.ADMIN
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
        now=system.ledger.now(),
    )


def _verdict(user: Row[Any], sessions: int) -> str:
    if not user.active:
        return _("Disabled: cannot sign in.")
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


@dataclass(frozen=True, slots=True)
class Change:
    """What may be done to a user: its form, its words, who may, and the function that does it."""

    label: LazyString
    title: LazyString
    consequence: LazyString
    done: LazyString
    form: type[Form]
    permission: Permission
    act: Callable[[int, Form], object]
    for_active: bool | None = None
    risky: bool = False

    def offered(self, user: Row[Any]) -> bool:
        """Say whether the person who looks may make it; whom it would hit decides with."""
        me = person()
        if self.for_active is not None and user.active is not self.for_active:
            return False
        if not me.may(self.permission) or user.id == me.user_id:
            return False
        return not Role(user.role).is_staff or me.may(Permission.ADMINISTER)


_l = lazy_gettext

CHANGES = {
    "role": Change(
        label=_l("Change the role…"),
        title=_l("Change the role of %(name)s"),
        consequence=_l("All sessions of this user end; the new role holds from the next sign-in."),
        done=_l("The role is changed."),
        form=RoleForm,
        permission=Permission.ADMINISTER,
        act=lambda user_id, form: changes.change_role(
            user_id, form.role.data or "", actor=person()
        ),
    ),
    "password": Change(
        label=_l("Reset the password…"),
        title=_l("Reset the password of %(name)s"),
        consequence=_l("All sessions of this user end, and the old password no longer works."),
        done=_l("The password is reset."),
        form=NewPasswordForm,
        permission=Permission.ADMINISTER,
        act=lambda user_id, form: changes.reset_password(
            user_id, form.password.data or "", actor=person()
        ),
    ),
    "disable": Change(
        label=_l("Disable…"),
        title=_l("Disable %(name)s?"),
        consequence=_l("All sessions of this user end, and signing in is refused until enabled."),
        done=_l("The user is disabled."),
        form=ConfirmForm,
        permission=Permission.DISABLE_MEMBERS,
        act=lambda user_id, _form: changes.disable_user(user_id, actor=person()),
        for_active=True,
        risky=True,
    ),
    "enable": Change(
        label=_l("Enable…"),
        title=_l("Enable %(name)s?"),
        consequence=_l("The user may sign in again. No ended session comes back."),
        done=_l("The user is enabled."),
        form=ConfirmForm,
        permission=Permission.ADMINISTER,
        act=lambda user_id, _form: changes.enable_user(user_id, actor=person()),
        for_active=False,
    ),
}


@blueprint.route(
    f"/users/<{ID}:user_id>/<any({', '.join(CHANGES)}):action>", methods=["GET", "POST"]
)
@requires(Permission.DISABLE_MEMBERS)
def change(user_id: int, action: str) -> ResponseReturnValue:
    """Ask, then make one change to a user."""
    user, what = _get(user_id), CHANGES[action]
    if not person().may(what.permission):
        abort(403, _("Only an administrator may do this."))
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
