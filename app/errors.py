"""Error pages, and the same as JSON for those who asked for JSON.

4xx pages carry the navigation of whoever is signed in. Pages of 5xx use neither session nor user
nor CSRF, so that they can be shown when the servers behind those are silent.
"""

from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, jsonify, render_template, request, url_for
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError, TooManyRequests

from app.auth.access import wants_json
from app.filters import join_sentences, store_name
from app.sessions.data import DataMissing
from app.sessions.ledger import DATABASE, REQUEST_ID
from app.sessions.store import SessionError, StoreUnavailable
from app.sessions.stores.failures import Failure, failure_of
from app.texts import N_
from app.texts import gettext as _

RETRY_AFTER = 5
"""Seconds after which a client may try again when a server was silent."""

_TROUBLE = {
    Failure.STARTING: N_("%(server)s does not answer yet: it is starting"),
    Failure.READ_ONLY: N_("%(server)s cannot store anything at the moment (read-only)"),
    Failure.FULL: N_(
        "%(server)s cannot store anything at the moment (out of memory or disk space)"
    ),
    Failure.DENIED: N_("%(server)s does not let this site in"),
    Failure.LOCKED: N_("%(server)s is busy at the moment (waited too long for a lock)"),
    Failure.BUSY: N_("%(server)s is busy at the moment (too many connections)"),
    Failure.BROKEN: N_("%(server)s answers with a fault of its own"),
}


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(HTTPException, on_http_error)
    app.register_error_handler(CSRFError, on_csrf_error)
    app.register_error_handler(StoreUnavailable, on_store_unavailable)
    app.register_error_handler(DataMissing, on_data_missing)
    app.register_error_handler(Exception, on_fault)


def on_http_error(error: HTTPException) -> ResponseReturnValue:
    """Answer an HTTP error: redirects and ready responses as they are, the rest as a page."""
    code = error.code or 500
    if code < 400 or error.response is not None:
        return error
    title, text = _words(code)
    own_words = error.description != type(error).description
    return _answer(code, title, error.description or "" if own_words else text, error)


def on_csrf_error(error: CSRFError) -> ResponseReturnValue:
    """Answer a form whose token does not fit the session. Nothing was changed."""
    title = _("This form is no longer valid")
    text = _(
        "It was made before you signed in or out, or it did not come from this site."
        " Nothing was changed. Go back, reload the page and send it again."
    )
    return _answer(400, title, text, error)


def too_many(seconds: int) -> ResponseReturnValue:
    """Answer 429 with the seconds to wait in words and in `Retry-After`."""
    title, text = _words(429)
    return _answer(429, title, text, TooManyRequests(), retry_after=seconds)


def on_store_unavailable(error: StoreUnavailable) -> ResponseReturnValue:
    """Answer 503: which server cannot work and why, and that it signed nobody out."""
    current_app.logger.warning("%s", error)
    title = _(_trouble(error.detail), server=_server(error))
    text = _(
        "Nobody was signed out by this. Your request may not have been carried out:"
        " reload in a few seconds and look."
    )
    return _answer(503, title, text, None, retry_after=RETRY_AFTER)


def on_data_missing(error: DataMissing) -> ResponseReturnValue:
    """Answer 503: the session counts, its data is not there, and how to sign out without it."""
    current_app.logger.warning("%s", error)
    title = _("The data of your session is missing")
    text = _(
        "You are still signed in. %(server)s answers, but does not have what your session keeps"
        " there, so this page cannot be shown. If the data comes back, so does the page: reload"
        " in a few seconds. Or sign out and in again, which begins a new, empty session.",
        server=_server(error),
    )
    if request.method not in ("GET", "HEAD"):
        text = join_sentences(text, _("What you sent may not have been carried out."))
    return _answer(503, title, text, None, retry_after=RETRY_AFTER, sign_out=True)


def _server(error: StoreUnavailable) -> str:
    return _("The database") if error.store == DATABASE else store_name(error.store)


