"""Statistics of any range of time: from the worker's samples, and from the ledger itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from flask import Blueprint, jsonify, render_template, url_for
from flask.typing import ResponseReturnValue

from app.admin import drawings, reports
from app.admin.drawings import Ranked
from app.admin.ranges import PRESETS, BadRange, Range, read_range
from app.auth.access import requires
from app.columns import AnyRow
from app.filters import client_name, duration, end_reason, iso
from app.listing import arguments, asked_format, csv_response
from app.people.models import Permission
from app.sessions.store import StoreUnavailable
from app.sessions.stores import budget
from app.sessions.system import system
from app.texts import gettext as _
from app.texts import lazy_gettext as _l

blueprint = Blueprint("statistics", __name__)

Report = TypeVar("Report")

_COLUMNS = ("figure", "at", "what", "count")
_PRESETS = {
    "24h": _l("Last 24 hours"),
    "48h": _l("Last 48 hours"),
    "7d": _l("Last 7 days"),
    "30d": _l("Last 30 days"),
}
_LEAST = 0.2
"""Seconds of the request's deadline that must be left for a further report to be asked for."""


@dataclass
class Reports:
    """All reports of one range. One that the database did not finish in time is None."""

    concurrency: dict[int, list[AnyRow]] | None = None
    revocations: list[AnyRow] | None = None
    ends: dict[str, int] | None = None
    sign_ins: list[int] | None = None
    ages_and_idle: tuple[list[int], list[int]] | None = None
    clients: dict[str, int] | None = None

    @property
    def missing(self) -> list[str]:
        return [name for name, report in vars(self).items() if report is None]


@blueprint.get("/statistics")
@requires(Permission.STAFF)
def index() -> ResponseReturnValue:
    """Show what was, in a range, and what is; a range that is not understood is a 400."""
    asked, now = asked_format(), system.ledger.now()
    args = arguments()
    try:
        within = read_range(args, now)
    except BadRange as error:
        if asked != "html":
            return jsonify(error="bad_range", field=error.field, message=error.message), 400
        return _page(None, None, now, args, error), 400
    found = _ask(within, now)
    match asked:
        case "json":
            return jsonify(_json(within, found) | {"kept_since": iso(now - system.keep.sessions)})
        case "csv":
            return csv_response(
                "statistics", _COLUMNS, [*_records(found), *_what_is_missing(found)]
            )
    return _page(within, found, now, args, None)


def _ask(within: Range, now: datetime) -> Reports:
    """Ask for one report after the other, as long as the deadline allows: the cheap ones first."""
    return Reports(
        concurrency=_in_time(lambda: reports.concurrency(within)),
        revocations=_in_time(lambda: reports.bulk_revocations(within)),
        clients=_in_time(reports.clients),
        ends=_in_time(lambda: reports.ends_by_cause(within)),
        ages_and_idle=_in_time(lambda: reports.ages_and_idle_times(now)),
        sign_ins=_in_time(lambda: reports.sign_ins_by_hour(within)),
    )


def _in_time(ask: Callable[[], Report]) -> Report | None:
    left = budget.remaining()
    if left is not None and left < _LEAST:
        return None
    try:
        return ask()
    except StoreUnavailable:
        return None


def _page(
    within: Range | None,
    found: Reports | None,
    now: datetime,
    args: dict[str, Any],
    error: BadRange | None,
) -> str:
    shown = _shown(within, found) if within and found else {"verdict": ""}
    times = (("from", _("From (UTC)")), ("to", _("To (UTC)")))
    return render_template(
        "admin/statistics.html",
        now=now,
        within=within,
        presets=[(name, str(_PRESETS[name])) for name in PRESETS],
        last=within.last if within else "",
        kept=system.keep.sessions if within and _is_forgotten(within, now) else None,
        fields=[(name, label, _written(within, name, args)) for name, label in times],
        query={name: args[name] for name in ("last", "from", "to") if name in args},
        error=error,
        **shown,
    )


def _is_forgotten(within: Range, now: datetime) -> bool:
    """Say whether a range begins before what is kept: then less is counted than there was."""
    return within.begin < now - system.keep.sessions


def _written(within: Range | None, name: str, args: dict[str, Any]) -> str:
    """Return what stands in a field: what was typed, or what a preset means, to the minute."""
    if within is None:
        return str(args.get(name, ""))
    at = within.begin if name == "from" else within.end
    return at.strftime("%Y-%m-%dT%H:%M")


