"""A setting as it counts, written so that it can be shown: `flask config` and the policy page share it.

No secret is ever shown, only what helps and gives nothing away.
"""

import re
from collections.abc import Mapping
from typing import Protocol

_LONG = 32
"""A secret of at least so many characters may tell how long it is: what was cut short shows."""

# Secret for the password in them; of all other secrets nothing is shown, whatever they look like.
_URLS = ("DATABASE_URL", "REDIS_URL")
_HOST = r"(?:[\w.-]*|\[[0-9a-fA-F:.]+\])(?::\d+)?"
# Only a URL in this plain form is shown, in part. In any other, a password could stand anywhere.
_URL = re.compile(
    r"(?P<scheme>[a-z+]+://)(?P<credentials>[^@/?#]*@)?"
    rf"(?P<place>{_HOST}(?:,{_HOST})*(?:/[^@?#]*)?)(?P<query>\?[^@#]*)?"
)


class Setting(Protocol):
    """What the settings' own module says of one: read-only, because that one alone may change it."""

    @property
    def group(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> object: ...
    @property
    def unit(self) -> str: ...
    @property
    def secret(self) -> bool: ...
    @property
    def source(self) -> str: ...
    @property
    def changed(self) -> bool: ...


def shown(setting: Setting) -> str:
    """Write a value; of a secret what helps and gives nothing away: a URL's server, a key's length."""
    if not setting.secret:
        return written(setting.value)
    if setting.name in _URLS:
        return server_of(written(setting.value))
    many = setting.value if isinstance(setting.value, tuple | list) else (setting.value,)
    return "; ".join(_length_of(written(one)) for one in many)


def written(value: object) -> str:
    """Write a value the way a person sets it in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{role}={written(one)}" for role, one in value.items())
    if isinstance(value, tuple | list):
        return ",".join(written(one) for one in value)
    return "" if value is None else str(value)


def _length_of(secret: str) -> str:
    if len(secret) < _LONG:
        return f"set, under {_LONG} characters" if secret else ""
    return f"set, {len(secret)} characters"


def server_of(url: str) -> str:
    """Return a URL without its user, password and query."""
    found = _URL.fullmatch(url)
    if found is None:
        return "set, in a form that is not shown" if url else ""
    credentials = "***@" if found["credentials"] else ""
    query = "?***" if found["query"] else ""
    return f"{found['scheme']}{credentials}{found['place']}{query}"
