"""What holds for every response: headers, trusted proxies, request id, assets, health.

`create_app` calls `init_app` before it registers blueprints, so that the request id is there first.
Nothing in here looks at the session but through the pages' own views.
"""

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

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
    app.before_request(_name_request)
    app.after_request(_set_headers)
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


def _name_request() -> None:
    """Give the request an id: the trusted proxy's if it sent a plausible one, or a new one."""
    sent = request.headers.get("X-Request-ID", "") if current_app.config["TRUSTED_PROXIES"] else ""
    request.environ[REQUEST_ID] = sent if _REQUEST_ID.fullmatch(sent) else str(uuid4())


def _set_headers(response: Response) -> Response:
    """Add the security headers; forbid caching of all but static files (ASVS 14.3.2)."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if current_app.config["ROLLCALL_ENV"] != "development":
        response.headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
    if request_id := request.environ.get(REQUEST_ID):
        response.headers["X-Request-ID"] = request_id
    if request.endpoint == "static" and response.status_code in (200, 304):
        age = _YEAR if "v" in request.args else 300
        response.headers["Cache-Control"] = f"public, max-age={age}" + ", immutable" * (age > 300)
    else:
        response.headers["Cache-Control"] = "no-store"
    return response


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
