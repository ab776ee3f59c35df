"""Find sessions: SessionFilter <-> query string <-> SQL. List, counts, exports and revocation share it.

A page is one ledger query by keyset, then one look into each store for the rows on it.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any, Self

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from app.columns import AnyRow, clock
from app.people.models import Role, User
from app.people.names import name_key
from app.sessions.clients import ip_key
from app.sessions.models import UserAgent, UserSession
from app.sessions.store import DataKey, StoreUnavailable, UnreadablePayload
from app.sessions.stores import budget
from app.sessions.system import system
from app.sessions.timeouts import status
from app.sessions.transaction import live

STATES = ("live", "ended")
LONGEST_PAGE = 200
_LOOK = 0.4
"""Seconds that a page waits for the stores of the sessions on it: it says which were silent."""


class FilterError(ValueError):
    """A filter that cannot be applied. `field` is its name, `message` says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are meant. Every field that is set narrows; none is ever ignored."""

    state: str = "live"
    user: str | None = None
    user_id: int | None = None
    ip: str | None = None
    store: str | None = None
    role: str | None = None
    reference: str | None = None
    q: str | None = None

    @classmethod
    def from_query(cls, args: Mapping[str, str]) -> Self:
        """Read a query string. Raises FilterError for a value that is not allowed."""
        known = {field.name for field in fields(cls)} - {"user_id"}
        for name in args:
            if name not in known:
                allowed = ", ".join(sorted(known))
                raise FilterError(
                    name,
                    _("There is no filter %(name)s. There are: %(all)s.", name=name, all=allowed),
                )
        given = {
            field.name: args[field.name].strip()
            for field in fields(cls)
            if args.get(field.name, "").strip() and field.name != "user_id"
        }
        where = cls(**given)  # type: ignore[arg-type]
        where.check()
        return where

    def to_query(self) -> dict[str, str]:
        """Return the query string's pairs; the default state is left out."""
        pairs = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: str(value)
            for name, value in pairs.items()
            if value is not None and (name, value) != ("state", "live")
        }

    def check(self) -> None:
        """Raise FilterError for a value that is not allowed."""
        _one_of("state", self.state, STATES)
        _one_of("store", self.store, tuple(system.stores.names))
        _one_of("role", self.role, tuple(Role))
        if self.ip is not None:
            _network("ip", self.ip)

    @property
    def narrows(self) -> bool:
        """Say whether anything is left out but what has ended."""
        return bool(self.to_query())

    def clause(self) -> ColumnElement[bool]:
        """Return the filter as one SQL predicate over user_sessions joined with users."""
        parts = [live() if self.state == "live" else UserSession.ended_at.is_not(None)]
        if self.user is not None:
            parts.append(User.name_key == name_key(self.user))
        if self.user_id is not None:
            parts.append(UserSession.user_id == self.user_id)
        if self.ip is not None:
            parts.append(_in_network("ip", self.ip))
        if self.store is not None:
            parts.append(UserSession.store == self.store)
        if self.role is not None:
            parts.append(User.role == self.role)
        if self.reference is not None:
            parts.append(UserSession.reference == self.reference.casefold())
        if self.q is not None:
            parts.append(_plain_word(self.q))
        return and_(*parts)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as pages, exports and the CLI show it. Times are UTC.

    `present` is None if its store is silent, or was not asked.
    """

    id: int
    reference: str
    user_id: int
    user: str
    role: str
    store: str
    state: str
    status: str
    started_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    absolute_expires_at: datetime
    first_ip: str
    ip: str
    client: str
    first_client: str
    user_agent: str
    ended_at: datetime | None
    end_reason: str | None
    ended_by: str | None
    reason_code: str | None
    note: str | None
    regenerations: int
    revocation_id: int | None
    purged_at: datetime | None
    present: bool | None = None
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of the list. `unavailable` names the stores that did not answer; `next` is a cursor."""

    rows: tuple[SessionRow, ...]
    total: int
    users: int
    next: str | None
    unavailable: tuple[str, ...]
    now: datetime
    limit: int


