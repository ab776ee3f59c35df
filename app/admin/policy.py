"""The rules in force: timeouts, limit and store by role."""

from datetime import timedelta

from flask import Blueprint, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue

from app.auth.access import requires
from app.filters import duration
from app.listing import asked_format, csv_response
from app.people.models import Permission
from app.sessions.system import system
from app.texts import gettext as _

blueprint = Blueprint("policy", __name__)

_COLUMNS = ("role", "idle_seconds", "absolute_seconds", "limit", "at_limit", "store")


@blueprint.get("/policy")
@requires(Permission.STAFF)
def show() -> ResponseReturnValue:
    """Show each effective value."""
    rules = list(system.policy.by_role.items())
    if (asked := asked_format()) != "html":
        records: list[dict[str, object]] = [
            {
                "role": role,
                "idle_seconds": rule.idle.total_seconds(),
                "absolute_seconds": rule.absolute.total_seconds(),
                "limit": rule.limit,
                "at_limit": rule.at_limit.value,
                "store": rule.store,
            }
            for role, rule in rules
        ]
        if asked == "csv":
            return csv_response("policy", _COLUMNS, records)
        return jsonify(policy=records)
    step_up = timedelta(seconds=current_app.config["STEP_UP_AGE"])
    touch = system.policy.touch_interval
    return render_template(
        "admin/policy.html",
        rules=rules,
        others=[
            (_("Activity is recorded every"), duration(touch) if touch else _("request")),
            (_("A password counts as just entered for"), duration(step_up)),
        ],
    )
