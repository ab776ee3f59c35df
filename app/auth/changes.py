"""Change people and end their sessions with it: for the pages and the CLI alike.

Each change locks the user first and is one transaction with its events; the data of the sessions that
it ends is purged after it.
"""

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.auth.sign_in import SignInRefused, check_own_password, forget_user
from app.columns import AnyRow, clock
from app.people.models import Permission, Role, User
from app.people.names import BadName, check_name, name_key
from app.people.passwords import WeakPassword, check_strength, hash_password
from app.sessions.interface import session
from app.sessions.isolation import refuse_uncommitted
from app.sessions.ledger import Principal
from app.sessions.models import EndReason, UserSession
from app.sessions.purge import purge
from app.sessions.system import system
from app.sessions.transaction import Transaction
from app.texts import gettext as _


class ChangeRefused(Exception):
    """A change that is not made. `field` names the form's field it is about, if one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def create_user(name: str, role: str, password: str, *, actor: Actor | Principal) -> int:
    """Create a user and return the id. Raises ChangeRefused for a bad or taken name, a weak password."""
    refuse_uncommitted("create_user")
    by = _permitted(actor, Permission.ADMINISTER)
    kept = _name(name)
    values = {
        "name": kept,
        "name_key": name_key(kept),
        "role": _role(role).value,
        "active": True,
        "password_hash": _new_hash(password, kept),
        "created_at": clock(),
        "password_changed_at": clock(),
    }
    try:
        with system.ledger.transaction() as tx:
            result = tx.connection.execute(insert(User).values(values))
            assert result.inserted_primary_key is not None
            user_id = int(result.inserted_primary_key[0])
            event = Event(Verb.USER_CREATED, user_id, kept, details={"role": role})
            tx.record(by, [event])
    except IntegrityError:
        message = _("This user name is taken. Capitals make no difference.")
        raise ChangeRefused(message, "username") from None
    return user_id


def disable_user(user_id: int, *, actor: Actor | Principal) -> int:
    """Forbid a user to sign in and end all sessions; return how many ended."""
    refuse_uncommitted("disable_user")
    with system.ledger.transaction() as tx:
        user = _lock(tx, user_id)
        by = _permitted(actor, Permission.DISABLE_MEMBERS, on=user)
        if not user.active:
            raise ChangeRefused(_("This user is disabled already."))
        _keep_an_admin(tx, user)
        values = {"active": False, "disabled_at": clock()}
        tx.connection.execute(update(User).where(User.id == user_id).values(values))
        tx.record(by, [Event(Verb.USER_DISABLED, user.id, user.name)])
        ended = _end_all(tx, user_id, EndReason.USER_DISABLED, by)
    purge(system, ended)
    return len(ended)


def enable_user(user_id: int, *, actor: Actor | Principal) -> None:
    """Allow a disabled user to sign in again."""
    refuse_uncommitted("enable_user")
    with system.ledger.transaction() as tx:
        user = _lock(tx, user_id)
        by = _permitted(actor, Permission.ADMINISTER, on=user)
        if user.active:
            raise ChangeRefused(_("This user is not disabled."))
        values = {"active": True, "disabled_at": None}
        tx.connection.execute(update(User).where(User.id == user_id).values(values))
        tx.record(by, [Event(Verb.USER_ENABLED, user.id, user.name)])


def change_role(user_id: int, role: str, *, actor: Actor | Principal) -> int:
    """Give a user another role and end all sessions; return how many ended."""
    refuse_uncommitted("change_role")
    new = _role(role)
    with system.ledger.transaction() as tx:
        user = _lock(tx, user_id)
        by = _permitted(actor, Permission.ADMINISTER, on=user)
        if user.role == new:
            raise ChangeRefused(_("This user has that role already."), "role")
        _keep_an_admin(tx, user)
        tx.connection.execute(update(User).where(User.id == user_id).values(role=new.value))
        details = {"from": user.role, "to": new.value}
        tx.record(by, [Event(Verb.ROLE_CHANGED, user.id, user.name, details=details)])
        ended = _end_all(tx, user_id, EndReason.ROLE_CHANGED, by)
    purge(system, ended)
    return len(ended)


def reset_password(user_id: int, password: str, *, actor: Actor | Principal) -> int:
    """Give a user another password and end all sessions; return how many ended.

    A new password that is required of the user stays so: they alone fulfil it.
    """
    refuse_uncommitted("reset_password")
    row = next(iter(system.ledger.read(select(User.name).where(User.id == user_id))), None)
    new_hash = _new_hash(password, "" if row is None else row.name)
    with system.ledger.transaction() as tx:
        user = _lock(tx, user_id)
        by = _permitted(actor, Permission.ADMINISTER, on=user)
        _set_password(tx, user_id, new_hash)
        tx.record(by, [Event(Verb.PASSWORD_RESET, user.id, user.name)])
        ended = _end_all(tx, user_id, EndReason.PASSWORD_CHANGED, by)
    purge(system, ended)
    return len(ended)


def require_new_password(user_id: int, *, actor: Actor | Principal) -> int:
    """Leave a user nothing but choosing a new password, and end all sessions; return how many ended."""
    refuse_uncommitted("require_new_password")
    with system.ledger.transaction() as tx:
        user = _lock(tx, user_id)
        by = _permitted(actor, Permission.ADMINISTER, on=user)
        if not tx.require_new_passwords([user.id], by):
            raise ChangeRefused(_("A new password is required of this user already."))
        ended = _end_all(tx, user_id, EndReason.REVOKED, by)
    purge(system, ended)
    return len(ended)


def change_own_password(current: str, new: str) -> int:
    """Change one's own password: this session gets a new id, the others end; return how many ended.

    Raises ChangeRefused for a wrong current password or a weak new one, Throttled.
    """
    refuse_uncommitted("change_own_password")
    principal = _own()
    try:
        user = check_own_password(current, Verb.PASSWORD_CHANGE_FAILED)
    except SignInRefused:
        raise ChangeRefused(_("This is not your current password."), "current_password") from None
    if new == current and principal.new_password_required:
        raise ChangeRefused(_("This is your current password. Choose another."), "password")
    new_hash = _new_hash(new, principal.name)
    with session.regenerating() as change, system.ledger.transaction() as tx:
        locked = _lock(tx, principal.user_id)
        if not locked.active or locked.password_hash != user.password_hash:
            raise ChangeRefused(_("Your password was changed meanwhile."), "current_password")
        _set_password(tx, locked.id, new_hash, new_password_required=False)
        tx.rehandle(change.row_id, change.old, change.new)
        by = session.actor()
        tx.record(by, [Event(Verb.PASSWORD_CHANGED, locked.id, locked.name, principal.reference)])
        reason = EndReason.PASSWORD_CHANGED
        ended = _end_all(tx, locked.id, reason, by, but=change.row_id)
    purge(system, ended)
    forget_user()
    return len(ended)


def end_own_session(reference: str) -> None:
    """End one of one's own other sessions. Raises ChangeRefused for a reference that is none of them."""
    _end_own(reference)


