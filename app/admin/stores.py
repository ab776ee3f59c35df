"""The stores: whether each answers, what its server is, what the ledger counts in it, where they differ."""

from dataclasses import asdict, dataclass
from typing import Any

from flask import Blueprint, abort, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.admin import counts
from app.admin.helpers import person, sessions_in_words
from app.admin.words import purge_check, stores_sentence, unsafe_sentence
from app.auth.access import require_step_up, requires
from app.filters import join_sentences, number, sentence, store_name
from app.listing import asked_format, csv_response, refuse_filters
from app.people.models import Permission
from app.sessions import drift
from app.sessions.drift import Settled
from app.sessions.store import StoreUnavailable
from app.sessions.stores import budget
from app.sessions.stores.facts import Facts
from app.sessions.system import system
from app.texts import gettext as _
from app.texts import ngettext

blueprint = Blueprint("stores", __name__)

_OF_FACTS = ("product", "version", "nodes", "memory", "memory_limit", "rows")
_COUNTED = ("name", "reachable", "milliseconds", "live", "missing", "waiting", "damaged")
_COLUMNS = (*_COUNTED, *_OF_FACTS, "unsafe")
_SHOWN = 50
_LOOK = 0.5
"""Seconds of the request's deadline that asking the stores may take: the page must still be made."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """What the page says of one store. `live`, `missing` and `waiting` are the ledger's counts.

    `damaged` is the trail's, of DAMAGED_DAYS. `facts` is None where the server told nothing.
    """

    name: str
    reachable: bool
    milliseconds: float | None
    live: int
    missing: int
    waiting: int
    damaged: int
    roles: list[str]
    facts: Facts | None

    @property
    def warnings(self) -> list[str]:
        """Return what is unsafe in the server's settings, and what to do about it."""
        found = self.facts.unsafe if self.facts else ()
        return [unsafe_sentence(unsafe, value) for unsafe, value in found]

    def record(self) -> dict[str, Any]:
        """Return what programs are told: codes, and null for what is not known."""
        values = asdict(self)
        facts = values.pop("facts") or {}
        unsafe = [f"{code}: {value}" for code, value in facts.get("unsafe", ())]
        return values | {name: facts.get(name) for name in _OF_FACTS} | {"unsafe": unsafe}


@blueprint.get("/stores")
@requires(Permission.STAFF)
def index() -> ResponseReturnValue:
    """Show each configured store."""
    refuse_filters()
    asked, now = asked_format(), system.ledger.now()
    states = _states()
    waiting = sum(state.waiting for state in states)
    match asked:
        case "json":
            return jsonify(stores=[state.record() for state in states])
        case "csv":
            rows = [state.record() for state in states]
            joined = [row | {"unsafe": "; ".join(row["unsafe"])} for row in rows]
            return csv_response("stores", _COLUMNS, joined)
    warnings = sum(len(state.warnings) for state in states)
    return render_template(
        "admin/stores/list.html",
        stores=states,
        verdict=join_sentences(
            stores_sentence(states), sentence(purge_check(waiting).text), _settings(warnings)
        ),
        damaged_days=counts.DAMAGED_DAYS,
        now=now,
    )


def _states() -> list[StoreState]:
    """Ask the stores last: what they take of the deadline, the ledger no longer needs."""
    live, waiting = counts.live_counts().by_store, counts.purges_waiting()
    missing, damaged = counts.missing_by_store(), counts.damaged_by_store()
    with budget.within(_LOOK):
        answers = counts.ask_stores()
        facts = {each.name: counts.ask_facts(each.name) for each in answers if each.reachable}
    return [
        StoreState(
            name=answer.name,
            reachable=answer.reachable,
            milliseconds=answer.milliseconds,
            live=live.get(answer.name, 0),
            missing=missing.get(answer.name, 0),
            waiting=waiting.get(answer.name, 0),
            damaged=damaged.get(answer.name, 0),
            roles=[r for r, rule in system.policy.by_role.items() if rule.store == answer.name],
            facts=facts.get(answer.name),
        )
        for answer in answers
    ]


def _settings(warnings: int) -> str:
    if not warnings:
        return ""
    return ngettext(
        "%(count)s setting of a server is unsafe.",
        "%(count)s settings of servers are unsafe.",
        warnings,
        count=number(warnings),
    )


@blueprint.get("/stores/<store>/drift")
@requires(Permission.STAFF)
def show_drift(store: str) -> ResponseReturnValue:
    """Show where a store and the ledger differ, and what would be done about it; nothing is changed."""
    _check(store)
    asked, now = asked_format("json"), system.ledger.now()
    after = _after(request.args.get("after"))
    try:
        with budget.within(_LOOK):
            found = drift.look(system, store, after)
    except StoreUnavailable as error:
        if error.store != store:
            raise
        found = None
    if asked == "json":
        return _drift_json(store, found)
    return render_template(
        "admin/stores/drift.html",
        store=store,
        found=found,
        after=after,
        shown=_SHOWN,
        may_settle=person().may(Permission.REVOKE),
        now=now,
    )


def _drift_json(store: str, found: drift.Drift | None) -> ResponseReturnValue:
    if found is None:
        return jsonify(store=store, unavailable=[store])
    return jsonify(
        store=store,
        unavailable=[],
        looked=found.looked,
        absent=[row.reference for row in found.absent],
        missing_twice=sorted(found.twice),
        too_many=found.too_many,
        waiting=found.waiting,
        next=found.next,
    )


@blueprint.post("/stores/<store>/drift")
@requires(Permission.REVOKE)
def settle(store: str) -> ResponseReturnValue:
    """Do what was shown to those sessions that were shown, and are still as they were."""
    _check(store)
    after = _after(request.form.get("after"))
    here = url_for("admin.stores.show_drift", store=store, after=after or None)
    require_step_up(here)
    try:
        with budget.within(_LOOK):
            done = drift.settle(
                system, store, request.form.getlist("reference"), person().actor(), after
            )
    except StoreUnavailable as error:
        if error.store != store:
            raise
        flash(_("%(store)s did not answer: nothing was done.", store=store_name(store)), "warning")
    else:
        flash(_told(done), "warning" if done.pending or done.noted else "message")
    return redirect(here, 303)


def _told(done: Settled) -> str:
    return join_sentences(
        _("Ended as lost: %(what)s.", what=sessions_in_words(done.lost)),
        _("Data deleted: of %(what)s.", what=sessions_in_words(done.deleted)),
        _("Noted for a second look: %(what)s.", what=sessions_in_words(done.noted))
        if done.noted
        else "",
        _("Still to be deleted: of %(what)s.", what=sessions_in_words(done.pending))
        if done.pending
        else "",
    )


def _check(store: str) -> None:
    if store not in system.stores:
        abort(404, _("There is no such store."))


def _after(text: str | None) -> int:
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 18:
        abort(400, _("This page of the list does not exist."))
    return int(text)
