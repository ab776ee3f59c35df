"""End other people's sessions: the only way staff do it (invariants 1, 4 and 13).

`freeze` fixes the set, `review` shows it, `confirm` ends exactly that, `receipt` says what was found
when reading back. `revoke` is all of it for the CLI and for code. The worker resumes what was cut short.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import and_, delete, func, insert, literal, or_, select, update

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.columns import AnyRow, clock, now
from app.people.models import Permission, Role, User
from app.sessions.isolation import refuse_uncommitted
from app.sessions.ledger import Principal
from app.sessions.models import (
    Cutoff,
    EndReason,
    Revocation,
    RevocationReason,
    RevocationTarget,
    UserSession,
)
from app.sessions.purge import purge
from app.sessions.receipt import Receipt, read_back, receipt
from app.sessions.search import SessionFilter, SessionRow, by_ids
from app.sessions.stores import budget
from app.sessions.system import SessionSystem, system
from app.sessions.timeouts import ACTIVE_WITHIN
from app.sessions.transaction import Transaction, live

BATCH = 5000
FIRST_BATCH = 500
VALID_FOR = timedelta(minutes=5)
MANY = 10
LONGEST_NOTE = 2000
_SHOWN = 200
_READ_BACK_FOR = timedelta(hours=1)
_ENOUGH_BUDGET = 0.4


class NothingToRevoke(Exception):
    """No session that may be ended is among the targets. The message says why."""


class NotPermitted(Exception):
    """The actor's role may not do this. The message says what and who may."""


