"""Sign people in and out, and ask for the password again. The views and tests call it.

A sign-in makes a session of its own: new id, new data, a row in the ledger, under the user's lock.
"""

from dataclasses import dataclass
from time import monotonic

from flask import g
from sqlalchemy import select

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.auth.throttle import network_of, throttle
from app.columns import AnyRow, clock, now
from app.people.models import User
from app.people.names import name_key
from app.people.passwords import verify_password
from app.sessions.flags import failed_just_before
from app.sessions.handles import new_reference
from app.sessions.interface import Draft, session
from app.sessions.isolation import refuse_uncommitted
from app.sessions.ledger import Principal
from app.sessions.models import EndReason, UserSession
from app.sessions.purge import purge
from app.sessions.store import DataKey
from app.sessions.stores import budget
from app.sessions.system import system
from app.sessions.timeouts import LimitPolicy
from app.sessions.transaction import Transaction

_CHARGED = 0.3
"""Seconds of checking a password that count as waiting at most, so that servers keep their part."""

_LATELY = 30 * 24 * 3600.0


class SignInRefused(Exception):
    """Unknown name, wrong password, disabled: one error for all three."""


class SessionLimitReached(Exception):
    """The policy denies a further session beside the `limit` that this user has."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"signed in {limit} times already")
        self.limit = limit


class _InTheWay(Exception):
    """The live sessions that a denial found."""

    def __init__(self, rows: list[AnyRow]) -> None:
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Verified:
    """A user whose password was right, and the hash that said so: sign_in checks that it still holds."""

    id: int
    name: str
    role: str
    password_hash: str


_BY_NAME = select(User.id, User.name, User.role, User.active, User.password_hash)


def authenticate(name: str, password: str) -> Verified:
    """Return the user of a name and password. Raises SignInRefused and Throttled; failures are recorded."""
    key = name_key(name)
    user = next(iter(system.ledger.read(_BY_NAME.where(User.name_key == key))), None)
    _check_password(user, key, name, password, Verb.SIGN_IN_FAILED)
    assert user is not None
    return Verified(user.id, user.name, user.role, user.password_hash)


def sign_in(user: User | Verified, password_hash: str | None = None) -> Principal:
    """Give this request a session of `user`, and end those that are over the limit.

    With `password_hash`, the user's must still be that one. Raises SignInRefused for a user who was
    disabled or whose password changed meanwhile, SessionLimitReached, StoreUnavailable.
    """
    refuse_uncommitted("sign_in")
    try:
        ended = _begin(user, password_hash)
    except _InTheWay as denied:
        _end_lost(user.id, denied.rows)
        try:
            ended = _begin(user, password_hash)
        except _InTheWay as still:
            _record_denial(user)
            raise SessionLimitReached(len(still.rows)) from None
    purge(system, ended)
    return _signed_in()


def sign_out() -> None:
    """End this request's session. A visitor stays one."""
    refuse_uncommitted("sign_out")
    principal, row_id = session.principal, session.row_id
    if principal is None or row_id is None:
        return
    with system.ledger.transaction() as tx:
        tx.lock_users([principal.user_id])
        ended = tx.end([row_id], EndReason.SIGNED_OUT, session.actor(), Verb.SIGNED_OUT)
    purge(system, ended)
    session.leave()
    forget_user()


def step_up(password: str) -> Principal:
    """Confirm that it is still the person: the password again, and a new id. Raises SignInRefused."""
    refuse_uncommitted("step_up")
    user = check_own_password(password, Verb.STEP_UP_FAILED)
    with session.regenerating() as change, system.ledger.transaction() as tx:
        _still_holds(tx, user.id, user.password_hash)
        row = tx.rehandle(change.row_id, change.old, change.new, stepped_up_at=clock())
        event = Event(Verb.STEPPED_UP, row.user_id, row.name, row.reference)
        tx.record(session.actor(), [event])
    return _signed_in()


def check_own_password(password: str, verb: Verb) -> Verified:
    """Return the signed-in user if the password is theirs. Raises SignInRefused; `verb` records it."""
    principal = session.principal
    if principal is None:
        raise SignInRefused
    user = next(iter(system.ledger.read(_BY_NAME.where(User.id == principal.user_id))))
    _check_password(user, name_key(user.name), user.name, password, verb)
    return Verified(user.id, user.name, user.role, user.password_hash)


def _check_password(user: AnyRow | None, key: str, name: str, password: str, verb: Verb) -> None:
    ip = session.client.ip
    known = _signed_in_from(0 if user is None else user.id, ip)
    throttle().check(key, ip, known=known)
    began = monotonic()
    right = verify_password(None if user is None else user.password_hash, password)
    # What the answer has waited for already; on a slow host this is most of it.
    budget.charge(min(monotonic() - began, _CHARGED))
    if right and user is not None and user.active:
        return
    throttle().failed(key, ip, known=known)
    with system.ledger.transaction() as tx:
        user_id = None if user is None else user.id
        why = "unknown name" if user is None else "wrong password" if user.active else "disabled"
        event = Event(verb, user_id, name[:64], result="failed", details={"why": why})
        tx.record(session.actor(), [event])
    raise SignInRefused


