"""Whether a list of sessions has changed since a page of it was made: a look at the newest events.

No session begins or ends without an event, so the trail from one event on says what happened, whatever
the size of the list. That somebody was seen again is no event, and no change here.
"""

from sqlalchemy import func, select

from app.audit.models import AuditEvent, Verb
from app.sessions.filter import SessionFilter
from app.sessions.models import UserSession
from app.sessions.stores.engines import PLANNED_ANEW
from app.sessions.system import system

_ENDS = (
    Verb.SIGNED_OUT,
    Verb.SUPERSEDED,
    Verb.EXPIRED,
    Verb.REVOKED,
    Verb.ENDED,
    Verb.LOST,
    Verb.DAMAGED,
)
_OF_LIVE = (*_ENDS, Verb.SIGNED_IN, Verb.CLIENT_CHANGED)

_NEWEST = select(func.coalesce(func.max(AuditEvent.id), 0))


def newest_event() -> int:
    """Return the id of the newest event; read it before the rows, so that nothing falls between."""
    return int(system.ledger.read(_NEWEST)[0][0])


def changed_since(where: SessionFilter, event_id: int) -> tuple[bool, int]:
    """Say whether the list has changed after an event, and return the newest one, to go on from.

    Raises StoreUnavailable("database").
    """
    verbs = _OF_LIVE if where.state == "live" else _ENDS
    of_list = (
        select(AuditEvent.id)
        .join(UserSession, UserSession.reference == AuditEvent.reference)
        .where(AuditEvent.id > event_id, AuditEvent.verb.in_(verbs), *where.narrowing())
    )
    asked = select(of_list.exists(), _NEWEST.scalar_subquery())
    found = system.ledger.read(asked.execution_options(**PLANNED_ANEW))[0]
    return bool(found[0]), int(found[1])
