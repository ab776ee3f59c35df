"""`flask config`: every setting as it counts in this process, and where it came from; no secret is shown."""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Protocol

import click
from flask import current_app
from flask.cli import with_appcontext

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


@click.command("config")
@click.option("--changed", "only_changed", is_flag=True, help="Only what is not a default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_appcontext
def command(only_changed: bool, as_json: bool) -> None:
    """Print the settings in force and where each came from. `*` marks what is not a default."""
    settings: Iterable[Setting] = current_app.config["ROLLCALL_SETTINGS"]
    chosen = [setting for setting in settings if setting.changed or not only_changed]
    if as_json:
        click.echo(json.dumps({"settings": [_record(setting) for setting in chosen]}, indent=2))
        return
    name_width = max((len(setting.name) for setting in chosen), default=0)
    source_width = max((len(setting.source) for setting in chosen), default=0)
    for group, members in groupby(chosen, key=lambda setting: setting.group):
        click.echo(f"{group}:")
        for setting in members:
            mark = "*" if setting.changed else " "
            value = shown(setting)
            told = f"{value} {setting.unit}" if value else "not set"
            click.echo(
                f"{mark} {setting.name:<{name_width}}  {setting.source:<{source_width}}  {told}".rstrip()
            )


def _record(setting: Setting) -> dict[str, object]:
    value = shown(setting)
    return {
        "group": setting.group,
        "name": setting.name,
        "value": value or None,
        "unit": setting.unit or None,
        "source": setting.source,
        "changed": setting.changed,
    }


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
