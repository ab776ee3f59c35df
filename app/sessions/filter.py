"""Which sessions are meant: SessionFilter <-> query string <-> SQL.

List, counts, exports and revocation share the one predicate that `clause` returns.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import lru_cache, partial
from ipaddress import ip_network
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, and_, case, exists, null, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from app.columns import now
from app.people.models import Role, User
from app.people.names import is_named, name_key
from app.sessions.clients import ip_key
from app.sessions.flags import FLAGS, LIMIT, flagged
from app.sessions.handles import REFERENCE_LENGTH
from app.sessions.models import EndReason, RevocationReason, UserAgent, UserSession
from app.sessions.system import system
from app.sessions.timeouts import ACTIVE_WITHIN, EXPIRING_WITHIN
from app.sessions.tokens import BadSearch, fields_of, text_of, words_of
from app.sessions.transaction import live, overdue
from app.texts import gettext as _

T = TypeVar("T")

STATES = ("live", "overdue", "ended")
"""Overdue is what is past a deadline and not live any more, while no worker has recorded it."""

STATUSES = ("active", "idle", "expiring")
"""What a live session is, as `timeouts.status` says it."""

MOST_WORDS = 20
"""Plain words in a search: each is a question of its own to the database, in each statement of the page."""

_OF_THE_ENDED = ("ended", "reason", "by")
_OF_THE_LIVE = ("status", "flag")
_DURATION = re.compile(r"([<>]?)\s*(\d{1,5})\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


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
    status: str | None = None
    client: str | None = None
    reference: str | None = None
    idle: str | None = None
    age: str | None = None
    ended: str | None = None
    reason: str | None = None
    by: str | None = None
    flag: str | None = None
    q: str | None = None

    @classmethod
    def from_query(cls, args: Mapping[str, str]) -> Self:
        """Read a query string, whose `q` may hold tokens for the other fields.

        Raises FilterError for a value that is not allowed; what `q` is to blame for has that field.
        """
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
        typed = _typed(given)
        given |= typed
        if any(name in given for name in _OF_THE_ENDED):
            given.setdefault("state", "ended")
        where = cls(**given)  # type: ignore[arg-type]
        try:
            where.check()
        except FilterError as error:
            if error.field in typed:
                raise FilterError("q", error.message) from None
            raise
        return where

    def to_query(self) -> dict[str, str]:
        """Return the query string's pairs; the default state is left out."""
        pairs = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: str(value)
            for name, value in pairs.items()
            if value is not None and (name, value) != ("state", "live")
        }

    def to_text(self) -> str:
        """Return the filter as one would type it into the search box."""
        return text_of(self.to_query())

    def check(self) -> None:
        """Raise FilterError for a value that is not allowed."""
        for name, check in _CHECKS.items():
            if (value := getattr(self, name)) is not None:
                check(name, value)
        for name in _OF_THE_ENDED:
            if getattr(self, name) is not None and self.state != "ended":
                message = _("Only sessions that have ended have this; choose those too.")
                raise FilterError(name, message)
        for name in _OF_THE_LIVE:
            if getattr(self, name) is not None and self.state != "live":
                message = _("Only sessions that are signed in have this; choose those.")
                raise FilterError(name, message)

    @property
    def narrows(self) -> bool:
        """Say whether anything is left out but what has ended."""
        return bool(self.to_query())

    def clause(self) -> ColumnElement[bool]:
        """Return the filter as one SQL predicate over user_sessions alone: counting needs no join."""
        return and_(_STATES[self.state](), *self.narrowing())

    def narrowing(self) -> list[ColumnElement[bool]]:
        """Return what the predicate says beside the state."""
        chosen = {name: getattr(self, name) for name in _CLAUSES}
        return [_CLAUSES[name](value) for name, value in chosen.items() if value is not None]


def for_a_filter(build: Callable[..., T]) -> Callable[..., T]:
    """Keep the statements that a function builds for filters: building one takes as long as running it.

    What is over the limit depends on the application's policy, and is built each time.
    """
    kept = lru_cache(maxsize=64)(build)

    def built(where: SessionFilter, *further: Any) -> T:
        return (build if where.flag == LIMIT else kept)(where, *further)

    return built


def status_in_sql() -> ColumnElement[str]:
    """Return the status of a live session: what `timeouts.status` says, for the database to say."""
    return case(*((_status(word), word) for word in STATUSES))


def _typed(given: dict[str, str]) -> dict[str, str]:
    """Take `q` out of what was given and return the fields that it names."""
    try:
        typed = fields_of(given.pop("q", ""))
        if twice := typed.keys() & given.keys():
            text = text_of({name: typed[name] for name in twice})
            raise BadSearch(_("“%(text)s” is filtered by already.", text=text))
    except BadSearch as error:
        raise FilterError("q", str(error)) from None
    return typed


def _one_of(*allowed: str) -> Callable[[str, str], None]:
    def check(field: str, value: str) -> None:
        if value not in allowed:
            raise FilterError(
                field, _("%(field)s can be: %(allowed)s.", field=field, allowed=", ".join(allowed))
            )

    return check


