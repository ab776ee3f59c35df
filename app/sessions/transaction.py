"""What may be done inside a transaction on the ledger, and the predicate that says what is live.

`Ledger.transaction()` opens one; `sign_in`, `changes`, `revocation`, `upkeep` and `interface` use it.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    ScalarSelect,
    and_,
    any_,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.types import NullType

from app.audit.models import Verb
from app.audit.trail import Actor, Event, record, record_each
from app.columns import AnyRow, clock, now
from app.people.models import User
from app.sessions.models import Cutoff, EndReason, PendingPurge, UserSession
from app.sessions.store import SessionError

BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)

RECORDED_WITHIN = 120.0
"""Seconds after a deadline within which a worker that runs has recorded it: it passes twice a minute."""


class RowEnded(SessionError):
    """A row that was to be changed as a live one has ended."""


def live() -> ColumnElement[bool]:
    """Say, in SQL, which rows are live. Every query that asks it uses this one predicate."""
    return and_(
        UserSession.ended_at.is_(None),
        UserSession.idle_expires_at > now(),
        UserSession.absolute_expires_at > now(),
        after_cutoff(),
    )


def overdue() -> ColumnElement[bool]:
    """Say which rows are past a deadline and still without an end: no worker has recorded it in time."""
    return and_(UserSession.ended_at.is_(None), long_past_deadline())


def long_past_deadline() -> ColumnElement[bool]:
    """Say which rows are past a deadline for so long that a worker would have recorded it, ended or not."""
    then = now(-RECORDED_WITHIN)
    return or_(UserSession.idle_expires_at < then, UserSession.absolute_expires_at < then)


def after_cutoff() -> ColumnElement[bool]:
    """Say which rows the cutoff leaves alone. Its one row is read once a statement, not once a session.

    The doubled column keeps PostgreSQL, which does not know the cutoff when it plans and takes it to
    leave a third, from finding nearly all rows one by one in the index of that column.
    """
    return or_(
        func.coalesce(UserSession.started_at, UserSession.started_at)
        > _of_cutoff(Cutoff.at, BEFORE_ALL),
        UserSession.id == _of_cutoff(Cutoff.spared_id, 0),
    )


def cutoff_denies() -> ColumnElement[bool]:
    """Say whether the cutoff denies anybody, by a look at the oldest that has not ended and is not spared."""
    not_spared = UserSession.id != _of_cutoff(Cutoff.spared_id, 0)
    oldest = select(UserSession.started_at).where(UserSession.ended_at.is_(None), not_spared)
    first = oldest.order_by(UserSession.started_at).limit(1).correlate(None).scalar_subquery()
    denies: ColumnElement[bool] = first <= _of_cutoff(Cutoff.at, BEFORE_ALL)
    return denies


def cutoff_at() -> ScalarSelect[datetime]:
    """Return the time of the cutoff that denies a row, null where none does."""
    return select(Cutoff.at).where(~after_cutoff()).correlate(UserSession).scalar_subquery()


def _of_cutoff(column: Any, otherwise: object) -> Any:
    return func.coalesce(select(column).correlate(None).scalar_subquery(), otherwise)


def among(dialect: Dialect, column: Any, ids: Iterable[int]) -> Any:
    """Match thousands of ids: as one array where there are arrays, which is quicker to send and to plan.

    The array goes as text, for the driver takes its time over each member of a list. It goes without a
    type, so that PostgreSQL reads it once: the cast of a text is done again for each row that is looked at.
    """
    wanted = sorted(ids)
    if dialect.name == "postgresql":
        text = "{" + ",".join(map(str, wanted)) + "}"
        return column == any_(cast(literal(text, NullType()), ARRAY(BigInteger)))
    return column.in_(wanted)


class Transaction:
    """A transaction on the ledger. Everything that ends a user's sessions locks the user first."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self._now: datetime | None = None

    def now(self) -> datetime:
        """Return the database's clock, read once, after the locks that were taken before the call."""
        if self._now is None:
            self._now = self.connection.execute(select(clock())).scalar_one()
        return self._now

    def record(self, actor: Actor, events: Sequence[Event]) -> None:
        """Write events of this transaction's act."""
        record(self.connection, self.now(), actor, events)
        self.events += events

    def among(self, column: Any, ids: Iterable[int]) -> Any:
        """Match thousands of ids."""
        return among(self.connection.dialect, column, ids)

    def lock_users(self, user_ids: Iterable[int]) -> None:
        """Lock user rows in id order."""
        self._lock_users(user_ids, User.id)

    def locked_users(self, user_ids: Iterable[int]) -> dict[int, AnyRow]:
        """Lock user rows in id order and return them as they are now."""
        columns = (User.id, User.name, User.role, User.active, User.password_hash)
        return {row.id: row for row in self._lock_users(user_ids, *columns)}

    def _lock_users(self, user_ids: Iterable[int], *columns: Any) -> Sequence[AnyRow]:
        some = select(*columns).where(self.among(User.id, set(user_ids))).order_by(User.id)
        return self.connection.execute(some.with_for_update(key_share=True)).all()

    def live_of(self, user_id: int) -> list[AnyRow]:
        """Return a user's live sessions, oldest first."""
        rows = self.connection.execute(
            TARGET.where(UserSession.user_id == user_id, live()).order_by(
                UserSession.started_at, UserSession.id
            )
        )
        return list(rows)

    def targets(self, row_ids: Sequence[int]) -> list[AnyRow]:
        """Return rows by id, ended or not."""
        return list(
            self.connection.execute(
                TARGET.where(self.among(UserSession.id, row_ids)).order_by(UserSession.id)
            )
        )

    def add_session(self, values: dict[str, Any]) -> int:
        """Insert a row and return its id."""
        result = self.connection.execute(insert(UserSession).values(values))
        assert result.inserted_primary_key is not None
        return int(result.inserted_primary_key[0])

    def rehandle(self, row_id: int, old: bytes, new: bytes, **values: Any) -> AnyRow:
        """Give a live row the handle of a new id: the old id is nobody's at once.

        Raises RowEnded if the row is not live, or no longer under the old handle.
        """
        changed = self.connection.execute(
            update(UserSession)
            .where(UserSession.id == row_id, UserSession.handle == old, live())
            .values(handle=new, regenerations=UserSession.regenerations + 1, **values)
            .execution_options(synchronize_session=False)
        )
        if changed.rowcount != 1:
            raise RowEnded(row_id)
        return self.targets([row_id])[0]

    def expire(self, row_ids: Sequence[int], by: Actor) -> list[AnyRow]:
        """End those of the rows that are past a deadline; the one that came first is the cause."""
        if not row_ids:
            return []
        absolute, idle = UserSession.absolute_expires_at, UserSession.idle_expires_at
        ended: list[AnyRow] = []
        for first, passed, reason in (
            (absolute <= idle, absolute, EndReason.ABSOLUTE_TIMEOUT),
            (idle < absolute, idle, EndReason.IDLE_TIMEOUT),
        ):
            due = select(UserSession.id).where(
                UserSession.id.in_(row_ids), UserSession.ended_at.is_(None), first, passed <= now()
            )
            ids = [row.id for row in self.connection.execute(due)]
            ended += self.end(ids, reason, by, Verb.EXPIRED)
        return ended

    def end(
        self, row_ids: Sequence[int], reason: EndReason, actor: Actor, verb: Verb, **values: Any
    ) -> list[AnyRow]:
        """End those rows that have not ended, in id order, each with its event; return what to purge of them.

        `values` are further columns of the row: revocation_id, reason_code, note, tell_user,
        superseded_by_id.
        """
        locked = self._lock_not_ended(row_ids)
        if not locked:
            return []
        among = self.among(UserSession.id, [row.id for row in locked])
        self.connection.execute(
            update(UserSession)
            .where(among, UserSession.ended_at.is_(None))
            .values(ended_at=self.now(), end_reason=reason, ended_by=actor.name, **values)
        )
        self.connection.execute(_LEAVES_DATA.from_select(_DATA, _PAYLOADS.where(among)))
        event = _end_event(verb, reason, values)
        record_each(self.connection, self.now(), actor, event, _WHOM.where(among))
        self.events += [event] * len(locked)
        return locked

    def purge_again(self, row_ids: Sequence[int]) -> None:
        """Let the worker delete the data of rows that have ended once more: a store still had it."""
        some = self.among(UserSession.id, row_ids)
        of_row = select(PendingPurge.row_id).where(PendingPurge.row_id == UserSession.id)
        # Locked, so that another who finds the same does not write the same.
        locked = select(UserSession.id).where(some).order_by(UserSession.id).with_for_update()
        self.connection.execute(locked).all()
        self.connection.execute(
            _LEAVES_DATA.from_select(_DATA, _PAYLOADS.where(some, ~of_row.exists()))
        )

    def require_new_passwords(
        self, user_ids: Iterable[int], by: Actor, revocation_id: int | None = None
    ) -> int:
        """Require a new password of those of whom none is required yet; return how many. Lock them first."""
        users = self.connection.execute(
            select(User.id, User.name)
            .where(self.among(User.id, set(user_ids)), User.new_password_required.is_(False))
            .order_by(User.id)
        ).all()
        if users:
            among = self.among(User.id, [user.id for user in users])
            self.connection.execute(update(User).where(among).values(new_password_required=True))
            verb = Verb.PASSWORD_REQUIRED
            self.record(by, [Event(verb, u.id, u.name, revocation_id=revocation_id) for u in users])
        return len(users)

    def _lock_not_ended(self, row_ids: Sequence[int]) -> list[AnyRow]:
        """Lock those rows that have not ended, in id order, and return whose data lies where.

        Without a join, because MariaDB knows no FOR UPDATE OF and would lock the joined rows too; and by
        the ids alone, because it would rather read all that is live and wait for strangers' rows.
        """
        rows = self.connection.execute(
            _PAYLOADS.with_hint(UserSession, "FORCE INDEX (PRIMARY)", "mariadb")
            .where(self.among(UserSession.id, row_ids), UserSession.ended_at.is_(None))
            .order_by(UserSession.id)
            .with_for_update()
        )
        return list(rows)


TARGET = select(
    UserSession.id,
    UserSession.reference,
    UserSession.user_id,
    UserSession.store,
    UserSession.data_key,
    UserSession.started_at,
    UserSession.ended_at,
    User.name,
    User.role,
).join(User, User.id == UserSession.user_id)


_DATA = ("row_id", "store", "data_key")
_LEAVES_DATA = insert(PendingPurge)
_PAYLOADS: Any = select(UserSession.id, UserSession.store, UserSession.data_key)

_WHOM: Any = (
    select(UserSession.user_id, User.name, UserSession.reference)
    .join(User, User.id == UserSession.user_id)
    .order_by(UserSession.id)
)


def _end_event(verb: Verb, reason: EndReason, values: dict[str, Any]) -> Event:
    return Event(
        verb,
        revocation_id=values.get("revocation_id"),
        reason=values.get("reason_code") or reason.value,
        note=values.get("note"),
    )