def end_own_other_sessions() -> int:
    """End all of one's own sessions but this one; return how many ended."""
    return _end_own(None)


def _end_own(reference: str | None) -> int:
    refuse_uncommitted("end_own_session")
    principal, own_row = _own(), session.row_id
    with system.ledger.transaction() as tx:
        tx.lock_users([principal.user_id])
        rows = [row for row in tx.live_of(principal.user_id) if row.id != own_row]
        if reference is not None:
            rows = [row for row in rows if row.reference == reference]
            if not rows:
                raise ChangeRefused(_("This is none of your other sessions, or it has ended."))
        ids = [row.id for row in rows]
        ended = tx.end(ids, EndReason.SIGNED_OUT, session.actor(), Verb.SIGNED_OUT)
    purge(system, ended)
    return len(ended)


def _own() -> Principal:
    principal = session.principal
    if principal is None:
        raise ChangeRefused(_("You are not signed in."))
    assert isinstance(principal, Principal)
    return principal


def _permitted(actor: Actor | Principal, permission: Permission, on: AnyRow | None = None) -> Actor:
    """Return the trail's actor, or raise ChangeRefused. A command acts with an administrator's rights."""
    if isinstance(actor, Actor):
        return actor
    if not actor.may(permission):
        raise ChangeRefused(_("Your role may not do this."))
    if on is not None and Role(on.role).is_staff and not actor.may(Permission.ADMINISTER):
        raise ChangeRefused(_("Only an administrator may do this to staff."))
    if on is not None and on.id == actor.user_id:
        raise ChangeRefused(_("You cannot do this to yourself."))
    return actor.actor()


def _lock(tx: Transaction, user_id: int) -> AnyRow:
    """Lock a user, and with an administrator every other one: the last must stay."""
    admins = select(User.id).where(User.role == Role.ADMIN, User.active)
    ids = {row.id for row in tx.connection.execute(admins)}
    locked = tx.locked_users([user_id, *ids] if user_id in ids else [user_id])
    if user_id not in locked:
        raise ChangeRefused(_("There is no such user."))
    return locked[user_id]


def _keep_an_admin(tx: Transaction, user: AnyRow) -> None:
    others = select(User.id).where(User.role == Role.ADMIN, User.active, User.id != user.id)
    if user.role == Role.ADMIN and tx.connection.execute(others.limit(1)).first() is None:
        raise ChangeRefused(_("This is the last active administrator: make another one first."))


def _end_all(
    tx: Transaction, user_id: int, reason: EndReason, by: Actor, but: int | None = None
) -> list[AnyRow]:
    rows = tx.connection.execute(
        select(UserSession.id).where(UserSession.user_id == user_id, UserSession.ended_at.is_(None))
    )
    ids = [row.id for row in rows if row.id != but]
    expired = tx.expire(ids, Actor.system())
    return expired + tx.end(ids, reason, by, Verb.ENDED)


def _set_password(tx: Transaction, user_id: int, password_hash: str, **more: object) -> None:
    values = {"password_hash": password_hash, "password_changed_at": clock(), **more}
    tx.connection.execute(update(User).where(User.id == user_id).values(values))


def _name(name: str) -> str:
    try:
        return check_name(name)
    except BadName as error:
        raise ChangeRefused(str(error), "username") from None


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        allowed = ", ".join(Role)
        raise ChangeRefused(_("The roles are: %(roles)s.", roles=allowed), "role") from None


def _new_hash(password: str, name: str) -> str:
    try:
        check_strength(password, name)
    except WeakPassword as error:
        raise ChangeRefused(str(error), "password") from None
    return hash_password(password)
