"""Fix the set of sessions that is to end, and show what ending it would touch (invariant 13).

Nothing ends here: `revocation` ends exactly what `freeze` has fixed. The staff pages call both.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, case, func, insert, literal, select, update

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.columns import Id, clock, now
from app.people.models import Permission, Role, User
from app.sessions import frozen
from app.sessions.filter import SessionFilter
from app.sessions.isolation import refuse_uncommitted
from app.sessions.ledger import Principal
from app.sessions.models import Revocation, RevocationTarget, UserSession
from app.sessions.rows import SessionRow, by_ids
from app.sessions.search import MOST_OF_USERS
from app.sessions.system import system
from app.sessions.timeouts import ACTIVE_WITHIN
from app.sessions.transaction import Transaction, live
from app.texts import gettext as _

VALID_FOR = timedelta(minutes=5)
MANY = 10
LONGEST_CHOICE = 500
EVERYONE = "everyone"
_SHOWN = 200


class NothingToRevoke(Exception):
    """No session that may be ended is among the targets. The message says why."""


class NotPermitted(Exception):
    """The actor's role may not do this. The message says what and who may."""


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
    """What a confirmation would do. `held_back` is one's own reference, `left_out` counts admins' sessions.

    `users` is None where there are over MOST_OF_USERS sessions, as in the list. `ended` counts what has
    ended since the freeze, `draft` is what was typed before the password was asked for.
    """

    id: int
    created_at: datetime
    expires_at: datetime
    matched_by: str
    count: int
    users: int | None
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
    ended: int = 0
    draft: dict[str, Any] | None = None
    rows: list[SessionRow] = field(default_factory=list)


def freeze(targets: Targets, *, actor: Actor | Principal) -> Frozen:
    """Fix the set of sessions to end; it is valid for five minutes, for this person.

    Raises NothingToRevoke, NotPermitted, StoreUnavailable("database").
    """
    refuse_uncommitted("freeze")
    if targets.matching is not None and not targets.matching.narrows:
        targets = Targets(everyone=True)
    by = permitted(actor, Permission.ADMINISTER if targets.everyone else Permission.REVOKE)
    own = actor.reference if isinstance(actor, Principal) else None
    may_end_admins = isinstance(actor, Actor) or actor.may(Permission.ADMINISTER)
    with system.ledger.transaction() as tx:
        revocation_id = _insert(tx, targets, by)
        if targets.user_id is not None:
            # A sign-in that holds the lock has begun: its row is awaited, not missed.
            tx.lock_users([targets.user_id])
        chosen = _chosen(targets, tx.now())
        held = chosen.where(UserSession.reference == own) if own else None
        held_back = own if held is not None and tx.connection.execute(held).first() else None
        if own is not None:
            chosen = chosen.where(UserSession.reference != own)
        left_out = 0
        if not may_end_admins:
            left_out = _count(tx, chosen.where(User.role == Role.ADMIN))
            chosen = chosen.where(User.role != Role.ADMIN)
        size = _count(tx, chosen) if targets.everyone else _fix(tx, revocation_id, chosen)
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


def review(revocation_id: int, *, actor: Actor | Principal) -> Review | None:
    """Return what the frozen set touches as it stands now; None if there is no such set of this actor."""
    found = system.ledger.read(
        select(Revocation.__table__, clock().label("now")).where(
            Revocation.id == revocation_id, Revocation.actor_user_id == actor.user_id
        )
    )
    if not found:
        return None
    row = found[0]
    by_store = _counted(frozen.chosen(row), UserSession.store)
    few = sum(by_store.values()) <= MOST_OF_USERS
    whose = frozen.chosen(row, func.count(UserSession.user_id.distinct()))
    seen_lately = UserSession.last_seen_at > now(-ACTIVE_WITHIN.total_seconds())
    lately = func.coalesce(func.sum(case((seen_lately, 1), else_=0)), 0)
    left, active = system.ledger.read(frozen.chosen(row, func.count(), lately).where(live()))[0]
    of_staff = frozen.chosen(row).join(User, User.id == UserSession.user_id)
    by_role = _counted(of_staff.where(User.role != Role.MEMBER), User.role)
    staff = sum(by_role.values())
    grave = row.size > MANY or staff > 0 or row.whole_store is not None or row.everyone
    first = UserSession.last_seen_at.desc() if row.everyone else RevocationTarget.row_id.asc()
    ids = system.ledger.read(frozen.chosen(row, UserSession.id).order_by(first).limit(_SHOWN))
    return Review(
        id=row.id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        matched_by=row.matched_by,
        count=row.size,
        users=system.ledger.read(whose)[0][0] if few else None,
        by_store=by_store,
        active=int(active),
        staff=staff,
        admins=by_role.get(Role.ADMIN, 0),
        held_back=row.held_back,
        left_out=row.left_out,
        needs_count=grave,
        needs_step_up=grave,
        stale=row.now >= row.expires_at or row.actor["reference"] != actor.reference,
        confirmed=row.confirmed_at is not None,
        ended=max(0, row.size - left),
        draft=row.draft,
        rows=by_ids([target.id for target in ids]),
    )