class Stale(Exception):
    """The review is over five minutes old, another's, or confirmed already. The message says which."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be frozen: references, a user's sessions, those that match a filter, or everyone's."""

    references: tuple[str, ...] = ()
    user_id: int | None = None
    matching: SessionFilter | None = None
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen set: the id of its Revocation, and how many sessions it holds."""

    id: int
    size: int


@dataclass(frozen=True, slots=True)
class Review:
    """What a confirmation would do. `held_back` is one's own reference, `left_out` counts admins' sessions."""

    id: int
    created_at: datetime
    expires_at: datetime
    matched_by: str
    count: int
    users: int
    by_store: dict[str, int]
    active: int
    staff: int
    admins: int
    held_back: str | None
    left_out: int
    needs_count: bool
    needs_step_up: bool
    stale: bool
    confirmed: bool
    rows: list[SessionRow] = field(default_factory=list)


def freeze(targets: Targets, *, actor: Actor | Principal) -> Frozen:
    """Fix the set of sessions to end; it is valid for five minutes, for this person.

    Raises NothingToRevoke, NotPermitted, StoreUnavailable("database").
    """
    refuse_uncommitted("freeze")
    if targets.matching is not None and not targets.matching.narrows:
        targets = Targets(everyone=True)
    by = _permitted(actor, Permission.ADMINISTER if targets.everyone else Permission.REVOKE)
    own = actor.reference if isinstance(actor, Principal) else None
    may_end_admins = isinstance(actor, Actor) or actor.may(Permission.ADMINISTER)
    with system.ledger.transaction() as tx:
        revocation_id = _insert(tx, targets, by)
        chosen = _chosen(targets, revocation_id)
        held = chosen.where(UserSession.reference == own) if own else None
        held_back = own if held is not None and tx.connection.execute(held).first() else None
        if own is not None:
            chosen = chosen.where(UserSession.reference != own)
        left_out = 0
        if not may_end_admins:
            of_admins = chosen.where(User.role == Role.ADMIN).subquery()
            counted = tx.connection.execute(select(func.count()).select_from(of_admins))
            left_out = counted.scalar_one()
            chosen = chosen.where(User.role != Role.ADMIN)
        into = insert(RevocationTarget).from_select(["revocation_id", "row_id"], chosen)
        # SQLAlchemy forgets how many rows an INSERT made, on PostgreSQL, unless it is told not to.
        size = tx.connection.execute(into.execution_options(preserve_rowcount=True)).rowcount
        if size == 0:
            raise NothingToRevoke(_nothing(held_back, left_out))
        values = {"size": size, "held_back": held_back, "left_out": left_out}
        if targets.matching is not None:
            values["whole_store"] = _whole_store(tx, revocation_id, own)
        tx.connection.execute(
            update(Revocation).where(Revocation.id == revocation_id).values(values)
        )
        event = Event(Verb.REVOCATION_FROZEN, revocation_id=revocation_id, details={"size": size})
        tx.record(by, [event])
    return Frozen(revocation_id, size)


def review(revocation_id: int, *, actor: Principal) -> Review | None:
    """Return what the frozen set touches as it stands now; None if there is no such set of this person."""
    found = system.ledger.read(
        select(Revocation.__table__, clock().label("now")).where(
            Revocation.id == revocation_id, Revocation.actor_user_id == actor.user_id
        )
    )
    if not found:
        return None
    row = found[0]
    of_set = RevocationTarget.revocation_id == revocation_id
    joined = (
        select()
        .select_from(RevocationTarget)
        .join(UserSession, UserSession.id == RevocationTarget.row_id)
        .join(User, User.id == UserSession.user_id)
        .where(of_set)
    )
    by_role = _counted(joined, User.role)
    users = system.ledger.read(joined.add_columns(func.count(UserSession.user_id.distinct())))[0][0]
    seen_lately = UserSession.last_seen_at > now(-ACTIVE_WITHIN.total_seconds())
    active = system.ledger.read(joined.add_columns(func.count()).where(live(), seen_lately))[0][0]
    roles = {Role(role): count for role, count in by_role.items()}
    staff = sum(count for role, count in roles.items() if role.is_staff)
    grave = row.size > MANY or staff > 0 or row.whole_store is not None or row.everyone
    ids = system.ledger.read(
        select(RevocationTarget.row_id).where(of_set).order_by("row_id").limit(_SHOWN)
    )
    return Review(
        id=row.id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        matched_by=row.matched_by,
        count=row.size,
        users=users,
        by_store=_counted(joined, UserSession.store),
        active=active,
        staff=staff,
        admins=roles.get(Role.ADMIN, 0),
        held_back=row.held_back,
        left_out=row.left_out,
        needs_count=grave,
        needs_step_up=grave,
        stale=row.now >= row.expires_at or row.actor["reference"] != actor.reference,
        confirmed=row.confirmed_at is not None,
        rows=by_ids([target.row_id for target in ids]),
    )


def confirm(
    revocation_id: int, *, actor: Actor | Principal, reason: str, note: str = "", tell: bool = False
) -> Receipt:
    """End exactly the frozen set, in batches, purge and read back; what does not fit is the worker's.

    Raises Stale, NotPermitted, ValueError for a reason that is no code.
    """
    refuse_uncommitted("revoke")
    by = _permitted(actor, Permission.REVOKE)
    code = RevocationReason(reason)
    with system.ledger.transaction() as tx:
        row = tx.connection.execute(
            select(Revocation.__table__).where(Revocation.id == revocation_id).with_for_update()
        ).first()
        _check_fresh(tx, row, by)
        assert row is not None
        values = {"reason": code.value, "note": note[:LONGEST_NOTE], "tell_user": tell}
        tx.connection.execute(
            update(Revocation)
            .where(Revocation.id == revocation_id)
            .values(**values, confirmed_at=tx.now())
        )
        if row.everyone:
            _cut_off(tx, row)
        event = Event(
            Verb.REVOCATION_CONFIRMED, revocation_id=revocation_id, reason=code.value, note=note
        )
        tx.record(by, [event])
    work(system, revocation_id)
    done = receipt(system, revocation_id)
    assert done is not None
    return done


def revoke(
    targets: Sequence[str] | Frozen,
    *,
    actor: Actor | Principal,
    reason: str,
    note: str = "",
    tell: bool = False,
) -> Receipt:
    """End sessions by reference, or a frozen set, and return the receipt.

    Raises NothingToRevoke for a reference that does not exist, NotPermitted, Stale, ValueError.
    """
    RevocationReason(reason)
    if not isinstance(targets, Frozen):
        if isinstance(targets, str):
            raise TypeError("give references as a list, not as one string")
        targets = freeze(Targets(references=tuple(targets)), actor=actor)
    return confirm(targets.id, actor=actor, reason=reason, note=note, tell=tell)


def retry_purge(revocation_id: int) -> Receipt | None:
    """Go on with a revocation where it stands: batches, purges, and a new look into the stores."""
    _go_on(system, revocation_id)
    return receipt(system, revocation_id)


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
        _go_on(on, row.id)
    return len(rows)


def _go_on(on: SessionSystem, revocation_id: int) -> None:
    """Purge what waits for a store, then do what is left of the set."""
    waiting = (
        select(UserSession.id, UserSession.store, UserSession.data_key)
        .join(RevocationTarget, RevocationTarget.row_id == UserSession.id)
        .where(
            RevocationTarget.revocation_id == revocation_id,
            UserSession.ended_at.is_not(None),
            UserSession.purged_at.is_(None),
        )
    )
    purge(on, on.ledger.read(waiting.order_by(UserSession.id).limit(BATCH)))
    work(on, revocation_id)


def work(on: SessionSystem, revocation_id: int) -> None:
    """End what is left of a confirmed set, batch by batch, as far as the request's deadline allows."""
    size = BATCH if budget.remaining() is None else FIRST_BATCH
    while ended := _batch(on, revocation_id, size):
        purge(on, ended.rows)
        left = budget.remaining()
        if ended.last or (left is not None and left < _ENOUGH_BUDGET):
            break
    read_back(on, revocation_id)


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: list[AnyRow]
    last: bool


