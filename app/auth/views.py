"""Sign-in, sign-out and step-up.

A form that is refused is answered 422, whatever was wrong with it, so that a wrong password, an
unknown name and a disabled user cannot be told apart; 429 when throttled, 409 at the session limit.
"""

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from app.auth.access import public, requires, wants_json
from app.auth.forms import SignInForm, StepUpForm, safe_next
from app.auth.sign_in import (
    SessionLimitReached,
    SignInRefused,
    authenticate,
    sign_in,
    sign_out,
    step_up,
)
from app.auth.throttle import Throttled
from app.filters import number
from app.people.models import Permission
from app.sessions.interface import session
from app.texts import gettext as _
from app.texts import ngettext

blueprint = Blueprint("auth", __name__)


@blueprint.get("/login")
@public
def login() -> ResponseReturnValue:
    """Show the sign-in page, with why the last session ended if this browser still holds it."""
    if current_user.is_authenticated:
        return redirect(safe_next(request.args.get("next")), 303)
    form = SignInForm(formdata=None, next=safe_next(request.args.get("next")))
    return _login_page(form)


@blueprint.post("/login")
@public
def submit_login() -> ResponseReturnValue:
    """Sign in and go on to `next`."""
    form = SignInForm()
    if not form.validate_on_submit():
        return _login_page(form, status=422)
    try:
        verified = authenticate(form.username.data or "", form.password.data or "")
        sign_in(verified, verified.password_hash)
    except SignInRefused:
        return _login_page(form, _("The user name or the password is wrong."), 422)
    except Throttled as error:
        return _login_page(form, throttled_text(error.retry_after), 429, error.retry_after)
    except SessionLimitReached as error:
        return _login_page(form, _limit_text(error.limit), 409)
    return redirect(safe_next(form.next.data), 303)


@blueprint.post("/logout")
@public
def logout() -> ResponseReturnValue:
    """End the session and show the sign-in page."""
    if current_user.is_authenticated:
        sign_out()
    return redirect(url_for("auth.login", signed_out=1), 303)


@blueprint.get("/reauth")
@requires(Permission.OWN)
def reauth() -> ResponseReturnValue:
    """Ask for the password again before something that asks for it."""
    form = StepUpForm(formdata=None, next=safe_next(request.args.get("next")))
    return render_template("auth/reauth.html", form=form, problem=None)


@blueprint.post("/reauth")
@requires(Permission.OWN)
def submit_reauth() -> ResponseReturnValue:
    """Step up and go back to what asked for it."""
    form = StepUpForm()
    problem, status, headers = None, 422, {}
    if form.validate_on_submit():
        try:
            step_up(form.password.data or "")
        except SignInRefused:
            problem = _("The password is wrong.")
        except Throttled as error:
            problem, status = throttled_text(error.retry_after), 429
            headers["Retry-After"] = str(error.retry_after)
        else:
            return redirect(safe_next(form.next.data), 303)
    return render_template("auth/reauth.html", form=form, problem=problem), status, headers


def throttled_text(seconds: int) -> str:
    """Say when the next attempt is taken."""
    minutes = max(1, round(seconds / 60))
    return ngettext(
        "Too many attempts. Try again in %(count)s minute.",
        "Too many attempts. Try again in %(count)s minutes.",
        minutes,
        count=number(minutes),
    )


def _limit_text(limit: int) -> str:
    return ngettext(
        "You are already signed in with %(count)s session, and no more are allowed."
        " Sign out there first, or ask an administrator to end it.",
        "You are already signed in with %(count)s sessions, and no more are allowed."
        " Sign out of one first, or ask an administrator to end one.",
        limit,
        count=number(limit),
    )


def _login_page(
    form: SignInForm, problem: str | None = None, status: int = 200, retry_after: int | None = None
) -> ResponseReturnValue:
    """Render the sign-in page; a reason that a person is shown is a reason whose cookie is let go."""
    ended = session.ended
    if ended is not None and request.method != "HEAD" and not wants_json():
        session.forget_ended()
    page = render_template(
        "auth/login.html",
        form=form,
        problem=problem,
        ended=ended,
        signed_out="signed_out" in request.args,
    )
    response = make_response(page, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response
