"""What a user name may be, and the key under which it is unique."""

import re
import unicodedata
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from app.people.models import NAME_LENGTH, User
from app.texts import gettext as _

_ALLOWED = re.compile(r"[\w][\w.@+-]*")


class BadName(ValueError):
    """A user name that is refused; the message says what is allowed."""


def name_key(name: str) -> str:
    """Return the form under which names are compared: compatibility-normalised, without case."""
    return unicodedata.normalize("NFKC", name).strip().casefold()[: NAME_LENGTH * 2]


def is_named(kept: InstrumentedAttribute[Any], name: str) -> ColumnElement[bool]:
    """Match a name that was kept by value: of a user in any spelling of the key, else without case."""
    users = select(User.name).where(User.name_key == name_key(name)).scalar_subquery()
    return or_(kept == users, func.lower(kept) == name.strip().lower())


def check_name(name: str) -> str:
    """Return the name as it is kept. Raises BadName."""
    kept = unicodedata.normalize("NFC", name).strip()
    if not kept:
        raise BadName(_("Give a user name."))
    if len(kept) > NAME_LENGTH:
        raise BadName(_("Use at most %(n)d characters.", n=NAME_LENGTH))
    if not _ALLOWED.fullmatch(kept):
        raise BadName(
            _("Use letters, digits and . _ @ + - only, and begin with a letter or digit.")
        )
    return kept
