"""Who may open what. Every view carries a rule; a route without one is refused (ASVS 8.2.1).

Its hooks run before Flask-WTF's: a POST from a page whose session has ended is answered with the
reason, not with a complaint about a token.
"""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Request, current_app, g, redirect, render_template, request, url_for
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import validate_csrf
from werkzeug.exceptions import BadRequest, Forbidden
from wtforms import ValidationError

from app.audit.models import Verb
from app.audit.trail import Event
from app.auth.sign_in import sign_out
from app.filters import role_name
from app.people.models import Permission
from app.sessions.interface import SessionEnded, session
from app.sessions.mapping import CSRF_KEY
from app.sessions.store import StoreUnavailable
from app.sessions.stores import budget
from app.sessions.system import system
from app.texts import gettext as _

View = TypeVar("View", bound=Callable[..., Any])

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class StepUpRequired(Exception):
    """The password is asked again before this; then it goes on at `back`, else where it was asked for."""

    def __init__(self, back: str | None = None) -> None:
        super().__init__(back)
        self.back = back


class NewPasswordRequired(Exception):
    """Nothing else is open to this person until they have chosen a new password."""


def public(view: View) -> View:
    """Let everybody in, visitors too."""
    view.rule = None  # type: ignore[attr-defined]
    return view


def requires(permission: Permission) -> Callable[[View], View]:
    """Let those in whose role has the permission; a visitor is led to the sign-in page."""

    def mark(view: View) -> View:
        view.rule = permission  # type: ignore[attr-defined]
        return view

    return mark


def even_before_a_new_password(view: View) -> View:
    """Let those in too of whom a new password is required. Put it beneath `requires`."""
    view.before_new_password = True  # type: ignore[attr-defined]
    return view


def require_no_new_password() -> None:
    """Raise NewPasswordRequired if one is required. `requires` does it; a public view may have to."""
    principal = session.principal
    if principal is not None and principal.new_password_required:
        raise NewPasswordRequired


def step_up_is_fresh() -> bool:
    """Say whether the password was given within STEP_UP_AGE."""
    principal = session.principal
    if principal is None:
        return False
    age = system.ledger.now() - principal.stepped_up_at
    return bool(age.total_seconds() < current_app.config["STEP_UP_AGE"])


def require_step_up(back: str | None = None) -> None:
    """Raise StepUpRequired unless the password was given lately. Call it on the form's GET already."""
    if not step_up_is_fresh():
        raise StepUpRequired(back)


def init_app(app: Flask) -> None:
    """Check the rule of every request; call it before CSRFProtect is bound."""
    app.before_request(_check)
    app.register_error_handler(StepUpRequired, _ask_password)
    app.register_error_handler(NewPasswordRequired, _ask_new_password)
    app.register_error_handler(SessionEnded, _answer_ended)


def rule_of(app: Flask, endpoint: str) -> Permission | None:
    """Return what a route requires, None for a public one. Raises LookupError if it has no rule."""
    if endpoint == "static":
        return None
    view: Any = app.view_functions[endpoint]
    try:
        rule: Permission | None = view.rule
    except AttributeError:
        raise LookupError(
            f"{endpoint} has no rule: decorate it with @public or @requires(...)"
        ) from None
    return rule


def _check() -> ResponseReturnValue | None:
    """Look at a request in this order; the first that has an answer gives it."""
    # Not by the proxy: every request comes here, and each look through it costs.
    asked = request_ctx.request
    _refuse_nul(asked)
    if asked.method not in _SAFE:
        _refuse_cross_site()
        if (answer := _answer_overtaken()) is not None:
            return answer
    return _check_rule(asked)


def _refuse_nul(asked: Request) -> None:
    """Refuse a NUL in path, query or form: PostgreSQL holds no such text, and nobody types one."""
    if "\0" in asked.path:
        raise BadRequest
    if asked.query_string or asked.method != "GET":
        parts: list[Any] = [part for pair in asked.values.items(multi=True) for part in pair]
        if any("\0" in part for part in parts):
            raise BadRequest


