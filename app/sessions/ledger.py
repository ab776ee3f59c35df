"""The ledger: who is signed in. One statement decides at each request; every end is written here.

`interface` asks it, `sign_in`, `revocation` and `upkeep` change it, each inside `Ledger.transaction()`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, NamedTuple

from flask import has_request_context, request
from sqlalchemy import (
    Engine,
    Executable,
    and_,
    bindparam,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.columns import AnyRow, clock, now
from app.people.models import Permission, Role, User
from app.sessions.clients import Client, client_in_words
from app.sessions.counting import count
from app.sessions.models import EndReason, UserAgent, UserSession
from app.sessions.stores.breaker import Breaker
from app.sessions.stores.engines import transaction
from app.sessions.stores.statements import Statement
from app.sessions.transaction import Transaction, among, cutoff_at, live

REQUEST_ID = "rollcall.request_id"
"""The key in the WSGI environment under which a request's id is found."""

DATABASE = "database"
"""The name under which the ledger's server appears in errors and on pages."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The person of a live session, as Flask-Login's `current_user`. Times are UTC."""

    user_id: int
    name: str
    role: Role
    reference: str
    started_at: datetime
    stepped_up_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    absolute_expires_at: datetime
    asked_at: datetime
    new_password_required: bool = False

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def get_id(self) -> str:
        return str(self.user_id)

    @property
    def left(self) -> int:
        """Whole seconds until the session ends if nobody uses it, by the database's clock."""
        until = min(self.idle_expires_at, self.absolute_expires_at)
        return max(0, ceil((until - self.asked_at).total_seconds()))

    def may(self, permission: Permission) -> bool:
        return self.role.may(permission)

    def actor(self) -> Actor:
        """Return this person as the trail's actor, with the request's address and id if there is one."""
        ip = request.remote_addr if has_request_context() else None
        request_id = request.environ.get(REQUEST_ID) if has_request_context() else None
        return Actor(
            "user", self.name, self.user_id, self.role.value, self.reference, ip, request_id
        )


class OpenRow(NamedTuple):
    """What the live statement says about a row of the ledger, and the database's clock when it did."""

    id: int
    user_id: int
    reference: str
    store: str
    data_key: str
    started_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    absolute_expires_at: datetime
    stepped_up_at: datetime
    user_agent_id: int
    name: str
    role: str
    new_password_required: bool
    now: datetime
    live: bool


_OPEN = select(
    UserSession.id,
    UserSession.user_id,
    UserSession.reference,
    UserSession.store,
    UserSession.data_key,
    UserSession.started_at,
    UserSession.last_seen_at,
    UserSession.idle_expires_at,
    UserSession.absolute_expires_at,
    UserSession.stepped_up_at,
    UserSession.user_agent_id,
    User.name,
    User.role,
    User.new_password_required,
    clock().label("now"),
    and_(live(), User.active).label("live"),
).join(User, User.id == UserSession.user_id)
_OPEN_BY_HANDLE = _OPEN.where(UserSession.handle == bindparam("handle"))
_OPEN_BY_ID = _OPEN.where(UserSession.id == bindparam("id"))

