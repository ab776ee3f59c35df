"""Find sessions: SessionFilter <-> query string <-> SQL. List, counts, exports and revocation share it.

A page is one ledger query by keyset, then one look into each store for the rows on it.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from ipaddress import ip_network
from typing import Any, Self

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, tuple_

from app.columns import AnyRow, clock
from app.people.models import Role, User
from app.people.names import name_key
from app.sessions.clients import ip_key
from app.sessions.models import UserSession
from app.sessions.rows import ROWS, SessionRow, looked_up
from app.sessions.system import system
from app.sessions.transaction import live

STATES = ("live", "ended")
LONGEST_PAGE = 200


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
class SessionPage:
    """A page of the list. `unavailable` names the stores that did not answer; `next` is a cursor."""

    rows: tuple[SessionRow, ...]
    total: int
    users: int
    next: str | None
    unavailable: tuple[str, ...]
    now: datetime
    limit: int


def find(
    where: SessionFilter, *, limit: int = 50, after: str | None = None, look_up: bool = True
) -> SessionPage:
    """Return a page of sessions, newest activity first (newest end first among the ended).

    Raises FilterError for a bad cursor, StoreUnavailable("database").
    """
    limit = max(1, min(limit, LONGEST_PAGE))
    moment = _moment(where)
    page = ROWS.where(where.clause()).order_by(moment.desc(), UserSession.id.desc())
    if after is not None:
        page = page.where(tuple_(moment, UserSession.id) < tuple_(*_from_cursor(after)))
    counted = select(func.count(), func.count(UserSession.user_id.distinct()), clock())
    counted = counted.select_from(UserSession).join(User, User.id == UserSession.user_id)
    counts = system.ledger.read(counted.where(where.clause()))[0]
    total, users, at = counts[0], counts[1], counts[2]
    found = system.ledger.read(page.limit(limit + 1))
    rows, unavailable = looked_up(found[:limit], look_up=look_up)
    more = _cursor(where, found[limit - 1]) if len(found) > limit else None
    return SessionPage(rows, total, users, more, unavailable, at, limit)


def of_user(user_id: int, *, ended: int = 10) -> tuple[list[SessionRow], list[SessionRow]]:
    """Return a user's live sessions and the last `ended` ones, newest first."""
    signed_in = find(SessionFilter(user_id=user_id), limit=LONGEST_PAGE)
    before = find(SessionFilter(state="ended", user_id=user_id), limit=ended, look_up=False)
    return list(signed_in.rows), list(before.rows)


def ids_matching(where: SessionFilter) -> Select[Any]:
    """Return the query for the ids of the sessions that match."""
    ids = select(UserSession.id).join(User, User.id == UserSession.user_id)
    return ids.where(where.clause())


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