def _trouble(detail: str) -> str:
    """Return what a failure's words mean for whoever waits; silence is what most of them mean."""
    said = detail.partition(";")[0]
    known = {failure.value: words for failure, words in _TROUBLE.items()}
    if said and said not in {failure.value for failure in Failure}:
        return N_("%(server)s could not do what was asked")
    return known.get(said, N_("%(server)s does not answer"))


def on_fault(error: Exception) -> ResponseReturnValue:
    """Answer a fault of ours with a 500 that names the request, not the cause.

    In debug mode, and in tests that do not ask for the page, it goes on to the debugger.
    """
    if isinstance(error, HTTPException):
        return on_http_error(error)
    # A view's own `db.session`: what the server could not do, a deadlock too, may go well next time.
    if isinstance(error, SQLAlchemyError) and (failure := failure_of(error)) is not None:
        return on_store_unavailable(StoreUnavailable(DATABASE, failure.value))
    to_developer = current_app.testing or current_app.debug
    if to_developer and current_app.config["PROPAGATE_EXCEPTIONS"] is not False:
        raise error
    current_app.logger.error("unhandled exception", exc_info=error)
    title, text = _words(500)
    return _answer(500, title, text, InternalServerError())


def _answer(
    code: int,
    title: str,
    text: str,
    error: HTTPException | None,
    retry_after: int | None = None,
    *,
    sign_out: bool = False,
) -> ResponseReturnValue:
    headers = dict(error.get_headers()) if error is not None else {}
    headers = {k: v for k, v in headers.items() if not k.lower().startswith("content-")}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if wants_json():
        slug = HTTPStatus(code).name.lower()
        return jsonify(error=slug, title=title, message=text), code, headers
    if request_ctx.url_adapter is None:
        # The Host is none of TRUSTED_HOSTS: no URL can be made, so no page either.
        return Response(f"{title}\n", code, headers, mimetype="text/plain")
    values = {
        "code": code,
        "title": title,
        "text": text,
        "way_on": _way_on(code),
        "sign_out": sign_out,
    }
    return _page(values, plain=code >= 500 or request.endpoint == "static"), code, headers


def _way_on(code: int) -> tuple[str, str]:
    """Return where to go from an error page, and what to call it."""
    if request.method == "GET" and request.endpoint:
        if code >= 500:
            return request.full_path.rstrip("?"), _("Reload")
        if code == HTTPStatus.BAD_REQUEST and request.query_string:
            return url_for(request.endpoint, **request.view_args or {}), _("Without these filters")
    return "/", _("To the start page")


def _page(values: dict[str, Any], *, plain: bool) -> str:
    """Render the page, with navigation only if asking who is signed in is safe and answered."""
    values["request_id"] = request.environ.get(REQUEST_ID)
    if not plain:
        try:
            parent = "layout.html" if current_user.is_authenticated else "base.html"
            return render_template("errors/page.html", parent=parent, **values)
        except SessionError:
            pass
    return render_template("errors/page.html", parent="plain.html", **values)


def _words(code: int) -> tuple[str, str]:
    words = {
        400: (_("This request makes no sense here"), _("Go back and try again.")),
        403: (_("You may not do this"), _("Your role does not include it. Nothing was changed.")),
        404: (_("Nothing is here"), _("The address is wrong, or what it named no longer exists.")),
        405: (_("That cannot be done here"), _("This page does not take that kind of request.")),
        413: (_("Too much was sent"), _("The request is larger than this site accepts.")),
        429: (
            _("Too many attempts"),
            _("Wait a little and try again. Nobody was signed out by this."),
        ),
        500: (
            _("Something went wrong on our side"),
            _(
                "It was recorded. What you sent may not have been carried out: look before you"
                " send it again."
            ),
        ),
        503: (_("Not available right now"), _("Try again in a few seconds.")),
    }
    return words.get(code, (_("This did not work"), _("Go back and try again.")))
