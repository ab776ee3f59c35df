"""The stores: whether each answers, and what the ledger counts in it."""

from dataclasses import asdict, dataclass

from flask import Blueprint, jsonify, render_template
from flask.typing import ResponseReturnValue

from app.admin.counts import ask_stores, live_counts, purges_waiting
from app.admin.words import purge_check, stores_sentence
from app.auth.access import requires
from app.filters import join_sentences, sentence
from app.listing import asked_format, csv_response
from app.people.models import Permission
from app.sessions.system import system

blueprint = Blueprint("stores", __name__)

_COLUMNS = ("name", "reachable", "milliseconds", "live", "waiting")


@dataclass(frozen=True, slots=True)
class StoreState:
    """What the page says of one store. `live` and `waiting` are the ledger's counts."""

    name: str
    reachable: bool
    milliseconds: float | None
    live: int
    waiting: int
    roles: list[str]


@blueprint.get("/stores")
@requires(Permission.STAFF)
def index() -> ResponseReturnValue:
    """Show each configured store."""
    answers, live, waiting = ask_stores(), live_counts(), purges_waiting()
    states = [
        StoreState(
            answer.name,
            answer.reachable,
            answer.milliseconds,
            live.by_store.get(answer.name, 0),
            waiting.get(answer.name, 0),
            [role for role, rule in system.policy.by_role.items() if rule.store == answer.name],
        )
        for answer in answers
    ]
    match asked_format():
        case "json":
            return jsonify(stores=[asdict(state) for state in states])
        case "csv":
            return csv_response("stores", _COLUMNS, [asdict(state) for state in states])
    waiting_sentence = sentence(purge_check(sum(waiting.values())).text)
    return render_template(
        "admin/stores/list.html",
        stores=states,
        verdict=join_sentences(stores_sentence(answers), waiting_sentence),
        now=system.ledger.now(),
    )
