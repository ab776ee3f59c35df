"""What a browser chooses for itself and keeps in cookies: the language of the pages and the theme.

Neither looks at the session, so pages about a silent server have both. What programs read (JSON, CSV,
NDJSON) stays English, as the CLI, the logs and the audit trail do.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from babel import Locale
from flask import (
    Flask,
    Response,
    after_this_request,
    current_app,
    g,
    has_request_context,
    redirect,
    request,
)
from flask.typing import ResponseReturnValue

from app import texts
from app.auth.access import public, wants_json
from app.auth.forms import safe_next
from app.extensions import babel

LANGUAGES: Mapping[str, str] = {"en": "English", "zh-Hant": "繁體", "zh-Hans": "简体"}
"""Each language by its tag (BCP 47), in its own words; all but English have a catalog."""
CATALOGS = Path(__file__).parent / "translations"
THEMES = ("system", "light", "dark")

_EXPORTS = ("csv", "ndjson")
_LANGUAGE = "language"
_THEME = "theme"
_YEAR = 365 * 24 * 3600
_TRADITIONAL = {"hant", "tw", "hk", "mo"}


def init_app(app: Flask) -> None:
    """Let each request find its language; register both switches."""
    catalogs = str(CATALOGS)
    babel.init_app(app, default_translation_directories=catalogs, locale_selector=_locale)
    texts.init_app(app)
    app.context_processor(_page_values)
    app.add_url_rule("/language", "language", set_language, methods=["POST"])
    app.add_url_rule("/theme", "theme", set_theme, methods=["POST"])


def understood(tag: str) -> str | None:
    """Return our language for the tag of a browser, None if we have none.

    Chinese without a script is traditional in Taiwan, Hong Kong and Macao, and simplified elsewhere.
    """
    language, *further = tag.lower().replace("_", "-").split("-")
    if language == "zh":
        traditional = "hans" not in further and not _TRADITIONAL.isdisjoint(further)
        language = "zh-Hant" if traditional else "zh-Hans"
    return language if language in LANGUAGES else None


def _chosen() -> str | None:
    tag = request.cookies.get(_LANGUAGE)
    return tag if tag in LANGUAGES else None


def _negotiated() -> str:
    wanted = (understood(tag) for tag, quality in request.accept_languages if quality > 0)
    return next((tag for tag in wanted if tag), "en")


def _locale() -> Locale:
    """Return the locale of what is said now, for Flask-Babel, which asks once a request."""
    if not has_request_context() or wants_json() or request.args.get("format") in _EXPORTS:
        return _parsed("en")
    g.language = _chosen() or _negotiated()
    after_this_request(_name_language)
    return _parsed(g.language)


@cache
def _parsed(tag: str) -> Locale:
    """Return a locale, one object for each: what is kept by locale is then found at once."""
    return Locale.parse(tag, sep="-")


def _name_language(response: Response) -> Response:
    """Say in which language a page is, and if the browser's wish decided it."""
    spoken = g.get("language")
    if spoken and response.mimetype == "text/html" and not 300 <= response.status_code < 400:
        response.headers["Content-Language"] = spoken
        if _chosen() is None:
            response.vary.add("Accept-Language")
    return response


def _page_values() -> dict[str, Any]:
    theme = request.cookies.get(_THEME, "system")
    return {"languages": LANGUAGES, "theme": theme if theme in THEMES else "system"}


@public
def set_language() -> ResponseReturnValue:
    """Keep the chosen language for a year and go back; an unknown one means the browser's."""
    language = request.form.get(_LANGUAGE, "")
    return _keep(_LANGUAGE, language if language in LANGUAGES else "browser")


@public
def set_theme() -> ResponseReturnValue:
    """Keep the chosen theme for a year and go back; an unknown one means `system`."""
    theme = request.form.get(_THEME, "")
    return _keep(_THEME, theme if theme in THEMES else "system")


def _keep(name: str, value: str) -> ResponseReturnValue:
    response = redirect(safe_next(request.form.get("next", "")), 303)
    secure = current_app.config["ROLLCALL_ENV"] != "development"
    response.set_cookie(name, value, max_age=_YEAR, httponly=True, secure=secure, samesite="Lax")
    return response
