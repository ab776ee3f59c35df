"""What staff type into the search box: `user:alice ip:10.31.0.0/16 idle:>20m smith`, and back.

A token names a field of `SessionFilter`; every other word is looked for as a name, an address or a
reference. Quotation marks hold words together.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_network

from app.texts import gettext as _

TOKENS = {
    "user": "user",
    "ip": "ip",
    "store": "store",
    "client": "client",
    "role": "role",
    "state": "state",
    "status": "status",
    "idle": "idle",
    "age": "age",
    "ended": "ended",
    "ref": "reference",
    "reason": "reason",
    "by": "by",
    "flag": "flag",
}
"""The fields by the tokens that name them, in the order in which the box shows them."""

_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')


class BadSearch(ValueError):
    """A search that is not understood; the message says what is allowed."""


def fields_of(text: str) -> dict[str, str]:
    """Return the fields that a search names; plain words stand under `q`. Raises BadSearch."""
    if text.count('"') % 2:
        raise BadSearch(_("A quotation mark is not closed."))
    found: dict[str, str] = {}
    plain: list[str] = []
    for word in _WORD.findall(text):
        token, colon, value = word.partition(":")
        if not colon or token.startswith('"') or _is_network(word):
            plain.append(word)
            continue
        field, value = TOKENS.get(token.casefold()), value.replace('"', "").strip()
        if field is None:
            allowed = " ".join(f"{name}:" for name in TOKENS)
            raise BadSearch(
                _("There is no “%(token)s:”. There are %(all)s", token=token, all=allowed)
            )
        if not value:
            raise BadSearch(_("“%(token)s:” needs a value right after it.", token=token))
        if field in found:
            raise BadSearch(_("“%(token)s:” stands there twice.", token=token))
        found[field] = value
    return found | ({"q": " ".join(plain)} if plain else {})


def words_of(text: str) -> list[str]:
    """Return the plain words of a search, without their quotation marks."""
    words = (word.replace('"', "").strip() for word in _WORD.findall(text))
    return [word for word in words if word]


def text_of(fields: Mapping[str, str]) -> str:
    """Write fields as a search: what `fields_of` reads them from."""
    parts = [f"{token}:{_quoted(fields[name])}" for token, name in TOKENS.items() if name in fields]
    return " ".join([*parts, *([fields["q"]] if fields.get("q") else [])])


def _quoted(value: str) -> str:
    return f'"{value}"' if re.search(r"\s", value) else value


def _is_network(word: str) -> bool:
    try:
        ip_network(word, strict=False)
    except ValueError:
        return False
    return True