def keep_draft(revocation_id: int, draft: dict[str, Any], *, actor: Actor | Principal) -> None:
    """Keep what was typed on a review while the password is asked for; `confirm` forgets it."""
    with system.ledger.transaction() as tx:
        tx.connection.execute(
            update(Revocation)
            .where(
                Revocation.id == revocation_id,
                Revocation.actor_user_id == actor.user_id,
                Revocation.confirmed_at.is_(None),
            )
            .values(draft=draft)
        )


def _counted(some: Select[Any], column: Any) -> dict[str, int]:
    """Return how many of a set fall on each value of a column."""
    rows = system.ledger.read(some.add_columns(column, func.count()).group_by(column))
    return {str(row[0]): int(row[1]) for row in rows}


def _insert(tx: Transaction, targets: Targets, by: Actor) -> int:
    values = {
        "created_at": tx.now(),
        "expires_at": tx.now() + VALID_FOR,
        "actor_user_id": by.user_id,
        "actor_name": by.name,
        "actor": {slot: getattr(by, slot) for slot in Actor.__slots__},
        "matched_by": _matched_by(targets)[:LONGEST_CHOICE],
        "whole_store": None,
        "everyone": targets.everyone,
        "size": 0,
        "left_out": 0,
        "tell_user": False,
    }
    result = tx.connection.execute(insert(Revocation).values(values))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _chosen(targets: Targets, at: datetime) -> Select[Any]:
    query = select(UserSession.id).join(User, User.id == UserSession.user_id)
    if targets.references:
        return query.where(UserSession.reference.in_([r.casefold() for r in targets.references]))
    if targets.user_id is not None:
        return query.where(UserSession.user_id == targets.user_id, live())
    if targets.matching is not None:
        return query.where(targets.matching.clause(), live())
    if targets.everyone:
        return select(UserSession.id).where(live(), UserSession.started_at <= at)
    raise NothingToRevoke(_("Choose at least one session."))


def _count(tx: Transaction, some: Select[Any]) -> int:
    counted = some.with_only_columns(func.count(), maintain_column_froms=True)
    return int(tx.connection.execute(counted).scalar_one())


def _fix(tx: Transaction, revocation_id: int, some: Select[Any]) -> int:
    """Write a set's targets and return how many they are."""
    columns = ["row_id", "revocation_id"]
    into = insert(RevocationTarget).from_select(
        columns, some.add_columns(literal(revocation_id, Id)).order_by(UserSession.id)
    )
    # SQLAlchemy forgets how many rows an INSERT made, on PostgreSQL, unless it is told not to.
    return tx.connection.execute(into.execution_options(preserve_rowcount=True)).rowcount


def _whole_store(tx: Transaction, revocation_id: int, own: str | None) -> str | None:
    """Return the store of which the set holds every live session but one's own, if there is one."""
    of_set = RevocationTarget.revocation_id == revocation_id
    held = (
        select(UserSession.store)
        .join(RevocationTarget, RevocationTarget.row_id == UserSession.id)
        .where(of_set)
        .group_by(UserSession.store)
        .having(func.count() > 1)
        .order_by(UserSession.store)
    )
    targets = select(RevocationTarget.row_id).where(of_set)
    for store in tx.connection.execute(held).scalars():
        others = select(UserSession.id).where(
            live(),
            UserSession.store == store,
            UserSession.reference != (own or ""),
            UserSession.id.not_in(targets),
        )
        if tx.connection.execute(others.limit(1)).first() is None:
            return str(store)
    return None


def _matched_by(targets: Targets) -> str:
    if targets.references:
        return ""
    if targets.user_id is not None:
        return f"user_id:{targets.user_id}"
    if targets.matching is not None:
        text = targets.matching.to_text() or "state:live"
        # A name that was searched for, then: `later` must not take it for all there are.
        return f'"{text}"' if text == EVERYONE else text
    return EVERYONE


def _nothing(held_back: str | None, left_out: int) -> str:
    if left_out:
        return _("Only an administrator may end the sessions of administrators.")
    if held_back:
        return _("This is your own session. To end it, sign out.")
    return _("None of these sessions exists, or all have ended.")


def permitted(actor: Actor | Principal, permission: Permission) -> Actor:
    if isinstance(actor, Actor):
        return actor
    if not actor.may(permission):
        raise NotPermitted(_("Your role may not end other people's sessions like this."))
    return actor.actor()
