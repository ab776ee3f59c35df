"""Translation, with types. Every text that a person reads goes through one of these functions.

Flask-Babel knows the language of the request; here its catalog is kept, for a page of a list says
hundreds of texts and Flask-Babel looks for the catalog at each. `init_app` gives templates the same.
"""

from typing import Any

import flask_babel
from babel import Locale
from babel.support import NullTranslations
from flask import Flask
from flask_babel.speaklater import LazyString

_catalogs: dict[Locale | None, NullTranslations] = {}


def init_app(app: Flask) -> None:
    """Let templates translate with the functions of this module. Call it after Flask-Babel's."""
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        gettext=lambda text: _catalog().ugettext(text),
        ngettext=lambda one, many, number: _catalog().ungettext(one, many, number),
        pgettext=lambda context, text: _catalog().upgettext(context, text),
        npgettext=lambda context, one, many, n: _catalog().unpgettext(context, one, many, n),
        newstyle=True,
    )
    # Jinja's own looks `gettext` up at each call.
    app.jinja_env.globals["_"] = app.jinja_env.globals["gettext"]


def gettext(text: str, /, **values: Any) -> str:
    """Translate a text now, in the request's language."""
    said = str(_catalog().ugettext(text))
    return said % values if values else said


def ngettext(one: str, many: str, number: int, /, **values: Any) -> str:
    """Translate a text whose form depends on a number."""
    return str(_catalog().ungettext(one, many, number)) % {"num": number, **values}


def pgettext(context: str, text: str, /) -> str:
    """Translate a text that means several things: the context tells which."""
    return str(_catalog().upgettext(context, text))


def lazy_gettext(text: str, /, **values: Any) -> LazyString:
    """Translate a text when it is shown: for labels that are made at import."""
    return LazyString(gettext, text, **values)


def N_(text: str) -> str:  # noqa: N802 - the name by which extraction tools know it
    """Mark a text for translation where it is stored and not yet said."""
    return text


def _catalog() -> NullTranslations:
    locale = flask_babel.get_locale()
    found = _catalogs.get(locale)
    if found is None:
        found = _catalogs[locale] = flask_babel.get_translations()
    return found
