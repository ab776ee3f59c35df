"""End other people's sessions: the only way staff do it (invariants 1, 4 and 13).

`confirm` ends exactly the set that `freeze` has fixed, `receipt` says what was found when reading back.
`revoke` is all of it for the CLI and for code. The worker resumes what was cut short.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from flask import current_app
from sqlalchemy import ColumnElement, and_, func, or_, select, update

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.columns import AnyRow, now
from app.people.models import Permission
from app.sessions import frozen
from app.sessions.cutoff import cut_off
from app.sessions.freeze import Frozen, Targets, freeze, permitted
from app.sessions.isolation import refuse_uncommitted
from app.sessions.ledger import Principal
from app.sessions.models import (
    EndReason,
    PendingPurge,
    Revocation,
    RevocationReason,
    UserSession,
)
from app.sessions.purge import purge
from app.sessions.receipt import Receipt, read_back, receipt
from app.sessions.store import StoreUnavailable
from app.sessions.stores import budget
from app.sessions.system import SessionSystem, system, system_of
from app.sessions.transaction import Transaction
from app.texts import gettext as _

log = logging.getLogger(__name__)

BATCH = 2000
"""Sessions in one transaction: a sign-in of one of these users waits until it commits."""
FIRST_BATCH = 500
LONGEST_NOTE = 2000
_READ_BACK_FOR = timedelta(hours=1)
_ENOUGH_BUDGET = 0.2
"""Seconds of a request's deadline with which a further batch is begun."""
_FOR_THE_ANSWER = 0.2
"""Seconds of it that are kept for what follows."""
_IS_DUE = or_(UserSession.idle_expires_at <= now(), UserSession.absolute_expires_at <= now()).label(
    "due"
)


class Stale(Exception):
    """The review is over five minutes old, another's, or confirmed already. The message says which."""


def confirm(
    revocation_id: int,
    *,
    actor: Actor | Principal,
    reason: str,
    note: str = "",
    tell: bool = False,
    new_password: bool = False,
) -> None:
    """End exactly the frozen set, in batches, purge and read back; what does not fit is the worker's.

    With `new_password`, one is required of everybody in the set but the actor.
    Raises Stale, NotPermitted, ValueError for a reason that is no code.
    """
    refuse_uncommitted("revoke")
    by = permitted(actor, Permission.ADMINISTER if new_password else Permission.REVOKE)
    code = RevocationReason(reason)
    with system.ledger.transaction() as tx:
        row = tx.connection.execute(
            select(Revocation.__table__).where(Revocation.id == revocation_id).with_for_update()
        ).first()
        _check_fresh(tx, row, by)
        assert row is not None
        values: dict[str, object] = {"reason": code.value, "note": note[:LONGEST_NOTE]}
        values |= {"tell_user": tell, "new_password": new_password, "draft": None}
        tx.connection.execute(
            update(Revocation)
            .where(Revocation.id == revocation_id)
            .values(**values, confirmed_at=tx.now())
        )
        if row.everyone:
            cut_off(tx, row)
        event = Event(
            Verb.REVOCATION_CONFIRMED, revocation_id=revocation_id, reason=code.value, note=note
        )
        tx.record(by, [event])
    work(system_of(current_app), revocation_id)


def revoke(
    targets: Sequence[str] | Frozen,
    *,
    actor: Actor | Principal,
    reason: str,
    note: str = "",
    tell: bool = False,
    new_password: bool = False,
) -> Receipt:
    """End sessions by reference, or a frozen set, and return the receipt.

    Raises NothingToRevoke for a reference that does not exist, NotPermitted, Stale, ValueError, and
    StoreUnavailable("database"), which may come after the confirmation: what was confirmed goes on.
    """
    RevocationReason(reason)
    if not isinstance(targets, Frozen):
        if isinstance(targets, str):
            raise TypeError("give references as a list, not as one string")
        targets = freeze(Targets(references=tuple(targets)), actor=actor)
    confirm(targets.id, actor=actor, reason=reason, note=note, tell=tell, new_password=new_password)
    done = receipt(system_of(current_app), targets.id)
    assert done is not None
    return done


def retry_purge(revocation_id: int, store: str | None = None) -> Receipt | None:
    """Go on with a revocation where it stands: batches, purges, and a new look into the stores.

    With a `store`, only what that one still holds is tried again, and looked for.
    """
    on = system_of(current_app)
    if store is None:
        _go_on(on, revocation_id)
    else:
        with _or_later(revocation_id):
            _purge_waiting(on, revocation_id, UserSession.store == store)
            read_back(on, revocation_id)
    return receipt(on, revocation_id)


def resume(on: SessionSystem) -> int:
    """Go on with every confirmed revocation that is not done, and return how many. For the worker.

    Done means ended, and read back with nothing found; a store that keeps what it was told to delete
    is asked for an hour.
    """
    lately = Revocation.confirmed_at > now(-_READ_BACK_FOR.total_seconds())
    open_ones = select(Revocation.id).where(
        Revocation.confirmed_at.is_not(None),
        or_(
            Revocation.finished_at.is_(None),
            Revocation.read_back_at.is_(None),
            and_(lately, Revocation.present > 0),
        ),
    )
    rows = on.ledger.read(open_ones.order_by(Revocation.id))
    for row in rows:
        # One that waits for a lock keeps none of the others waiting for long.
        with _or_later(row.id):
            _go_on(on, row.id)
    return len(rows)


def _go_on(on: SessionSystem, revocation_id: int) -> None:
    """Purge what waits for a store, then do what is left of the set."""
    _purge_waiting(on, revocation_id)
    work(on, revocation_id)


