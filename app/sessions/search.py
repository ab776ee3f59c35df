"""Find sessions: the pages of the list.

A page is one ledger query by keyset, then one look into each store for the rows on it.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import Select, func, select, tuple_

from app.columns import AnyRow, clock
from app.people.models import User
from app.sessions.filter import FilterError, SessionFilter
from app.sessions.models import UserSession
from app.sessions.rows import ROWS, SessionRow, looked_up
from app.sessions.system import system

LONGEST_PAGE = 200


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
