"""Every component in each of its states, drawn by the real macros: for whoever changes how pages look.

In development only. Its values are made up, and its buttons lead nowhere.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from flask import Blueprint, abort, current_app, render_template
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from app.admin import drawings
from app.admin.charts import Column, Upright, chart
from app.admin.drawings import Ranked
from app.admin.forms import RevocationForm
from app.admin.words import receipt_verdict
from app.auth.access import requires
from app.filters import client_name
from app.people.models import Permission
from app.sessions.receipt import Receipt, StoreReceipt
from app.sessions.rows import SessionRow
from app.texts import gettext as _

blueprint = Blueprint("patterns", __name__)

_NOW = datetime(2026, 11, 21, 11, 4, 12, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_ROW = SessionRow(
    id=1,
    reference="k7dm2qy5ta",
    user_id=1,
    user="alice",
    role="member",
    store="redis",
    state="live",
    status="active",
    started_at=_NOW - _HOUR,
    last_seen_at=_NOW,
    idle_expires_at=_NOW + _HOUR,
    absolute_expires_at=_NOW + 11 * _HOUR,
    first_ip="10.31.4.7",
    ip="10.31.4.7",
    client="Firefox 140 on Linux",
    first_client="Firefox 140 on Linux",
    user_agent="",
    ended_at=None,
    end_reason=None,
    ended_by=None,
    reason_code=None,
    note=None,
    regenerations=0,
    revocation_id=None,
    present=True,
)
_LIVE = (
    _ROW,
    replace(_ROW, reference="a2bcd3efgh", user="vera", role="viewer", store="sql", status="idle"),
    replace(
        _ROW,
        reference="m4npq5rstu",
        user="bob",
        status="expiring",
        idle_expires_at=_NOW + timedelta(seconds=80),
        ip="2001:db8:85a3::8a2e:370:7334",
    ),
    replace(_ROW, reference="v6wxy7zabc", user="ada", role="admin", present=False),
)
_ENDED = tuple(
    replace(
        _ROW,
        reference=reference,
        state="ended",
        status="ended",
        ended_at=_NOW - _HOUR,
        end_reason=reason,
        ended_by=by,
        reason_code=code,
        note=None,
    )
    for reference, reason, by, code in (
        ("d2efg3hijk", "signed_out", "alice", None),
        ("l4mno5pqrs", "revoked", "ada", "lost_device"),
        ("t6uvw7xyza", "idle_timeout", "worker", None),
    )
)
_DONE = Receipt(
    revocation_id=7,
    ended=38,
    already_ended=2,
    purged=38,
    purge_pending=0,
    present=0,
    waiting=0,
    finished=True,
    reason="incident",
    note="",
    tell=False,
    actor_name="ada",
    confirmed_at=_NOW,
    finished_at=_NOW,
    read_back_at=_NOW,
    held_back=None,
    left_out=0,
    by_store={"redis": StoreReceipt(30, 30, 0), "sql": StoreReceipt(8, 8, 0)},
)
_RECEIPTS = (
    replace(_DONE, finished=False, ended=12, waiting=26, read_back_at=None),
    replace(_DONE, purge_pending=8, purged=30),
    replace(_DONE, ended=0, already_ended=40, by_store={}),
    _DONE,
)


@blueprint.get("/patterns")
@requires(Permission.STAFF)
def show() -> ResponseReturnValue:
    """Show all of them; in production there is no such page."""
    if current_app.config["ROLLCALL_ENV"] != "development":
        abort(404)
    refused = RevocationForm(40, formdata=MultiDict({"reason": "", "count": "3"}))
    refused.validate()
    return render_template(
        "admin/patterns.html",
        now=_NOW,
        live=_LIVE,
        ended=_ENDED,
        form=RevocationForm(40, formdata=None, prefix="blank-"),
        refused=refused,
        receipts=[(receipt_verdict(receipt), receipt) for receipt in _RECEIPTS],
        chart=_chart(),
        empty_chart=drawings.by_hour([0] * 24),
        ranking=[Ranked(client_name(_ROW.client), 40, "#"), Ranked(_("all others"), 13)],
    )


def _chart() -> object:
    columns = [
        Column(f"{hour:02}:00", f"{hour:02}:00" if hour % 6 == 0 else "", (90 + hour, 20, hour))
        for hour in range(24)
    ]
    marks = [Upright(0.4, "#7", _("Revocation confirmed")), Upright(0.43, "#8", "#8")]
    return chart(["Redis", "SQL", _("all others")], columns, marks)
