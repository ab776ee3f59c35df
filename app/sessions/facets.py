"""How many sessions each value of a facet would leave: the numbers on the chips above the list.

A number is that of the list to which its chip leads: what the filter finds with this value in the place
of the facet's own. It is exact or it is not there.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Select, func, literal, select

from app.people.models import Role, User
from app.sessions.filter import STATUSES, SessionFilter, for_a_filter, status_in_sql
from app.sessions.models import UserAgent, UserSession
from app.sessions.search import number_of
from app.sessions.stores.engines import PLANNED_ANEW
from app.sessions.system import system

FACETS = ("status", "store", "role", "client")
MOST_COUNTED = 10_000
"""The most sessions that are told apart by all facets; of more, only the status is counted."""

_MOST_CLIENTS = 4
_FAMILY = re.compile(r"(.+?)(?: \d| on |$)")

Counts = Mapping[str, Mapping[str, int | None]]


@dataclass(frozen=True, slots=True)
class _Cell:
    """So many sessions have all of this in common."""

    status: str
    store: str
    role: str
    client: str
    count: int


def facets(where: SessionFilter, total: int) -> Counts:
    """Return, by facet, the number for each of its values; None where it was not counted.

    `total` is how many sessions match. Raises StoreUnavailable("database").
    """
    base = replace(where, status=None, store=None, role=None, client=None)
    cells = None if base == where and total > MOST_COUNTED else _cells(base)
    if cells is None:
        return _of_many(where, total)
    counted = {facet: _by_value(facet, where, cells) for facet in FACETS}
    if where.state != "live":
        del counted["status"]
    return counted


def _cells(base: SessionFilter) -> list[_Cell] | None:
    """Tell apart what matches, in one statement; None if that is too much."""
    cells = [_Cell(*row) for row in system.ledger.read(_told_apart(base, MOST_COUNTED + 1))]
    return cells if sum(cell.count for cell in cells) <= MOST_COUNTED else None


@for_a_filter
def _told_apart(base: SessionFilter, most: int) -> Select[Any]:
    status = status_in_sql() if base.state == "live" else literal("ended")
    columns = (UserSession.store, UserSession.user_id, UserSession.user_agent_id)
    few = select(*columns, status.label("status")).where(base.clause())
    rows = few.limit(most).subquery()
    apart = (rows.c.status, rows.c.store, User.role, UserAgent.client)
    statement = (
        select(*apart, func.count())
        .join_from(rows, User, User.id == rows.c.user_id)
        .join(UserAgent, UserAgent.id == rows.c.user_agent_id)
        .group_by(*apart)
    )
    return statement.execution_options(**PLANNED_ANEW)


def _by_value(facet: str, where: SessionFilter, cells: Iterable[_Cell]) -> dict[str, int | None]:
    others = {name: getattr(where, name) for name in FACETS if name != facet}
    left = [
        cell
        for cell in cells
        if all(_has(cell, name, value) for name, value in others.items() if value is not None)
    ]
    return {
        value: sum(cell.count for cell in left if _has(cell, facet, value))
        for value in _values(facet, where, left)
    }


def _has(cell: _Cell, facet: str, value: str) -> bool:
    if facet == "client":
        return value.casefold() in cell.client.casefold()
    return bool(getattr(cell, facet) == value)


def _values(facet: str, where: SessionFilter, cells: Iterable[_Cell]) -> list[str]:
    """Return the values that are offered: roles and clients only if somebody has them, or they are chosen."""
    chosen = getattr(where, facet)
    if facet == "client":
        return _families(chosen, cells)
    if facet == "role":
        there = {chosen, *(cell.role for cell in cells)}
        return [role.value for role in Role if role in there]
    return list(STATUSES if facet == "status" else system.stores)


def _families(chosen: str | None, cells: Iterable[_Cell]) -> list[str]:
    """Return the most frequent clients, without their versions, and the one that is chosen."""
    families: Counter[str] = Counter()
    for cell in cells:
        families[_family(cell.client)] += cell.count
    frequent = [family for family, _count in families.most_common(_MOST_CLIENTS)]
    known = {family.casefold() for family in frequent}
    return frequent if chosen is None or chosen.casefold() in known else [*frequent, chosen]


def _family(client: str) -> str:
    found = _FAMILY.match(client)
    return found[1] if found else client


def _of_many(where: SessionFilter, total: int) -> Counts:
    """Count what indexes find at once of a large set, two statuses; the third is what is left."""
    counted: dict[str, dict[str, int | None]] = {}
    if where.state == "live":
        asked = [replace(where, status=word) for word in ("active", "expiring", None)]
        active, expiring, any_status = _numbers(asked, known={where: total})
        idle = any_status - active - expiring
        counted["status"] = {"active": active, "idle": idle, "expiring": expiring}
    return counted | {
        "store": dict.fromkeys(system.stores),
        "role": dict.fromkeys(role.value for role in Role),
        "client": dict.fromkeys([where.client] if where.client else []),
    }


def _numbers(asked: list[SessionFilter], known: Mapping[SessionFilter, int]) -> list[int]:
    """Count what filters find, in one statement, but for what is known."""
    unknown = [where for where in asked if where not in known]
    statement = select(*map(_number, unknown)).execution_options(**PLANNED_ANEW)
    found = {**known, **dict(zip(unknown, system.ledger.read(statement)[0], strict=True))}
    return [found[where] for where in asked]


_number = for_a_filter(number_of)
