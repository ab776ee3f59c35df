"""Whether a list of sessions has changed since a page of it was made: a look at the newest events.

No session begins or ends without an event, so the trail from a moment on says what happened, whatever
the size of the list. That somebody was seen again is no event, and no change here.
"""

import re
from dataclasses import dataclass
from typing import Self

from sqlalchemy import bindparam, func, or_, select

from app.audit.models import ENDS, AuditEvent, Verb
from app.columns import Id, now
from app.sessions.filter import SessionFilter
from app.sessions.models import UserSession
from app.sessions.stores.engines import PLANNED_ANEW
from app.sessions.system import system
from app.sessions.transaction import long_past_deadline

_OF_LIVE = (*ENDS, Verb.SIGNED_IN, Verb.CLIENT_CHANGED)

_LONGEST_TRANSACTION = 60.0
"""Seconds after which an event has been committed, or never will be."""

_MOST_LOOKED_AT = 10_000
"""How many of the newest ids are looked through for gaps: some batches of a bulk revocation."""

_MOST_GAPS = 100
_TEXT = re.compile(rf"[0-9]{{1,18}}(?:\.[0-9]{{1,18}}-[0-9]{{1,18}}){{0,{_MOST_GAPS}}}")

_SETTLED = (
    select(AuditEvent.id)
    .where(AuditEvent.at <= now(-_LONGEST_TRANSACTION))
    .order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
    .limit(1)
)
_NEWEST = select(
    func.coalesce(select(func.max(AuditEvent.id)).scalar_subquery(), 0),
    func.coalesce(_SETTLED.scalar_subquery(), 0),
)


_IDS, _FLOOR, _UPTO = AuditEvent.id, bindparam("floor", type_=Id), bindparam("upto", type_=Id)
_PAIRS = (
    select(func.coalesce(func.lag(_IDS).over(order_by=_IDS), _FLOOR).label("before"), _IDS)
    .where(_IDS > _FLOOR, _IDS <= _UPTO)
    .subquery()
)
_MISSING = (
    select(_PAIRS)
    .where(_PAIRS.c.id - _PAIRS.c.before > 1)
    .order_by(_PAIRS.c.id.desc())
    .limit(_MOST_GAPS)
    .execution_options(**PLANNED_ANEW)
)


@dataclass(frozen=True, slots=True)
class Seen:
    """Which events could be seen at a moment: those up to an id, but for what was missing among them.

    An event has its id before its transaction commits, so one may appear after others with higher ids.
    `gaps` are the first and last ids of what was missing: such an event, or one that was rolled back.
    """

    upto: int
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `str` wrote. Raises ValueError."""
        if not _TEXT.fullmatch(text):
            raise ValueError(text)
        upto, *gaps = text.split(".")
        pairs = (gap.split("-") for gap in gaps)
        return cls(int(upto), tuple((int(first), int(last)) for first, last in pairs))

    def __str__(self) -> str:
        return ".".join([str(self.upto), *(f"{first}-{last}" for first, last in self.gaps)])


def seen_now() -> Seen:
    """Return which events are seen; ask before the rows are read, so that nothing falls between."""
    upto, floor = (int(event_id) for event_id in system.ledger.read(_NEWEST)[0])
    floor = max(floor, upto - _MOST_LOOKED_AT)
    if floor >= upto:
        return Seen(upto)
    found = system.ledger.read(_MISSING, {"floor": floor, "upto": upto})
    return Seen(upto, tuple((row.before + 1, row.id - 1) for row in reversed(found)))


def changed_since(where: SessionFilter, seen: Seen) -> tuple[bool, Seen]:
    """Say whether the list has changed after a moment, and return which events are seen, to go on from.

    Raises StoreUnavailable("database").
    """
    go_on_from = seen_now()
    verbs = _OF_LIVE if where.state == "live" else ENDS
    # Who signs out in time was never overdue.
    were_there = [long_past_deadline()] if where.state == "overdue" else []
    of_list = (
        select(AuditEvent.id)
        .join(UserSession, UserSession.reference == AuditEvent.reference)
        .where(AuditEvent.verb.in_(verbs), *were_there, *where.narrowing())
    )
    ranges = [AuditEvent.id > seen.upto, *(AuditEvent.id.between(*gap) for gap in seen.gaps)]
    asked = select(of_list.where(or_(*ranges)).exists())
    found = system.ledger.read(asked.execution_options(**PLANNED_ANEW))[0]
    return bool(found[0]), go_on_from