def _batch(on: SessionSystem, revocation_id: int, size: int) -> _Batch | None:
    """End one batch in one transaction; None if the set is done already."""
    with on.ledger.transaction() as tx:
        row = tx.connection.execute(
            select(Revocation.__table__).where(Revocation.id == revocation_id).with_for_update()
        ).first()
        if row is None or row.confirmed_at is None or row.finished_at is not None:
            return None
        left = select(RevocationTarget.row_id).where(
            RevocationTarget.revocation_id == revocation_id, RevocationTarget.outcome.is_(None)
        )
        ids = [
            target.row_id for target in tx.connection.execute(left.order_by("row_id").limit(size))
        ]
        targets = tx.targets(ids)
        tx.lock_users([target.user_id for target in targets])
        by = Actor(**row.actor)
        expired = tx.expire(ids, Actor.system())
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
        done = {target.id for target in ended}
        _set_outcome(tx, revocation_id, [i for i in ids if i in done], "ended")
        _set_outcome(tx, revocation_id, [i for i in ids if i not in done], "already_ended")
        last = len(ids) < size
        if last:
            tx.connection.execute(
                update(Revocation)
                .where(Revocation.id == revocation_id)
                .values(finished_at=tx.now())
            )
            tx.record(by, [Event(Verb.REVOCATION_FINISHED, revocation_id=revocation_id)])
    return _Batch(expired + ended, last)


def _counted(joined: Any, column: Any) -> dict[str, int]:
    """Return how many of a set fall on each value of a column."""
    rows = system.ledger.read(joined.add_columns(column, func.count()).group_by(column))
    return {str(row[0]): int(row[1]) for row in rows}


def _set_outcome(tx: Transaction, revocation_id: int, ids: list[int], outcome: str) -> None:
    if ids:
        tx.connection.execute(
            update(RevocationTarget)
            .where(
                RevocationTarget.revocation_id == revocation_id, RevocationTarget.row_id.in_(ids)
            )
            .values(outcome=outcome)
        )


