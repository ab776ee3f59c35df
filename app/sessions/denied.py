"""End whom the cutoff denies and no batch has found: a sign-in that was on its way when everyone was revoked.

It began before the freeze and appeared after the last batch. Nobody was ever let in by it; the worker
ends it with the others, so that the record says what happened.
"""

from sqlalchemy import select

from app.audit.models import Verb
from app.audit.trail import Actor
from app.sessions.models import Cutoff, EndReason, Revocation, UserSession
from app.sessions.purge import purge
from app.sessions.stores.engines import PLANNED_ANEW
from app.sessions.system import SessionSystem

BATCH = 1000

_CUTOFF = (
    select(Revocation.__table__, Cutoff.at, Cutoff.spared_id)
    .join(Cutoff, Cutoff.revocation_id == Revocation.id)
    .where(Revocation.finished_at.is_not(None))
)


def end_denied(system: SessionSystem) -> int:
    """End what the cutoff denies once its revocation is done, as part of that one, and return how many."""
    ended = 0
    for of in system.ledger.read(_CUTOFF):
        # With the times as they are, so that the index of the oldest is used: there is hardly ever one.
        waiting = (
            select(UserSession.id, UserSession.user_id)
            .where(
                UserSession.ended_at.is_(None),
                UserSession.started_at <= of.at,
                UserSession.id != (of.spared_id or 0),
            )
            .order_by(UserSession.started_at)
            .limit(BATCH)
            .execution_options(**PLANNED_ANEW)
        )
        by = Actor(**of.actor)
        while batch := system.ledger.read(waiting):
            with system.ledger.transaction() as tx:
                users = {row.user_id for row in batch}
                tx.lock_users(users)
                if of.new_password:
                    tx.require_new_passwords(users - {by.user_id}, by, of.id)
                rows = tx.end(
                    [row.id for row in batch],
                    EndReason.REVOKED,
                    by,
                    Verb.REVOKED,
                    revocation_id=of.id,
                    reason_code=of.reason,
                    note=of.note,
                    tell_user=of.tell_user,
                )
            purge(system, rows)
            ended += len(rows)
    return ended