_TOUCH = (
    update(UserSession)
    .where(
        UserSession.id
        == select(UserSession.id)
        .where(
            UserSession.id == bindparam("row_id"), UserSession.last_seen_at <= now("before"), live()
        )
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    .values(
        last_seen_at=clock(),
        idle_expires_at=clock("idle"),
        ip=bindparam("seen_ip"),
        ip_key=bindparam("seen_ip_key"),
        user_agent_id=bindparam("seen_user_agent_id"),
        moved=or_(
            UserSession.first_ip != bindparam("seen_ip"),
            UserSession.first_user_agent_id != bindparam("seen_user_agent_id"),
        ),
    )
    .execution_options(synchronize_session=False)
)

_ENDED = (
    select(
        UserSession.reference,
        UserSession.ended_at,
        UserSession.end_reason,
        UserSession.idle_expires_at,
        UserSession.absolute_expires_at,
        UserSession.reason_code,
        UserSession.note,
        UserSession.tell_user,
        User.name.label("user_name"),
        User.active,
        cutoff_at().label("cutoff_at"),
        select(UserAgent.client)
        .join(newer := UserSession.__table__.alias("newer"), newer.c.user_agent_id == UserAgent.id)
        .where(newer.c.id == UserSession.superseded_by_id)
        .correlate(UserSession)
        .scalar_subquery()
        .label("by_client"),
    )
    .join(User, User.id == UserSession.user_id)
    .where(UserSession.id == bindparam("id"))
)


@dataclass(frozen=True, slots=True)
class EndedSession:
    """Why a session ended, as it may be told to whoever holds its cookie."""

    reference: str
    user_name: str
    ended_at: datetime
    reason: EndReason
    reason_code: str | None = None
    note: str | None = None
    by_client: str | None = None


class Ledger:
    """The sessions' own engine: single statements in autocommit, and transactions for what changes.

    Every method raises StoreUnavailable("database") when the server does not answer in time.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.breaker = Breaker(DATABASE)
        self._user_agents: dict[bytes, int] = {}
        self._open = Statement(engine, _OPEN_BY_HANDLE, OpenRow)
        self._reopen = Statement(engine, _OPEN_BY_ID, OpenRow)
        self._touch = Statement(engine, _TOUCH, tuple)

    def read(
        self, statement: Executable, parameters: dict[str, Any] | None = None
    ) -> Sequence[AnyRow]:
        """Run one SELECT and return its rows."""
        with self.breaker.answering("read"), self.engine.connect() as connection:
            return connection.execute(statement, parameters).all()

    def among(self, column: Any, ids: Iterable[int]) -> Any:
        """Match thousands of ids, in a statement for `read`."""
        return among(self.engine.dialect, column, ids)

    def now(self) -> datetime:
        """Return the database's clock."""
        at: datetime = self.read(select(clock()))[0][0]
        return at

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a write transaction; it commits at the end of the block."""
        with self.breaker.answering("transaction"), transaction(self.engine) as connection:
            tx = Transaction(connection)
            yield tx
        count(tx.events)

    def open(self, handle: bytes) -> OpenRow | None:
        """Return the row of a handle with its user, `now` and whether it is `live`: the live statement."""
        with self.breaker.answering("read"):
            return self._open.first(handle=handle)

    def reopen(self, row_id: int) -> OpenRow | None:
        """Ask again about a row that was live when the request began."""
        with self.breaker.answering("read"):
            return self._reopen.first(id=row_id)

    def touch(self, row: OpenRow, idle: timedelta, interval: timedelta, client: Client) -> bool:
        """Move the idle deadline of a row that is still live; False if it is not, or is locked.

        A changed client is recorded with it.
        """
        user_agent_id = self.user_agent_id(client.user_agent)
        parameters: dict[str, object] = {
            "row_id": row.id,
            "before": -interval.total_seconds(),
            "idle": idle.total_seconds(),
            "seen_ip": client.ip,
            "seen_ip_key": client.ip_key,
            "seen_user_agent_id": user_agent_id,
        }
        if user_agent_id == row.user_agent_id:
            with self.breaker.answering("touch"):
                return self._touch.count(**parameters) == 1
        with self.transaction() as tx:
            if tx.connection.execute(_TOUCH, parameters).rowcount != 1:
                return False
            event = Event(
                Verb.CLIENT_CHANGED,
                row.user_id,
                row.name,
                row.reference,
                details={"client": client_in_words(client.user_agent), "ip": client.ip},
            )
            tx.record(Actor.system(), [event])
            return True

    def user_agent_id(self, header: str) -> int:
        """Return the interned id of a User-Agent header."""
        digest = Client("", header).digest
        found = self._user_agents.get(digest)
        if found is not None:
            return found
        by_digest = select(UserAgent.id).where(UserAgent.digest == digest)
        if not (rows := self.read(by_digest)):
            values = {"digest": digest, "header": header, "client": client_in_words(header)}
            try:
                with self.transaction() as tx:
                    tx.connection.execute(insert(UserAgent).values(values))
            except IntegrityError:
                pass
            rows = self.read(by_digest)
        if len(self._user_agents) < 10_000:
            self._user_agents[digest] = rows[0].id
        return int(rows[0].id)

    def ended(self, row_id: int) -> EndedSession | None:
        """Return why a row that is not live ended; deadlines count before the worker has recorded them."""
        row = next(iter(self.read(_ENDED, {"id": row_id})), None)
        if row is None:
            return None
        reason, at = _end_of(row)
        told = row.note if row.tell_user else None
        return EndedSession(
            row.reference, row.user_name, at, reason, row.reason_code, told, row.by_client
        )


def _end_of(row: AnyRow) -> tuple[EndReason, datetime]:
    if row.end_reason is not None:
        return EndReason(row.end_reason), row.ended_at
    if row.cutoff_at is not None:
        return EndReason.REVOKED, row.cutoff_at
    if row.absolute_expires_at <= row.idle_expires_at:
        return EndReason.ABSOLUTE_TIMEOUT, row.absolute_expires_at
    return EndReason.IDLE_TIMEOUT, row.idle_expires_at