def _refuse_cross_site() -> None:
    """Refuse a change that another site asks for; with both headers absent the token decides."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if (origin is not None and not _is_ours(origin)) or site not in ("same-origin", "none"):
        current_app.logger.warning("cross_site_refused origin=%r ours=%r", origin, request.host_url)
        raise Forbidden(_("This form was sent from another site, so nothing was changed."))


def _is_ours(origin: str) -> bool:
    try:
        return urlsplit(origin)[:2] == urlsplit(request.host_url)[:2]
    except ValueError:
        return False


def _is_from_here() -> bool:
    """Say whether the browser vouches that a page of this site sent the request."""
    origin = request.headers.get("Origin")
    return (origin is not None and _is_ours(origin)) or (
        request.headers.get("Sec-Fetch-Site") == "same-origin"
    )


def _answer_overtaken() -> ResponseReturnValue | None:
    """Answer a form whose session has ended with the reason, and one that another tab overtook.

    Neither changes anything, so both are safe to answer before the token is looked at.
    """
    if request.endpoint is None:
        return None
    signed_in = session.principal is not None
    if request.endpoint == "auth.submit_login":
        return redirect(url_for("account.home"), 303) if signed_in else None
    if request.endpoint == "auth.logout":
        return _answer_sign_out(signed_in)
    return _tell_reason() if session.has_ended else None


def _answer_sign_out(signed_in: bool) -> ResponseReturnValue | None:
    """Lead an overtaken tab home; sign out also while the store, and with it the token, is not there."""
    try:
        # Looked up first, for a form without a token never gets as far as the missing data.
        with budget.half():
            if signed_in and CSRF_KEY in session and _token_is_good():
                return None
    except StoreUnavailable:
        if not _is_from_here():
            raise
        sign_out()
        return redirect(url_for("auth.login", signed_out=1), 303)
    return redirect(url_for("account.home"), 303)


def _token_is_good() -> bool:
    try:
        validate_csrf(request.form.get("csrf_token"))
    except ValidationError:
        return False
    return True


def _tell_reason() -> ResponseReturnValue:
    """Answer 401 with why the session ended; a page deletes the cookie with it, JSON leaves it."""
    if wants_json():
        return {"error": "signed_out", "message": _("Your session has ended.")}, 401
    ended = session.ended
    session.forget_ended()
    return render_template("auth/ended.html", ended=ended), 401


def _check_rule(asked: Request) -> ResponseReturnValue | None:
    if asked.endpoint is None or asked.method == "OPTIONS":
        return None
    try:
        rule = rule_of(current_app, asked.endpoint)
    except LookupError as error:
        current_app.logger.error("route_without_rule %s", error)
        raise Forbidden(str(error) if _is_development() else None) from None
    if rule is None:
        return None
    principal = session.principal
    if principal is None:
        return _send_to_sign_in()
    if not hasattr(current_app.view_functions[asked.endpoint], "before_new_password"):
        require_no_new_password()
    if not principal.may(rule):
        _record_refusal()
        raise Forbidden(
            _("Your role, %(role)s, may not open this page.", role=role_name(principal.role))
        )
    return None


def wants_json() -> bool:
    """Say whether the request was made by a program or by the page itself, not by a person."""
    accept = request.accept_mimetypes
    return (
        request.args.get("format") == "json"
        or request.headers.get("X-Passive") == "1"
        or (accept["application/json"] > accept["text/html"])
    )


def _is_development() -> bool:
    return bool(current_app.config["ROLLCALL_ENV"] == "development")


def _send_to_sign_in() -> ResponseReturnValue:
    if wants_json():
        return {"error": "signed_out", "message": _("Sign in first.")}, 401
    here = request.full_path.rstrip("?") if request.method in _SAFE else None
    return redirect(url_for("auth.login", next=here), 303)


def _ask_password(error: StepUpRequired) -> ResponseReturnValue:
    """Lead to the password page and back to the form; nothing has been changed."""
    if wants_json():
        return {"error": "step_up", "message": _("Confirm your password at /reauth first.")}, 403
    if request.method not in _SAFE:
        _record(Event(Verb.STEP_UP_REQUIRED, result="refused", details={"path": request.path}))
    here = request.full_path.rstrip("?") if request.method in _SAFE else request.form.get("next")
    return redirect(url_for("auth.reauth", next=error.back or here or request.path), 303)


def _ask_new_password(_error: NewPasswordRequired) -> ResponseReturnValue:
    """Lead to the one page that is open; nothing has been changed."""
    if wants_json():
        message = _("Choose a new password at /account/password first.")
        return {"error": "new_password_required", "message": message}, 403
    return redirect(url_for("account.password"), 303)


def _answer_ended(_error: SessionEnded) -> ResponseReturnValue:
    """Answer a request whose session ended between its check and its first look at the data."""
    g.pop("_login_user", None)
    if not session.has_ended:
        # Another request of this browser got the new id; with that cookie the page is there again.
        here = request.full_path.rstrip("?") if request.method in _SAFE else None
        return redirect(here or url_for("account.home"), 303)
    return _tell_reason()


def _record_refusal() -> None:
    details = {"path": request.path, "method": request.method}
    _record(Event(Verb.ACCESS_REFUSED, result="refused", details=details))


def _record(event: Event) -> None:
    with system.ledger.transaction() as tx:
        tx.record(session.actor(), [event])