def _purge_waiting(on: SessionSystem, revocation_id: int, *where: ColumnElement[bool]) -> None:
    of = on.ledger.read(select(Revocation.__table__).where(Revocation.id == revocation_id))[0]
    pending = frozen.ended(of, UserSession.id, UserSession.store, UserSession.data_key)
    pending = pending.join(PendingPurge, PendingPurge.row_id == UserSession.id).where(*where)
    purge(on, on.ledger.read(pending.order_by(UserSession.id).limit(BATCH)))


def work(on: SessionSystem, revocation_id: int) -> None:
    """End what is left of a confirmed set, batch by batch, as far as the request's deadline allows.

    Without a deadline, each batch but the first is purged while the next one is ended.
    """
    if budget.remaining() is None:
        _end_all(on, revocation_id)
        read_back(on, revocation_id)
        return
    with _or_later(revocation_id):
        if _end_in_time(on, revocation_id):
            read_back(on, revocation_id)


@contextmanager
def _or_later(revocation_id: int) -> Iterator[None]:
    """Leave what a lock or a silent database keeps from being done to the worker: it is confirmed."""
    try:
        yield
    except StoreUnavailable as error:
        detail = (revocation_id, error.store, error.detail)
        log.warning("revocation_waits revocation=%d store=%s detail=%s", *detail)


def _end_in_time(on: SessionSystem, revocation_id: int) -> bool:
    """Say whether nothing is left to end, or not by us."""
    left = budget.remaining() or 0.0
    with budget.within(left - min(_FOR_THE_ANSWER, left / 4)):
        while ended := _batch(on, revocation_id, FIRST_BATCH):
            purge(on, ended.rows)
            if ended.last:
                break
            if (budget.remaining() or 0.0) < _ENOUGH_BUDGET:
                return False
    return True


def _end_all(on: SessionSystem, revocation_id: int) -> None:
    first = True
    with ThreadPoolExecutor(1, "purge") as beside:
        purging: list[Future[object]] = []
        while ended := _batch(on, revocation_id, BATCH):
            _wait(purging)
            if first:
                purge(on, ended.rows)
            else:
                purging = [beside.submit(purge, on, ended.rows)]
            first = False
            if ended.last:
                break
        _wait(purging)


def _wait(purging: list[Future[object]]) -> None:
    for each in purging:
        each.result()


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: list[AnyRow]
    last: bool


def _batch(on: SessionSystem, revocation_id: int, size: int) -> _Batch | None:
    """End the batch that follows what was `reached`; None if the set is done, or it is another's turn."""
    with on.ledger.transaction() as tx:
        row = tx.connection.execute(
            select(Revocation.__table__).where(Revocation.id == revocation_id).with_for_update()
        ).first()
        if row is None or row.confirmed_at is None or row.finished_at is not None:
            return None
        if row.everyone and _is_late(tx, row):
            return None
        ids = list(tx.connection.execute(frozen.next_waiting(row, row.reached, size)).scalars())
        if row.everyone and len(ids) < size:
            # Also those whose sign-in had begun before and was committed behind the batches.
            late = tx.connection.execute(frozen.next_waiting(row, 0, size)).scalars()
            ids = sorted({*ids, *late})
        of_batch = select(UserSession.id, UserSession.user_id, _IS_DUE)
        chosen = tx.connection.execute(of_batch.where(tx.among(UserSession.id, ids))).all()
        tx.lock_users([target.user_id for target in chosen])
        by = Actor(**row.actor)
        if row.new_password:
            others = {target.user_id for target in chosen} - {by.user_id}
            tx.require_new_passwords(others, by, revocation_id)
        expired = tx.expire([target.id for target in chosen if target.due], Actor.system())
        ended = tx.end(
            ids,
            EndReason.REVOKED,
            by,
            Verb.REVOKED,
            revocation_id=revocation_id,
            reason_code=row.reason,
            note=row.note,
            tell_user=row.tell_user,
        )
        last = len(ids) < size
        if last:
            _finish(tx, row, by)
        else:
            reached = update(Revocation).where(Revocation.id == revocation_id)
            tx.connection.execute(reached.values(reached=ids[-1]))
    return _Batch(expired + ended, last)


def _is_late(tx: Transaction, row: AnyRow) -> bool:
    """Say whether everyone was revoked before, and that is not done: what it began, it ends."""
    earlier = select(Revocation.id).where(
        Revocation.everyone,
        Revocation.confirmed_at.is_not(None),
        Revocation.finished_at.is_(None),
        Revocation.id < row.id,
    )
    return tx.connection.execute(earlier.limit(1)).first() is not None


def _finish(tx: Transaction, row: AnyRow, by: Actor) -> None:
    values: dict[str, object] = {"finished_at": tx.now()}
    if row.everyone:
        ended = tx.connection.execute(frozen.ended(row, func.count())).scalar_one()
        values["already_ended"] = max(0, row.size - ended)
    tx.connection.execute(update(Revocation).where(Revocation.id == row.id).values(values))
    tx.record(by, [Event(Verb.REVOCATION_FINISHED, revocation_id=row.id)])


def _check_fresh(tx: Transaction, row: AnyRow | None, by: Actor) -> None:
    if row is None or row.actor_user_id != by.user_id:
        raise Stale(_("This review is not yours. Choose the sessions again."))
    if row.actor["reference"] != by.reference:
        raise Stale(_("This review began in another session of yours. Choose the sessions again."))
    if row.confirmed_at is not None:
        raise Stale(_("This revocation is confirmed already."))
    if tx.now() >= row.expires_at:
        raise Stale(_("This review is over five minutes old. Choose the sessions again."))
