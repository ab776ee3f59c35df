"""How many sessions each store has now, and the samples of it from which pages draw the past.

`upkeep` takes a sample in its pass.
"""

from datetime import timedelta

from sqlalchemy import case, delete, func, insert, select

from app.columns import now
from app.sessions.models import SessionSample, UserSession
from app.sessions.system import SessionSystem
from app.sessions.timeouts import ACTIVE_WITHIN
from app.sessions.transaction import live

SAMPLE_EVERY = timedelta(minutes=5)
_EARLY = timedelta(seconds=15)
"""A pass that comes this little before its time samples too: the next one would come much later."""

_ACTIVE = UserSession.last_seen_at > now(-ACTIVE_WITHIN.total_seconds())
_BY_STORE = (
    select(
        UserSession.store,
        func.count().label("live"),
        func.coalesce(func.sum(case((_ACTIVE, 1), else_=0)), 0).label("active"),
    )
    .where(live())
    .group_by(UserSession.store)
)
"""Live sessions by store, and how many of them were seen lately. A store without any has no row."""

_RECENT = select(SessionSample.at).where(
    SessionSample.at > now(-(SAMPLE_EVERY - _EARLY).total_seconds()), SessionSample.at <= now()
)


def sample(system: SessionSystem) -> bool:
    """Note how many sessions are live now, unless that was done within SAMPLE_EVERY; say whether it was.

    All rows of a sample have one time, and every configured store has a row, with zero too.
    """
    if system.ledger.read(_RECENT.limit(1)):
        return False
    counted = dict.fromkeys(system.stores.names, (0, 0))
    counted |= {r.store: (r.live, int(r.active)) for r in system.ledger.read(_BY_STORE)}
    with system.ledger.transaction() as tx:
        rows = [
            {"at": tx.now(), "store": name, "live": live, "active": active}
            for name, (live, active) in counted.items()
        ]
        tx.connection.execute(insert(SessionSample), rows)
    return True


def forget_samples(system: SessionSystem) -> None:
    """Delete the samples that are older than ended sessions are kept."""
    old = SessionSample.at <= now(-system.keep.sessions.total_seconds())
    if system.ledger.read(select(SessionSample.at).where(old).limit(1)):
        with system.ledger.transaction() as tx:
            tx.connection.execute(delete(SessionSample).where(old))