def _shown(within: Range, found: Reports) -> dict[str, Any]:
    ended = None if found.ends is None else sum(found.ends.values())
    began = None if found.sign_ins is None else sum(found.sign_ins)
    live = None if found.ages_and_idle is None else sum(found.ages_and_idle[0])
    sampled = found.concurrency or {}
    revoked = found.revocations or []
    return {
        "verdict": _verdict(found),
        "late": found.concurrency is None,
        "revocations": revoked,
        "concurrency": drawings.over_time(within, sampled, revoked) if sampled else None,
        "step": duration(timedelta(seconds=within.step)),
        "totals": (began, ended, live),
        "ends": None if found.ends is None else _ranked_ends(found.ends),
        "sign_ins": None if found.sign_ins is None else drawings.by_hour(found.sign_ins),
        "ages": found.ages_and_idle and drawings.ages(found.ages_and_idle[0]),
        "idle_times": found.ages_and_idle and drawings.idle_times(found.ages_and_idle[1]),
        "clients": None if found.clients is None else _ranked_clients(found.clients, live),
    }


def _verdict(found: Reports) -> str:
    if not found.missing:
        return _("Samples by the worker, and counts of the ledger. All times are UTC.")
    return _("The database was too slow for all of it: what is missing says so.")


def _ranked_ends(ends: dict[str, int]) -> list[Ranked]:
    return [
        Ranked(end_reason(code), count, url_for("admin.sessions.index", reason=code))
        for code, count in ends.items()
    ]


def _ranked_clients(clients: dict[str, int], live: int | None) -> list[Ranked]:
    rows = [
        Ranked(client_name(name), count, url_for("admin.sessions.index", client=name))
        for name, count in clients.items()
    ]
    others = _others(clients, live)
    return [*rows, Ranked(_("all others"), others)] if others else rows


def _others(clients: dict[str, int], live: int | None) -> int:
    """Return how many sessions have a client that is not among those with the most."""
    return max(0, (live or 0) - sum(clients.values()))


def _json(within: Range, found: Reports) -> dict[str, Any]:
    """Return the reports under the names of the page; what the database did not finish is null."""
    ages, idle = found.ages_and_idle or (None, None)
    return {
        "from": iso(within.begin),
        "to": iso(within.end),
        "concurrency": None if found.concurrency is None else _samples(found.concurrency),
        "ends": found.ends,
        "sign_ins_by_hour": found.sign_ins,
        "age": ages and _bars(ages, "absolute"),
        "idle": idle and _bars(idle, "idle"),
        "clients": found.clients,
        "other_clients": _other_clients(found),
    }


def _other_clients(found: Reports) -> int | None:
    """Return how many sessions `clients` leaves out; None if that was not counted."""
    if found.clients is None or found.ages_and_idle is None:
        return None
    return _others(found.clients, sum(found.ages_and_idle[0]))


def _samples(by_slot: dict[int, list[AnyRow]]) -> list[dict[str, object]]:
    return [
        {"at": iso(row.at), "store": row.store, "live": row.live, "active": row.active}
        for rows in by_slot.values()
        for row in rows
    ]


def _bars(counts: list[int], limit: str) -> list[dict[str, object]]:
    """Return a histogram: from how many seconds on, and how many sessions."""
    width = reports.bar_width(max(getattr(rule, limit) for rule in system.policy.by_role.values()))
    step = width.total_seconds()
    return [{"from_seconds": i * step, "sessions": count} for i, count in enumerate(counts)]


def _records(found: Reports) -> list[dict[str, object]]:
    """Return all reports as rows of one table."""

    def rows(figure: str, counts: Any) -> list[dict[str, object]]:
        return [
            {"figure": figure, "at": None, "what": what, "count": count} for what, count in counts
        ]

    ages, idle = found.ages_and_idle or ([], [])
    others = _other_clients(found)
    histograms = {"age": _bars(ages, "absolute"), "idle": _bars(idle, "idle")}
    return [
        *(
            {"figure": figure, "at": row["at"], "what": row["store"], "count": row[figure]}
            for row in _samples(found.concurrency or {})
            for figure in ("live", "active")
        ),
        *rows("ends", (found.ends or {}).items()),
        *rows("sign_ins", ((f"{h:02}:00", n) for h, n in enumerate(found.sign_ins or []))),
        *(
            each
            for figure, bars in histograms.items()
            for each in rows(figure, ((f"{b['from_seconds']} s", b["sessions"]) for b in bars))
        ),
        *rows("clients", (found.clients or {}).items()),
        *rows("other_clients", [] if others is None else [(None, others)]),
    ]


def _what_is_missing(found: Reports) -> list[dict[str, object]]:
    """Return the last line of a table that lacks a report: no rows are not the same as none there."""
    if not found.missing:
        return []
    said = _("Not complete: a server stopped answering. Export again.")
    return [{"figure": said, "at": None, "what": None, "count": None}]
