"""What a user name may be, and the key under which it is unique."""

import re
import unicodedata

from app.people.models import NAME_LENGTH
from app.texts import gettext as _

_ALLOWED = re.compile(r"[\w][\w.@+-]*")


class BadName(ValueError):
    """A user name that is refused; the message says what is allowed."""


def name_key(name: str) -> str:
    """Return the form under which names are compared: compatibility-normalised, without case."""
    return unicodedata.normalize("NFKC", name).strip().casefold()[: NAME_LENGTH * 2]


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
