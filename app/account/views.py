"""The start page, one's own sessions and one's own password."""

from flask import Blueprint, abort, flash, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from app.account.forms import NoteForm, PasswordForm
from app.auth.access import (
    even_before_a_new_password,
    public,
    require_no_new_password,
    require_step_up,
    requires,
)
from app.auth.changes import (
    ChangeRefused,
    change_own_password,
    end_own_other_sessions,
    end_own_session,
)
from app.auth.throttle import Throttled
from app.auth.views import throttled_text
from app.filters import number
from app.listing import SESSION_COLUMNS, asked_format, csv_response, refuse_filters, session_record
from app.people.models import Permission
from app.sessions import passive
from app.sessions.interface import session
from app.sessions.rows import SessionRow, get
from app.sessions.search import of_user
from app.sessions.system import system
from app.sessions.timeouts import warn_before
from app.texts import gettext as _
from app.texts import ngettext

blueprint = Blueprint("account", __name__)

_NOTE = "note"


@blueprint.get("/")
@public
def home() -> ResponseReturnValue:
    """Show visitors the way in, or why they are out; members their session; send staff on."""
    if session.has_ended:
        return redirect(url_for("auth.login"), 303)
    if not current_user.is_authenticated:
        return render_template("account/landing.html")
    require_no_new_password()
    if current_user.may(Permission.STAFF):
        return redirect(url_for("admin.overview.show"), 303)
    return _home(NoteForm(formdata=None, note=session.get(_NOTE, "")))


@blueprint.post("/")
@requires(Permission.OWN)
def save_note() -> ResponseReturnValue:
    """Keep the note in the session's data."""
    form = NoteForm()
    if not form.validate_on_submit():
        return _home(form), 422
    session[_NOTE] = form.note.data or ""
    flash(_("The note is saved in this session."))
    return redirect(url_for("account.home"), 303)


def _home(form: NoteForm) -> str:
    return render_template("account/home.html", form=form, row=get(current_user.reference))


@blueprint.get("/account/sessions")
@requires(Permission.OWN)
def sessions() -> ResponseReturnValue:
    """List one's live sessions, this one first, and the last that ended."""
    refuse_filters()
    live, ended = of_user(current_user.user_id)
    live.sort(key=lambda row: row.reference != current_user.reference)
    if (asked := asked_format()) != "html":
        records = [_own_record(row) for row in [*live, *ended]]
        if asked == "csv":
            return csv_response("my-sessions", SESSION_COLUMNS, records)
        return jsonify(sessions=records)
    return render_template("account/sessions.html", live=live, ended=ended, now=system.ledger.now())


def _own_record(row: SessionRow) -> dict[str, object]:
    """Return what a user is served of their session: no note that is not for them, and not who wrote it."""
    told = session_record(row)
    if not row.tell_user:
        told["note"] = None
    if row.ended_by != row.user:
        told["ended_by"] = None
    return told


@blueprint.app_template_global("warn_before")
def _warn_before(role: str) -> int:
    return int(warn_before(system.policy.of(role)).total_seconds())


@blueprint.get("/account/deadline")
@requires(Permission.OWN)
@even_before_a_new_password
@passive
def deadline() -> ResponseReturnValue:
    """Say in how many seconds this session ends, and whether that is its longest time."""
    last = current_user.absolute_expires_at <= current_user.idle_expires_at
    return jsonify(left=current_user.left, last=last)


@blueprint.post("/account/deadline")
@requires(Permission.OWN)
@even_before_a_new_password
def stay() -> ResponseReturnValue:
    """Do nothing but be a person's request, which moves the idle deadline."""
    return redirect(url_for("account.deadline", format="json"), 303)


@blueprint.get("/account/sessions/end-others")
@requires(Permission.OWN)
def confirm_end_others() -> ResponseReturnValue:
    """Ask before ending one's other sessions; the password comes first."""
    require_step_up()
    live, _ended = of_user(current_user.user_id, ended=0)
    others = [row for row in live if row.reference != current_user.reference]
    return render_template("account/end_others.html", others=others)


@blueprint.post("/account/sessions/end-others")
@requires(Permission.OWN)
def end_others() -> ResponseReturnValue:
    """End one's other sessions."""
    require_step_up()
    _flash_ended(end_own_other_sessions())
    return redirect(url_for("account.sessions"), 303)


@blueprint.post("/account/sessions/<reference>/end")
@requires(Permission.OWN)
def end_one(reference: str) -> ResponseReturnValue:
    """End one of one's other sessions; another person's reference is a 404 (ASVS 7.5.2)."""
    require_step_up()
    try:
        end_own_session(reference)
    except ChangeRefused:
        abort(404)
    _flash_ended(1)
    return redirect(url_for("account.sessions"), 303)


@blueprint.get("/account/sessions/<reference>/not-mine")
@requires(Permission.OWN)
def confirm_not_mine(reference: str) -> ResponseReturnValue:
    """Say what follows where one does not recognise a session; the password comes first."""
    require_step_up()
    return render_template("account/not_mine.html", row=_other_of_mine(reference))


@blueprint.post("/account/sessions/<reference>/not-mine")
@requires(Permission.OWN)
def not_mine(reference: str) -> ResponseReturnValue:
    """End a session that one does not recognise, and lead on to a new password."""
    require_step_up()
    row = _other_of_mine(reference)
    try:
        end_own_session(row.reference)
    except ChangeRefused:
        flash(_("That session had ended already. Now change your password."), "warning")
    else:
        flash(_("That session is signed out. Now change your password."))
    return redirect(url_for("account.password"), 303)


def _other_of_mine(reference: str) -> SessionRow:
    """Return one's own other session, ended or not; any other reference is a 404 (ASVS 7.5.2)."""
    row = get(reference)
    if row is None or row.user_id != current_user.user_id or reference == current_user.reference:
        abort(404)
    return row


def _flash_ended(count: int) -> None:
    flash(
        ngettext(
            "%(count)s other session was signed out.",
            "%(count)s other sessions were signed out.",
            count,
            count=number(count),
        )
    )


@blueprint.get("/account/password")
@requires(Permission.OWN)
@even_before_a_new_password
def password() -> ResponseReturnValue:
    """Show the form for a new password."""
    return render_template("account/password.html", form=PasswordForm(formdata=None), problem=None)


@blueprint.post("/account/password")
@requires(Permission.OWN)
@even_before_a_new_password
def change_password() -> ResponseReturnValue:
    """Change one's password, which ends one's other sessions and gives this one a new id."""
    form = PasswordForm()
    problem, status, headers = None, 422, {}
    if form.validate_on_submit():
        try:
            ended = change_own_password(form.current_password.data or "", form.password.data or "")
        except ChangeRefused as error:
            if error.field in form.data:
                form[error.field].errors = [*form[error.field].errors, error.message]
            else:
                problem = error.message
        except Throttled as error:
            problem, status = throttled_text(error.retry_after), 429
            headers["Retry-After"] = str(error.retry_after)
        else:
            flash(_("Your password is changed."))
            if ended:
                _flash_ended(ended)
            return redirect(url_for("account.sessions"), 303)
    page = render_template("account/password.html", form=form, problem=problem)
    return page, status, headers