def _signed_in_from(user_id: int, ip: str) -> bool:
    network = network_of(ip)
    recent = select(UserSession.first_ip).where(
        UserSession.user_id == user_id, UserSession.started_at > now(-_LATELY)
    )
    lately = recent.order_by(UserSession.id.desc()).limit(50).subquery()
    # Each address once: how often a name has signed in is not to be seen in how long this takes.
    rows = system.ledger.read(select(lately.c.first_ip).distinct())
    return any(network_of(row.first_ip) == network for row in rows)


def _begin(user: User | Verified, password_hash: str | None) -> list[AnyRow]:
    user_agent_id = system.ledger.user_agent_id(session.client.user_agent)
    own, own_user = session.row_id, session.principal
    failed = failed_just_before(user.id)
    with session.begin(user.role) as draft, system.ledger.transaction() as tx:
        locked = [user.id] if own_user is None else [user.id, own_user.user_id]
        tx.lock_users(locked)
        row = _still_holds(tx, user.id, password_hash)
        policy = system.policy.of(row.role)
        others = [other for other in tx.live_of(user.id) if other.id != own]
        excess = len(others) + 1 - policy.limit
        if excess > 0 and policy.at_limit is LimitPolicy.DENY:
            raise _InTheWay(others)
        reference = new_reference()
        actor = _actor(row, reference)
        new_id = tx.add_session(_row_values(tx, row, draft, reference, user_agent_id, failed))
        over = [other.id for other in others[: max(0, excess)]]
        ended = _end_superseded(tx, actor, over, new_id)
        if own is not None and own_user is not None:
            ended += _end_own(tx, own, new_id, same=own_user.user_id == user.id)
        details = {"client": session.client.user_agent[:200], "store": draft.store}
        tx.record(actor, [Event(Verb.SIGNED_IN, row.id, row.name, reference, details=details)])
    return ended


def _still_holds(tx: Transaction, user_id: int, password_hash: str | None) -> AnyRow:
    row = tx.locked_users([user_id]).get(user_id)
    if row is None or not row.active or password_hash not in (None, row.password_hash):
        raise SignInRefused
    return row


def _row_values(
    tx: Transaction, user: AnyRow, draft: Draft, reference: str, user_agent_id: int, failed: int
) -> dict[str, object]:
    client, policy, at = session.client, system.policy.of(user.role), tx.now()
    return {
        "reference": reference,
        "handle": draft.handle,
        "user_id": user.id,
        "store": draft.store,
        "data_key": draft.data_key,
        "started_at": at,
        "last_seen_at": at,
        "idle_expires_at": at + policy.idle,
        "absolute_expires_at": at + policy.absolute,
        "stepped_up_at": at,
        "regenerations": 0,
        "first_ip": client.ip,
        "first_ip_key": client.ip_key,
        "failed_before": failed,
        "ip": client.ip,
        "ip_key": client.ip_key,
        "first_user_agent_id": user_agent_id,
        "user_agent_id": user_agent_id,
        "tell_user": False,
    }


def _end_superseded(tx: Transaction, actor: Actor, row_ids: list[int], by: int) -> list[AnyRow]:
    if not row_ids:
        return []
    reason, verb = EndReason.SUPERSEDED, Verb.SUPERSEDED
    return tx.end(row_ids, reason, actor, verb, superseded_by_id=by)


def _end_own(tx: Transaction, row_id: int, by: int, *, same: bool) -> list[AnyRow]:
    actor = session.actor()
    if same:
        return _end_superseded(tx, actor, [row_id], by)
    return tx.end([row_id], EndReason.SIGNED_OUT, actor, Verb.SIGNED_OUT)


def _end_lost(user_id: int, rows: list[AnyRow]) -> None:
    """End those of the sessions in the way that their stores have lost; a silent store's stay."""
    by_store: dict[str, list[DataKey]] = {}
    for row in rows:
        by_store.setdefault(row.store, []).append(DataKey(row.data_key))
    found, silent = system.stores.present(by_store)
    lost = [
        row.id
        for row in rows
        if row.store not in silent and row.data_key not in found.get(row.store, {})
    ]
    if lost:
        with system.ledger.transaction() as tx:
            tx.lock_users([user_id])
            tx.end(lost, EndReason.LOST, Actor.system(), Verb.LOST)


def _record_denial(user: User | Verified) -> None:
    with system.ledger.transaction() as tx:
        event = Event(Verb.SIGN_IN_DENIED, user.id, user.name, result="denied")
        tx.record(session.actor(), [event])


def _actor(user: AnyRow, reference: str) -> Actor:
    request_id = session.actor().request_id
    return Actor("user", user.name, user.id, user.role, reference, session.client.ip, request_id)


def _signed_in() -> Principal:
    forget_user()
    principal = session.principal
    assert isinstance(principal, Principal)
    return principal


def forget_user() -> None:
    """Let Flask-Login and Flask-WTF ask the session again: they remember answers for a request."""
    g.pop("_login_user", None)
    g.pop("csrf_token", None)
