"""Which sessions a frozen set holds, as queries: `freeze`, `revocation` and `receipt` ask with them.

A set has its targets as rows, but for everyone's. Who was live at its `created_at` is told by the ledger
itself: what began before and has not ended since. So freezing everyone takes no longer than counting.
Each function takes the set's row of `revocations`, and the columns to select.
"""

from typing import Any

from sqlalchemy import Select, select

from app.columns import AnyRow
from app.sessions.models import RevocationTarget, UserSession
from app.sessions.transaction import live


def chosen(of: AnyRow, *columns: Any) -> Select[Any]:
    """Return what was frozen; of everyone's, what of it is still live."""
    if of.everyone:
        return waiting(of, *columns).where(live())
    return (
        select(*columns)
        .select_from(RevocationTarget)
        .join(UserSession, UserSession.id == RevocationTarget.row_id)
        .where(RevocationTarget.revocation_id == of.id)
    )


def waiting(of: AnyRow, *columns: Any) -> Select[Any]:
    """Return what of everyone's no batch has dealt with yet."""
    return (
        select(*columns)
        .select_from(UserSession)
        .where(
            UserSession.ended_at.is_(None),
            UserSession.started_at <= of.created_at,
            UserSession.reference != (of.held_back or ""),
        )
    )


def next_waiting(of: AnyRow, after: int, size: int) -> Select[Any]:
    """Return the ids of the next `size` after an id, in order; of targets also what ended meanwhile."""
    key: Any = UserSession.id if of.everyone else RevocationTarget.row_id
    some = waiting(of, key) if of.everyone else _targets(of)
    return some.where(key > after).order_by(key).limit(size)


def next_ended(of: AnyRow, after: int, size: int) -> Select[Any]:
    """Return the same of what has ended: for targets the two are one once all batches have run."""
    if not of.everyone:
        return next_waiting(of, after, size)
    return (
        ended(of, UserSession.id).where(UserSession.id > after).order_by(UserSession.id).limit(size)
    )


def _targets(of: AnyRow) -> Select[Any]:
    """Return the targets' ids without a look at the ledger, so that a batch costs what it holds."""
    return select(RevocationTarget.row_id).where(RevocationTarget.revocation_id == of.id)


def ended(of: AnyRow, *columns: Any) -> Select[Any]:
    """Return what has ended; of everyone's, what this revocation has ended."""
    if not of.everyone:
        return chosen(of, *columns).where(UserSession.ended_at.is_not(None))
    return select(*columns).select_from(UserSession).where(UserSession.revocation_id == of.id)
