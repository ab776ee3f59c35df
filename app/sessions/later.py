"""What matches the choice of a revocation now that it is done: offered on its receipt, never swept in."""

from dataclasses import dataclass

from sqlalchemy import func, select

from app.sessions.filter import FilterError, SessionFilter
from app.sessions.freeze import EVERYONE, LONGEST_CHOICE
from app.sessions.models import UserSession
from app.sessions.receipt import Receipt
from app.sessions.system import system
from app.sessions.transaction import live


@dataclass(frozen=True, slots=True)
class Later:
    """A filter, and how many live sessions match it now, without the one that was held back."""

    where: SessionFilter
    count: int


def later(of: Receipt) -> Later | None:
    """Count what matches now; None for what was chosen by hand. Ask it of a finished revocation."""
    where = _choice(of.matched_by)
    if where is None:
        return None
    own = UserSession.reference != (of.held_back or "")
    counted = select(func.count()).select_from(UserSession).where(where.clause(), live(), own)
    return Later(where, int(system.ledger.read(counted)[0][0]))


def _choice(matched_by: str) -> SessionFilter | None:
    """Read what `freeze` wrote; what was cut, or is of an older version, is no filter to go by."""
    if not matched_by or len(matched_by) >= LONGEST_CHOICE:
        return None
    if matched_by == EVERYONE:
        return SessionFilter()
    name, _, user_id = matched_by.partition(":")
    if name == "user_id" and user_id.isdecimal():
        return SessionFilter(user_id=int(user_id))
    try:
        return SessionFilter.from_query({"q": matched_by})
    except FilterError:
        return None