def _is_store(field: str, value: str) -> None:
    _one_of(*system.stores.names)(field, value)


def _are_words(field: str, value: str) -> None:
    words = words_of(value)
    if len(words) > MOST_WORDS:
        raise FilterError(field, _("Use at most %(n)d plain words.", n=MOST_WORDS))
    for word in words:
        if "/" in word:
            _network(field, word)


def _network(field: str, text: str) -> tuple[bytes, bytes]:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        message = _("Give an address or a network, as 10.31.4.7, 10.31.0.0/16 or 2001:db8::/32.")
        raise FilterError(field, message) from None
    return ip_key(str(network[0])), ip_key(str(network[-1]))


def _duration(field: str, text: str) -> tuple[str, timedelta]:
    """Return whether more or less is meant, and than what."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise FilterError(field, _("Give a time, as %(field)s:>20m, <30s, 8h or 2d.", field=field))
    sign, number, unit = found.groups()
    return sign or ">", timedelta(**{_UNITS[unit]: int(number)})


def _in_network(text: str) -> ColumnElement[bool]:
    first, last = _network("ip", text)
    return UserSession.ip_key.between(first, last)


def _passed(since: InstrumentedAttribute[Any], text: str) -> ColumnElement[bool]:
    sign, length = _duration("", text)
    then = now(-length.total_seconds())
    return since < then if sign == ">" else since > then


def _client(text: str) -> ColumnElement[bool]:
    """Match clients in whose words these stand."""
    named = UserAgent.client.icontains(text, autoescape=True)
    return UserSession.user_agent_id.in_(select(UserAgent.id).where(named))


def _words(text: str) -> ColumnElement[bool]:
    return and_(*(_word(word) for word in words_of(text)))


def _word(text: str) -> ColumnElement[bool]:
    """Match a user by the beginning of the name, a session by its reference, or an address."""
    try:
        return _in_network(text)
    except FilterError:
        pass
    begins = User.name_key.startswith(name_key(text), autoescape=True)
    if len(text) != REFERENCE_LENGTH:
        return _of_user(begins)
    theirs = select(UserSession.id).join(User, User.id == UserSession.user_id).where(begins)
    named = select(UserSession.id).where(UserSession.reference == text.casefold())
    return UserSession.id.in_(theirs.union_all(named))


def _user(name: str) -> ColumnElement[bool]:
    found = select(User.id).where(User.name_key == name_key(name))
    return UserSession.user_id == found.scalar_subquery()


def _role(role: str) -> ColumnElement[bool]:
    """Match the sessions of a role. Staff are few: members are all who are none of them."""
    return _of_user(User.role == role) if Role(role).is_staff else ~of_staff()


def of_staff() -> ColumnElement[bool]:
    """Match the sessions of whoever is no member."""
    return _of_user(User.role.in_([role.value for role in Role if role.is_staff]))


def _status(word: str) -> ColumnElement[bool]:
    """Match a status. Those that end soon are few, and found by their deadlines' indexes."""
    if word == "expiring":
        return ends_soon()
    return and_(seen_lately() if word == "active" else ~seen_lately(), ~ends_soon())


def seen_lately() -> ColumnElement[bool]:
    """Match what is active unless it ends soon."""
    return UserSession.last_seen_at > now(-ACTIVE_WITHIN.total_seconds())


def ends_soon() -> ColumnElement[bool]:
    """Match what is expiring, or past its deadline."""
    soon = now(EXPIRING_WITHIN.total_seconds())
    return or_(UserSession.idle_expires_at < soon, UserSession.absolute_expires_at < soon)


def _of_user(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    whose = select(null()).select_from(User).where(User.id == UserSession.user_id, condition)
    return exists(whose).correlate(UserSession)


_STATES: dict[str, Callable[[], ColumnElement[bool]]] = {
    "live": live,
    "overdue": overdue,
    "ended": lambda: UserSession.ended_at.is_not(None),
}

_CHECKS: dict[str, Callable[[str, str], object]] = {
    "state": _one_of(*STATES),
    "status": _one_of(*STATUSES),
    "store": _is_store,
    "role": _one_of(*Role),
    "reason": _one_of(*dict.fromkeys([*EndReason, *RevocationReason])),
    "flag": _one_of(*FLAGS),
    "ip": _network,
    "idle": _duration,
    "age": _duration,
    "ended": _duration,
    "q": _are_words,
}

_CLAUSES: dict[str, Callable[[Any], ColumnElement[bool]]] = {
    "user": _user,
    "user_id": lambda user_id: UserSession.user_id == user_id,
    "ip": _in_network,
    "store": lambda name: UserSession.store == name,
    "role": _role,
    "status": _status,
    "client": _client,
    "reference": lambda reference: UserSession.reference == reference.casefold(),
    "idle": partial(_passed, UserSession.last_seen_at),
    "age": partial(_passed, UserSession.started_at),
    "ended": partial(_passed, UserSession.ended_at),
    "reason": lambda code: or_(UserSession.end_reason == code, UserSession.reason_code == code),
    "by": partial(is_named, UserSession.ended_by),
    "flag": flagged,
    "q": _words,
}
"""What each field adds to the predicate."""
