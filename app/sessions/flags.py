"""Which live sessions need a look, in SQL: few flags, each of something that was seen.

`filter` and the pages ask with them; `rows` reads them with each row. An index holds the few rows that
can have a flag, but for `limit`, which looks at all that is live: ask for it where there are not too many.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from app.audit.models import AuditEvent, Verb
from app.columns import now
from app.people.models import User
from app.sessions.clients import ip_key
from app.sessions.models import GUESSES, UserAgent, UserSession
from app.sessions.system import system
from app.sessions.transaction import live

JUST_BEFORE = 15 * 60.0
"""Seconds before a sign-in within which failures of the same user count as just before it."""
_EVENTS = 200
"""How many of a user's newest events are looked through for them."""
_IPV4 = literal(ip_key("192.0.2.1")[:12], LargeBinary())

_MAY_HAVE_ONE = or_(
    UserSession.moved == literal_column("true"),
    UserSession.failed_before >= literal_column(str(GUESSES)),
    UserSession.missing_since.is_not(None),
)
"""The predicate of the index `flagged`, word for word, or no database would use it."""


def _words_of(user_agent_id: Any) -> Any:
    words = select(UserAgent.client).where(UserAgent.id == user_agent_id)
    return words.correlate(UserSession).scalar_subquery()


def _start(key: Any, length: int) -> Any:
    return func.substr(key, 1, length)


_FIRST, _LAST = UserSession.first_ip_key, UserSession.ip_key
_BOTH_IPV4 = and_(_start(_FIRST, 12) == _IPV4, _start(_LAST, 12) == _IPV4)
_BOTH_IPV6 = and_(_start(_FIRST, 12) != _IPV4, _start(_LAST, 12) != _IPV4)

_CLIENT: ColumnElement[bool] = and_(
    UserSession.first_user_agent_id != UserSession.user_agent_id,
    _words_of(UserSession.first_user_agent_id) != _words_of(UserSession.user_agent_id),
)
# A browser that has both kinds of address takes now one, now the other: that is no other network.
_NETWORK: ColumnElement[bool] = and_(
    UserSession.first_ip != UserSession.ip,
    or_(
        and_(_BOTH_IPV4, _start(_FIRST, 14) != _start(_LAST, 14)),
        and_(_BOTH_IPV6, _start(_FIRST, 4) != _start(_LAST, 4)),
    ),
)
_GUESSED: ColumnElement[bool] = UserSession.failed_before >= literal_column(str(GUESSES))
_LOST: ColumnElement[bool] = UserSession.missing_since.is_not(None)

OF_A_ROW: dict[str, ColumnElement[bool]] = {
    "client": _CLIENT,
    "network": _NETWORK,
    "guessed": _GUESSED,
    "lost": _LOST,
}
"""The flags that a row has by itself. Null is no flag: what was not recorded was not seen."""

LIMIT = "limit"
ANY = "any"
FLAGS = (*OF_A_ROW, LIMIT, ANY)
"""What `flag:` may say. Any is any but the limit, whose answer is no index's."""


def flagged(flag: str) -> ColumnElement[bool]:
    """Return the predicate of a flag over user_sessions, to be used with that of live sessions."""
    if flag == LIMIT:
        return UserSession.user_id.in_(select(crowded_users().subquery().c.user_id))
    wanted = list(OF_A_ROW.values()) if flag == ANY else [OF_A_ROW[flag]]
    return and_(UserSession.ended_at.is_(None), _MAY_HAVE_ONE, or_(*wanted))


def over_limit(user_ids: Sequence[int]) -> dict[int, int]:
    """Return those of the users who have more live sessions than their role allows, and how many."""
    if not user_ids:
        return {}
    crowded = _crowded(_limits(), among=True)
    found = system.ledger.read(crowded, {"user_ids": sorted(set(user_ids))})
    return {row.user_id: row.sessions for row in found}


def failed_just_before(user_id: int) -> int:
    """Count the failed sign-ins of a user in the last minutes, among their newest events."""
    newest = (
        select(AuditEvent.verb, AuditEvent.at)
        .where(AuditEvent.target_user_id == user_id)
        .order_by(AuditEvent.id.desc())
        .limit(_EVENTS)
        .subquery()
    )
    failed = select(func.count()).where(
        newest.c.verb == Verb.SIGN_IN_FAILED.value, newest.c.at > now(-JUST_BEFORE)
    )
    return int(system.ledger.read(failed)[0][0])


def crowded_users() -> Select[int, int]:
    """Return the query for users with more live sessions than their role allows: a limit was lowered."""
    return _crowded(_limits(), among=False)


def _limits() -> tuple[tuple[str, int], ...]:
    return tuple((role, rule.limit) for role, rule in system.policy.by_role.items())


@lru_cache(maxsize=16)
def _crowded(limits: tuple[tuple[str, int], ...], *, among: bool) -> Select[int, int]:
    """Return the query for the users over these limits, of all or `among` those of the parameter `user_ids`.

    Whoever has no more than the lowest limit is left out before anybody's role is looked up.
    """
    by_role = dict(limits)
    which = [UserSession.user_id.in_(bindparam("user_ids", expanding=True))] if among else []
    several = (
        select(UserSession.user_id, func.count().label("sessions"))
        .where(live(), *which)
        .group_by(UserSession.user_id)
        .having(func.count() > min(by_role.values()))
        .correlate(None)
        .subquery()
    )
    limit = case(by_role, value=User.role, else_=1)
    return (
        select(several.c.user_id, several.c.sessions)
        .join(User, User.id == several.c.user_id)
        .where(several.c.sessions > limit)
    )