@dataclass(frozen=True, slots=True)
class ValueName:
    """A value of a session, without the value: its name, type and size in bytes."""

    name: str
    type: str
    size: int


_FirstAgent = aliased(UserAgent)

_ROWS = (
    select(
        UserSession,
        User.name,
        User.role,
        UserAgent.client,
        UserAgent.header,
        _FirstAgent.client.label("first_client"),
        clock().label("now"),
        live().label("live"),
    )
    .join(User, User.id == UserSession.user_id)
    .join(UserAgent, UserAgent.id == UserSession.user_agent_id)
    .join(_FirstAgent, _FirstAgent.id == UserSession.first_user_agent_id)
)
_ROWS = _ROWS.with_only_columns(
    *UserSession.__table__.c,
    *[column for column in _ROWS.selected_columns if column.table is not UserSession.__table__],
)


def find(
    where: SessionFilter, *, limit: int = 50, after: str | None = None, look_up: bool = True
) -> SessionPage:
    """Return a page of sessions, newest activity first (newest end first among the ended).

    Raises FilterError for a bad cursor, StoreUnavailable("database").
    """
    limit = max(1, min(limit, LONGEST_PAGE))
    moment = _moment(where)
    page = _ROWS.where(where.clause()).order_by(moment.desc(), UserSession.id.desc())
    if after is not None:
        page = page.where(tuple_(moment, UserSession.id) < tuple_(*_from_cursor(after)))
    counted = select(func.count(), func.count(UserSession.user_id.distinct()), clock())
    counted = counted.select_from(UserSession).join(User, User.id == UserSession.user_id)
    counts = system.ledger.read(counted.where(where.clause()))[0]
    total, users, at = counts[0], counts[1], counts[2]
    found = system.ledger.read(page.limit(limit + 1))
    rows, unavailable = _looked_up(found[:limit], look_up=look_up)
    more = _cursor(where, found[limit - 1]) if len(found) > limit else None
    return SessionPage(rows, total, users, more, unavailable, at, limit)


def get(reference: str) -> SessionRow | None:
    """Return one session by its reference, looked up in its store; None if there is none."""
    found = system.ledger.read(_ROWS.where(UserSession.reference == reference.casefold()))
    rows, _unavailable = _looked_up(found, look_up=True)
    return rows[0] if rows else None


def of_user(user_id: int, *, ended: int = 10) -> tuple[list[SessionRow], list[SessionRow]]:
    """Return a user's live sessions and the last `ended` ones, newest first."""
    signed_in = find(SessionFilter(user_id=user_id), limit=LONGEST_PAGE)
    before = find(SessionFilter(state="ended", user_id=user_id), limit=ended, look_up=False)
    return list(signed_in.rows), list(before.rows)


def by_ids(row_ids: list[int]) -> list[SessionRow]:
    """Return sessions by their ledger ids, in that order of ids, looked up in their stores."""
    found = system.ledger.read(_ROWS.where(UserSession.id.in_(row_ids)).order_by(UserSession.id))
    return list(_looked_up(found, look_up=True)[0])


def value_names(row: SessionRow) -> list[ValueName] | None:
    """Return names, types and sizes of a session's values; None if its store has none or is silent."""
    key = system.ledger.read(select(UserSession.data_key).where(UserSession.id == row.id))
    if not key:
        return None
    try:
        with budget.within(_LOOK):
            stored = system.stores[row.store].load(DataKey(key[0].data_key))
        if stored is None:
            return None
        data = system.codec.decode(stored.payload)
    except (StoreUnavailable, UnreadablePayload):
        return None
    return [
        ValueName(name, type(value).__name__, len(system.codec.encode({"": value})) - 2)
        for name, value in sorted(data.items())
    ]


def count_by(where: SessionFilter, column: ColumnElement[Any]) -> dict[str, int]:
    """Return how many of the sessions fall on each value of a column of sessions or users."""
    query = select(column, func.count()).select_from(UserSession).join(User)
    return {
        str(row[0]): row[1]
        for row in system.ledger.read(query.where(where.clause()).group_by(column))
    }


