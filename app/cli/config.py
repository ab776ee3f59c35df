"""`flask config`: every setting as it counts in this process, and where it came from; no secret is shown."""

import json
from collections.abc import Iterable
from itertools import groupby

import click
from flask import current_app
from flask.cli import with_appcontext

from app.settings import Setting, shown


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
