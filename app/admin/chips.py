"""The chips above the list of sessions: each is a link that puts its token into the filter, or takes it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import url_for

from app.filters import client_name, role_name, state_name, status_name, store_name
from app.sessions.facets import Counts
from app.sessions.filter import STATES, SessionFilter

_OF_ONE_STATE = ("status", "flag", "ended", "reason", "by", "sort")
_NAMES: dict[str, Callable[[str], str]] = {
    "status": status_name,
    "store": store_name,
    "role": role_name,
    "client": client_name,
}


@dataclass(frozen=True, slots=True)
class Chip:
    """One link. `count` is how many sessions the list has to which it leads, None if nobody counted."""

    label: str
    href: str
    count: int | None
    chosen: bool
    removes: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Chips of which one at a time is chosen. A wide group is left out on a phone."""

    chips: list[Chip]
    wide: bool = False


def chips(
    where: SessionFilter | None,
    total: int | None,
    counts: Counts,
    view: Mapping[str, str] | None = None,
) -> list[Group]:
    """Return the groups; without a filter, because it was not understood, each chip begins a new one.

    `view` is what the address says beside the filter, and goes on saying.
    """
    query = {**(where.to_query() if where else {}), **(view or {})}
    facets = [
        Group([_of_facet(facet, value, n, query) for value, n in values.items()], _is_wide(facet))
        for facet, values in counts.items()
    ]
    chosen = where.state if where else None
    # What is overdue is seldom there, and found from the overview: its chip stands where it is chosen.
    offered = [state for state in STATES if state != "overdue" or chosen == state]
    states = Group([_of_state(state, total, chosen, query) for state in offered])
    return [states, *(group for group in facets if group.chips)]


def _is_wide(facet: str) -> bool:
    return facet in ("role", "client")


def _of_state(state: str, total: int | None, now: str | None, query: dict[str, str]) -> Chip:
    chosen = state == now
    if not chosen:
        query = {k: v for k, v in query.items() if k not in (*_OF_ONE_STATE, "state")}
        query |= {"state": state} if state != "live" else {}
    return Chip(state_name(state), _link(query), total if chosen else None, chosen)


def _of_facet(facet: str, value: str, count: int | None, query: dict[str, str]) -> Chip:
    chosen = query.get(facet, "").casefold() == value.casefold()
    rest = {name: text for name, text in query.items() if name != facet}
    href = _link(rest if chosen else {**rest, facet: value})
    return Chip(_NAMES[facet](value), href, count, chosen, removes=chosen)


def _link(query: dict[str, str]) -> str:
    return url_for("admin.sessions.index", **query)  # type: ignore[arg-type]
