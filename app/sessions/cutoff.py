"""Set the cutoff, which denies everyone at once (invariant 1), when `revocation` confirms everyone's set.

`transaction` says whom it leaves alone.
"""

from contextlib import suppress

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.columns import AnyRow
from app.sessions.models import Cutoff, UserSession
from app.sessions.transaction import BEFORE_ALL, Transaction


def cut_off(tx: Transaction, row: AnyRow) -> None:
    """Deny everyone at once, but for the session that is held back; the rows follow in batches.

    Whom the cutoff before this one denies stays denied: its batches may not have come to them yet.
    """
    spared = None
    if row.held_back is not None:
        spared = _spared(tx, UserSession.reference == row.held_back)
    before = _locked(tx)
    earlier, later = sorted(
        [
            (row.created_at, spared, row.id),
            (before.at, _spared(tx, UserSession.id == before.spared_id), before.revocation_id),
        ],
        key=lambda cut: cut[0],
    )
    at, spared, by = later
    if spared is not None and spared.started_at <= earlier[0] and spared != earlier[1]:
        spared = None
    values = {"at": at, "spared_id": None if spared is None else spared.id, "revocation_id": by}
    tx.connection.execute(update(Cutoff).values(values))


def _locked(tx: Transaction) -> AnyRow:
    """Lock the one row of the cutoff and return it; the first time, make it.

    The row is never replaced: PostgreSQL shows who waited for it no other that took its place.
    """
    the_one = select(Cutoff.__table__).with_for_update()
    if tx.connection.execute(the_one).first() is None:
        # Another may make it at the same time: then this one waits, and locks that.
        with suppress(IntegrityError), tx.connection.begin_nested():
            tx.connection.execute(insert(Cutoff).values(id=1, at=BEFORE_ALL))
    return tx.connection.execute(the_one).one()


def _spared(tx: Transaction, which: ColumnElement[bool]) -> AnyRow | None:
    return tx.connection.execute(
        select(UserSession.id, UserSession.started_at).where(which)
    ).one_or_none()