def _insert(tx: Transaction, targets: Targets, by: Actor) -> int:
    values = {
        "created_at": tx.now(),
        "expires_at": tx.now() + VALID_FOR,
        "actor_user_id": by.user_id,
        "actor_name": by.name,
        "actor": {slot: getattr(by, slot) for slot in Actor.__slots__},
        "matched_by": _matched_by(targets)[:500],
        "whole_store": None,
        "everyone": targets.everyone,
        "size": 0,
        "left_out": 0,
        "tell_user": False,
    }
    result = tx.connection.execute(insert(Revocation).values(values))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _chosen(targets: Targets, revocation_id: int) -> Any:
    query = (
        select(literal(revocation_id), UserSession.id)
        .select_from(UserSession)
        .join(User, User.id == UserSession.user_id)
    )
    if targets.references:
        return query.where(UserSession.reference.in_([r.casefold() for r in targets.references]))
    if targets.user_id is not None:
        return query.where(UserSession.user_id == targets.user_id, live())
    if targets.matching is not None:
        return query.where(targets.matching.clause(), live())
    if targets.everyone:
        return query.where(live())
    raise NothingToRevoke(_("Choose at least one session."))


def _whole_store(tx: Transaction, revocation_id: int, own: str | None) -> str | None:
    """Return the store of which the set holds every live session but one's own, if there is one."""
    alive = (
        select(UserSession.store, func.count().label("alive"))
        .where(live(), UserSession.reference != (own or ""))
        .group_by(UserSession.store)
        .subquery()
    )
    held = (
        select(UserSession.store, func.count().label("held"))
        .join(RevocationTarget, RevocationTarget.row_id == UserSession.id)
        .where(RevocationTarget.revocation_id == revocation_id)
        .group_by(UserSession.store)
        .subquery()
    )
    whole = (
        select(held.c.store)
        .join(alive, alive.c.store == held.c.store)
        .where(held.c.held >= alive.c.alive, held.c.held > 1)
    )
    found = tx.connection.execute(whole.order_by(held.c.store).limit(1)).scalar_one_or_none()
    return None if found is None else str(found)


def _matched_by(targets: Targets) -> str:
    if targets.references:
        return ""
    if targets.user_id is not None:
        return f"user_id:{targets.user_id}"
    if targets.matching is not None:
        pairs = targets.matching.to_query().items()
        return " ".join(f"{name}:{value}" for name, value in pairs) or "state:live"
    return "everyone"


def _nothing(held_back: str | None, left_out: int) -> str:
    if left_out:
        return str(_("Only an administrator may end the sessions of administrators."))
    if held_back:
        return str(_("This is your own session. To end it, sign out."))
    return str(_("None of these sessions exists, or all have ended."))


def _check_fresh(tx: Transaction, row: AnyRow | None, by: Actor) -> None:
    if row is None or row.actor_user_id != by.user_id:
        raise Stale(_("This review is not yours. Choose the sessions again."))
    if row.actor["reference"] != by.reference:
        raise Stale(_("This review began in another session of yours. Choose the sessions again."))
    if row.confirmed_at is not None:
        raise Stale(_("This revocation is confirmed already."))
    if tx.now() >= row.expires_at:
        raise Stale(_("This review is over five minutes old. Choose the sessions again."))


def _cut_off(tx: Transaction, row: AnyRow) -> None:
    """Deny everyone at once, but for the session that is held back; the rows follow in batches."""
    spared = None
    if row.held_back is not None:
        spared = tx.connection.execute(
            select(UserSession.id).where(UserSession.reference == row.held_back)
        ).scalar_one_or_none()
    tx.connection.execute(delete(Cutoff))
    tx.connection.execute(
        insert(Cutoff).values(id=1, at=row.created_at, spared_id=spared, revocation_id=row.id)
    )


def _permitted(actor: Actor | Principal, permission: Permission) -> Actor:
    if isinstance(actor, Actor):
        return actor
    if not actor.may(permission):
        raise NotPermitted(_("Your role may not end other people's sessions like this."))
    return actor.actor()
