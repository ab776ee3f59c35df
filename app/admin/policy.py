"""The rules in force, and every setting: its value, where it comes from, and why it may be unsafe."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from flask import Blueprint, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue

from app.admin.unsafe import reasons
from app.auth.access import requires
from app.filters import join_sentences, number, setting_value
from app.listing import asked_format, csv_response, refuse_filters
from app.people.models import Permission
from app.sessions.system import system
from app.settings import Setting, shown
from app.texts import gettext as _
from app.texts import ngettext

blueprint = Blueprint("policy", __name__)

_COLUMNS = ("group", "name", "value", "unit", "source", "unsafe")


@dataclass(frozen=True, slots=True)
class Row:
    """A setting as the page shows it; `unsafe` says why it is flagged, empty if it is not."""

    group: str
    name: str
    value: str
    unit: str
    source: str
    changed: bool
    unsafe: str

    def record(self) -> dict[str, object]:
        values = {name: getattr(self, name) for name in _COLUMNS}
        return {name: value or None for name, value in values.items()}

    @property
    def words(self) -> str:
        """Return the value with its unit."""
        return setting_value(self.value, self.unit)


@blueprint.get("/policy")
@requires(Permission.STAFF)
def show() -> ResponseReturnValue:
    """Show each effective value."""
    refuse_filters()
    rows = _rows(current_app.config["ROLLCALL_SETTINGS"])
    match asked_format():
        case "json":
            return jsonify(policy=_by_role(), settings=[row.record() for row in rows])
        case "csv":
            return csv_response("policy", _COLUMNS, [*_rules(), *(row.record() for row in rows)])
    return render_template(
        "admin/policy.html",
        verdict=_verdict(sum(bool(row.unsafe) for row in rows)),
        rules=list(system.policy.by_role.items()),
        groups=[(name, list(members)) for name, members in groupby(rows, lambda row: row.group)],
    )


def _rows(settings: Iterable[Setting]) -> list[Row]:
    settings = list(settings)
    unsafe = reasons(settings)
    return [
        Row(s.group, s.name, shown(s), s.unit, s.source, s.changed, unsafe.get(s.name, ""))
        for s in settings
    ]


def _by_role() -> list[dict[str, object]]:
    return [
        {
            "role": role,
            "idle_seconds": int(rule.idle.total_seconds()),
            "absolute_seconds": int(rule.absolute.total_seconds()),
            "limit": rule.limit,
            "at_limit": rule.at_limit.value,
            "store": rule.store,
        }
        for role, rule in system.policy.by_role.items()
    ]


def _rules() -> list[dict[str, object]]:
    """Return the table by role as rows of the settings' table: `member.idle_seconds`."""
    return [
        dict.fromkeys(_COLUMNS)
        | {"group": "by_role", "name": f"{rule['role']}.{name}", "value": value}
        for rule in _by_role()
        for name, value in rule.items()
        if name != "role"
    ]


def _verdict(unsafe: int) -> str:
    read = _("The values in force. They are settings of the environment, read at the start.")
    if not unsafe:
        return join_sentences(read, _("None is unsafe."))
    flagged = ngettext(
        "%(count)s is less safe than it could be.",
        "%(count)s are less safe than they could be.",
        unsafe,
        count=number(unsafe),
    )
    return join_sentences(read, flagged)