def ids_matching(where: SessionFilter) -> Select[Any]:
    """Return the query for the ids of the sessions that match, in id order."""
    ids = select(UserSession.id).join(User, User.id == UserSession.user_id)
    return ids.where(where.clause()).order_by(UserSession.id)


def _looked_up(found: Any, *, look_up: bool) -> tuple[tuple[SessionRow, ...], tuple[str, ...]]:
    """Ask each store once which of the rows' payloads it has."""
    by_store: dict[str, list[DataKey]] = {}
    for row in found if look_up else ():
        if row.ended_at is None or row.purged_at is None:
            by_store.setdefault(row.store, []).append(DataKey(row.data_key))
    with budget.within(_LOOK):
        present, silent = system.stores.present(by_store)
    rows = []
    for row in found:
        shown = _shown(row)
        if row.store in by_store and row.store not in silent:
            ttl = present.get(row.store, {}).get(DataKey(row.data_key))
            shown = replace(shown, present=ttl is not None, ttl=ttl)
        elif look_up and row.purged_at is not None:
            shown = replace(shown, present=False)
        rows.append(shown)
    return tuple(rows), tuple(sorted(silent))


def _shown(row: AnyRow) -> SessionRow:
    word = "ended"
    if row.live:
        word = status(row.now, row.last_seen_at, row.idle_expires_at, row.absolute_expires_at)
    return SessionRow(
        id=row.id,
        reference=row.reference,
        user_id=row.user_id,
        user=row.name,
        role=row.role,
        store=row.store,
        state="live" if row.live else "ended",
        status=word,
        started_at=row.started_at,
        last_seen_at=row.last_seen_at,
        idle_expires_at=row.idle_expires_at,
        absolute_expires_at=row.absolute_expires_at,
        first_ip=row.first_ip,
        ip=row.ip,
        client=row.client,
        first_client=row.first_client,
        user_agent=row.header,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
        ended_by=row.ended_by,
        reason_code=row.reason_code,
        note=row.note,
        regenerations=row.regenerations,
        revocation_id=row.revocation_id,
        purged_at=row.purged_at,
    )


def _moment(where: SessionFilter) -> Any:
    return UserSession.last_seen_at if where.state == "live" else UserSession.ended_at


def _cursor(where: SessionFilter, row: AnyRow) -> str:
    at = row.last_seen_at if where.state == "live" else row.ended_at
    return base64.urlsafe_b64encode(f"{at.isoformat()} {row.id}".encode()).decode().rstrip("=")


def _from_cursor(cursor: str) -> tuple[datetime, int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, row_id = text.split(" ")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError
        if not 0 < int(row_id) < 2**63:
            raise ValueError
        return moment, int(row_id)
    except (ValueError, binascii.Error):
        message = _("This link to a further page is damaged. Start again from the first page.")
        raise FilterError("after", message) from None


def _one_of(field: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise FilterError(
            field, _("%(field)s can be: %(allowed)s.", field=field, allowed=", ".join(allowed))
        )


def _network(field: str, text: str) -> tuple[bytes, bytes]:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        message = _("Give an address or a network, as 10.31.4.7, 10.31.0.0/16 or 2001:db8::/32.")
        raise FilterError(field, message) from None
    return ip_key(str(network[0])), ip_key(str(network[-1]))


def _in_network(field: str, text: str) -> ColumnElement[bool]:
    first, last = _network(field, text)
    return UserSession.ip_key.between(first, last)


def _plain_word(text: str) -> ColumnElement[bool]:
    """Match a user by the beginning of the name, a session by its reference, or an address."""
    if "/" in text:
        return _in_network("q", text)
    try:
        return _in_network("q", text)
    except FilterError:
        return or_(
            User.name_key.startswith(name_key(text), autoescape=True),
            UserSession.reference == text.casefold(),
        )
