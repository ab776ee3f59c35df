"""The first page of the staff site: the verdict, four figures, checks, the last staff actions."""

from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, jsonify, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from app.admin import counts, drawings, reports, words
from app.admin.ranges import read_range
from app.audit.models import AuditEvent, Verb
from app.auth.access import requires
from app.filters import duration, join_sentences, number
from app.listing import asked_format
from app.people.models import Permission
from app.sessions.flags import ANY, OF_A_ROW
from app.sessions.models import EndReason, Revocation
from app.sessions.store import StoreUnavailable
from app.sessions.system import system
from app.texts import gettext as _
from app.texts import ngettext

blueprint = Blueprint("overview", __name__)

_ACTIONS = (
    Verb.REVOCATION_CONFIRMED,
    Verb.USER_CREATED,
    Verb.USER_DISABLED,
    Verb.USER_ENABLED,
    Verb.ROLE_CHANGED,
    Verb.PASSWORD_RESET,
    Verb.PASSWORD_REQUIRED,
)
_LAST_ACTIONS = (
    select(
        AuditEvent.at,
        AuditEvent.actor_name,
        AuditEvent.verb,
        AuditEvent.target_name,
        AuditEvent.revocation_id,
        AuditEvent.reason,
        AuditEvent.note,
        Revocation.size,
        Revocation.matched_by,
    )
    .outerjoin(Revocation, Revocation.id == AuditEvent.revocation_id)
    .where(AuditEvent.verb.in_([verb.value for verb in _ACTIONS]))
    .order_by(AuditEvent.id.desc())
    .limit(8)
)


@blueprint.get("/")
@requires(Permission.STAFF)
def show() -> ResponseReturnValue:
    """Show how things stand."""
    answers = counts.ask_stores()
    live = counts.live_counts()
    users = counts.signed_in_users(live.total)
    missing, overdue, flagged = counts.missing_data(), counts.overdue(), counts.flagged()
    started, revoked = counts.started_lately(), counts.revoked_lately()
    if asked_format("json") == "json":
        return jsonify(
            live=live.by_store,
            active=live.active,
            users=users,
            need_a_look=flagged,
            alarms=[alarm.note for alarm in counts.alarms()],
            signed_in_last_hour=started,
            revoked_last_day=revoked,
            unavailable=[answer.name for answer in answers if not answer.reachable],
        )
    counted = live.total <= counts.MOST_OVER_LIMIT
    checks = [
        *(words.store_check(answer) for answer in answers),
        *(words.alarm_check(alarm) for alarm in counts.alarms()),
        words.worker_check(*counts.last_sample()),
        words.missing_check(missing),
        words.overdue_check(overdue),
        words.purge_check(sum(counts.purges_waiting().values())),
        words.unfinished_check(counts.unfinished_revocations()),
        words.limit_check(counts.users_over_limit() if counted else None),
    ]
    now = system.ledger.now()
    shown = [check for check in checks if check]
    of_flagged = [("flag", flag) for flag in OF_A_ROW]
    # What a flag of a session says is among the sessions that need a look already.
    troubled = sum(
        check.kind in ("warning", "bad") and not (flagged and check.shown in of_flagged)
        for check in shown
    )
    return render_template(
        "admin/overview.html",
        verdict=_verdict(words.stores_sentence(answers), flagged, troubled),
        figures=[
            {
                "label": _("Signed in now"),
                "value": live.total,
                "note": _signed_in(users, live.active),
                "href": url_for("admin.sessions.index"),
            },
            {
                "label": _("Need a look"),
                "value": flagged,
                "note": _("each is marked in the list with why"),
                "href": url_for("admin.sessions.index", flag=ANY),
            },
            {
                "label": _("Signed in, last hour"),
                "value": started,
                "note": _("sign-ins, some of them ended since"),
                "href": url_for("admin.sessions.index", age="<1h"),
            },
            {
                "label": _("Revoked, last 24 h"),
                "value": revoked,
                "note": _("sessions ended by staff"),
                "href": url_for(
                    "admin.sessions.index", ended="<24h", reason=EndReason.REVOKED.value
                ),
            },
        ],
        checks=shown,
        **_chart(now),
        actions=system.ledger.read(_LAST_ACTIONS),
        now=now,
    )


def _chart(now: datetime) -> dict[str, Any]:
    """Return the last 48 hours by store; None without a sample, and `late` where the database is too slow."""
    within = read_range({}, now)
    try:
        sampled, revoked = reports.concurrency(within), reports.bulk_revocations(within)
    except StoreUnavailable:
        return {"chart": None, "late": True, "revocations": []}
    drawn = drawings.over_time(within, sampled, revoked) if sampled else None
    step = duration(timedelta(seconds=within.step))
    return {"chart": drawn, "late": False, "revocations": revoked, "step": step}


def _signed_in(users: int | None, active: int) -> str:
    if users is None:
        return _("%(active)s active in 5 min", active=number(active))
    return ngettext(
        "%(users)s user, %(active)s active in 5 min",
        "%(users)s users, %(active)s active in 5 min",
        users,
        users=number(users),
        active=number(active),
    )


def _verdict(stores: str, flagged: int, troubled: int) -> str:
    if not flagged and not troubled:
        return join_sentences(stores, _("Nothing needs a look."))
    sessions = ngettext(
        "%(count)s session needs a look.",
        "%(count)s sessions need a look.",
        flagged,
        count=number(flagged),
    )
    checks = ngettext(
        "%(count)s check needs a look.",
        "%(count)s checks need a look.",
        troubled,
        count=number(troubled),
    )
    return join_sentences(stores, sessions if flagged else "", checks if troubled else "")
