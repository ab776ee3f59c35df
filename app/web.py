"""What holds for every response: headers, trusted proxies, request id, assets, health.

`create_app` calls `init_app` before it registers blueprints, so that the request id is there first.
Nothing in here looks at the session but through the pages' own views.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Any

from flask import Flask, Response, current_app, jsonify, request, url_for
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from flask_babel import get_locale
from sqlalchemy import literal, select
from werkzeug.middleware.proxy_fix import ProxyFix

from app import errors, filters
from app.auth.access import public
from app.sessions.ledger import REQUEST_ID
from app.sessions.store import DataKey, StoreUnavailable
from app.sessions.system import system

_YEAR = 365 * 24 * 3600
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,36}")
_CACHED = "rollcall.cached"
"""The key in the WSGI environment under which the Cache-Control of a static file is found."""

App = Callable[[dict[str, Any], Any], Iterable[bytes]]

_CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def init_app(app: Flask) -> None:
    """Register what this module does with an application."""
    if hops := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=0, x_port=0, x_prefix=0
        )
    app.wsgi_app = Headed(app, app.wsgi_app)  # type: ignore[method-assign]
    # Flask asks of each hook and view, at each request, whether it is a coroutine.
    app.ensure_sync = lru_cache(maxsize=512)(app.ensure_sync)  # type: ignore[method-assign]
    app.view_functions["static"] = _cached(app.view_functions["static"])
    app.context_processor(_page_values)
    app.jinja_env.globals["asset"] = asset
    filters.init_app(app)
    errors.init_app(app)
    app.add_url_rule("/healthz", "healthz", healthz)
    app.add_url_rule("/readyz", "readyz", readyz)


def asset(name: str) -> str:
    """Return the URL of a static file with its hash, so that it can be cached for long."""
    path = Path(str(current_app.static_folder), name)
    return url_for("static", filename=name, v=_digest(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def _digest(path: Path, _modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class Headed:
    """WSGI middleware: the request's id, the security headers, and no caching (ASVS 14.3.2).

    It goes around Flask, so that every response has them, however it came about. A security header that
    a view sets itself stands in place of the site's.
    """

    def __init__(self, app: Flask, wsgi_app: App) -> None:
        self._app = wsgi_app
        self._trusts = bool(app.config["TRUSTED_PROXIES"])
        fixed = dict(_HEADERS)
        if app.config["ROLLCALL_ENV"] != "development":
            fixed["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
        self._fixed = list(fixed.items())
        self._names = {name.lower() for name in fixed}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ[REQUEST_ID] = request_id = self._id(environ)

        def begin(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            given = [name.lower() for name, _ in headers]
            if "cache-control" in given:
                headers = [each for each in headers if each[0].lower() != "cache-control"]
            fixed = self._fixed
            if not self._names.isdisjoint(given):
                fixed = [each for each in fixed if each[0].lower() not in given]
            cached = environ.get(_CACHED, "no-store")
            ours = [("X-Request-ID", request_id), ("Cache-Control", cached)]
            return start_response(status, headers + fixed + ours, *rest)

        return self._app(environ, begin)

    def _id(self, environ: dict[str, Any]) -> str:
        """Return the trusted proxy's id for a request if it sent a plausible one, or a new one."""
        sent = str(environ.get("HTTP_X_REQUEST_ID", "")) if self._trusts else ""
        return sent if _REQUEST_ID.fullmatch(sent) else token_hex(16)


def _cached(static: Callable[..., Any]) -> Callable[..., Response]:
    """Let browsers keep what the view of static files returns: for long if its address has its hash."""

    def cached(filename: str) -> Response:
        response: Response = static(filename=filename)
        if response.status_code in (200, 304):
            age = _YEAR if "v" in request.args else 300
            immutable = ", immutable" * (age > 300)
            request.environ[_CACHED] = f"public, max-age={age}{immutable}"
        return response

    return cached


def _page_values() -> dict[str, Any]:
    """Give templates what depends on the request but not on the session."""
    return {
        "site_name": current_app.config["SITE_NAME"],
        "environment": current_app.config["ROLLCALL_ENV"],
        "here": _here(),
        "locale": str(get_locale()).replace("_", "-"),
        "search": "",
        "search_error": None,
    }


def _here() -> str:
    """Return the address that leads back to a page; some take forms only, and lead to the start."""
    urls = request_ctx.url_adapter
    opens = request.method == "GET" or urls is None or urls.test(method="GET")
    return request.full_path.rstrip("?") if opens else "/"


@public
def healthz() -> ResponseReturnValue:
    """Answer for the process alone: it looks at no server."""
    return jsonify(status="ok")


@public
def readyz() -> ResponseReturnValue:
    """Ask each dependency by name, within the request's deadline; 503 if one is silent."""
    found = {"database": _answers(lambda: system.ledger.read(select(literal(1))))}
    for name, store in system.stores.items():
        found[name] = _answers(lambda store=store: store.present([DataKey("readyz")]))
    ready = all(entry["ok"] for entry in found.values())
    response = jsonify(status="ok" if ready else "unavailable", dependencies=found)
    if not ready:
        response.status_code = 503
        response.headers["Retry-After"] = str(errors.RETRY_AFTER)
    return response


def _answers(ask: Any) -> dict[str, Any]:
    started = monotonic()
    try:
        ask()
    except StoreUnavailable:
        return {"ok": False}
    return {"ok": True, "ms": round((monotonic() - started) * 1000, 1)}
