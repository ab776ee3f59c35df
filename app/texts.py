"""Flask-Babel's functions with types. Every text that a person reads goes through one of them."""

from typing import Any

import flask_babel
from flask_babel.speaklater import LazyString


def gettext(text: str, /, **values: Any) -> str:
    """Translate a text now, in the request's language."""
    return str(flask_babel.gettext(text, **values))


def ngettext(one: str, many: str, number: int, /, **values: Any) -> str:
    """Translate a text whose form depends on a number."""
    return str(flask_babel.ngettext(one, many, number, **values))


def lazy_gettext(text: str, /, **values: Any) -> LazyString:
    """Translate a text when it is shown: for labels that are made at import."""
    return flask_babel.lazy_gettext(text, **values)


def N_(text: str) -> str:  # noqa: N802 - the name by which extraction tools know it
    """Mark a text for translation where it is stored and not yet said."""
    return text
