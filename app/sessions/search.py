"""Find sessions: the pages of the list.

A page is one ledger query by keyset, then one look into each store for the rows on it.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import Select, case, func, select, tuple_

from app.columns import AnyRow, clock
from app.sessions.filter import FilterError, SessionFilter
from app.sessions.models import UserSession
from app.sessions.rows import ROWS, SessionRow, looked_up
from app.sessions.stores.engines import PLANNED_ANEW
from app.sessions.system import system

LONGEST_PAGE = 200
MOST_OF_USERS = 10_000
"""The most sessions of which a list says how many users they are."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of the list. `unavailable` names the stores that did not answer; `next` is a cursor.

    `total` is exact. `users` is None where there are over MOST_OF_USERS sessions: telling apart whose
    a million are would take longer than all else on the page.
    """

    rows: tuple[SessionRow, ...]
    total: int
    users: int | None
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
    total, users, at = count_of(where)
    rows, unavailable, following = page_of(where, limit, after, look_up=look_up)
    return SessionPage(rows, total, users, following, unavailable, at, limit)


def walk(where: SessionFilter, after: str | None = None) -> Iterator[tuple[SessionRow, ...]]:
    """Yield all that `find` would list, the longest pages one after the other, and count nothing.

    Raises FilterError for a bad cursor, StoreUnavailable("database").
    """
    while True:
        rows, _unavailable, after = page_of(where, LONGEST_PAGE, after)
        yield rows
        if after is None:
            return


def of_user(user_id: int, *, ended: int = 10) -> tuple[list[SessionRow], list[SessionRow]]:
    """Return a user's live sessions and the last `ended` ones, newest first."""
    signed_in = find(SessionFilter(user_id=user_id), limit=LONGEST_PAGE)
    before = find(SessionFilter(state="ended", user_id=user_id), limit=ended, look_up=False)
    return list(signed_in.rows), list(before.rows)


def ids_matching(where: SessionFilter) -> Select[Any]:
    """Return the query for the ids of the sessions that match."""
    return select(UserSession.id).where(where.clause())


def count_of(where: SessionFilter) -> tuple[int, int | None, datetime]:
    """Return how many sessions match, of how many users if they are few, and the time."""
    matching = where.clause()
    few = select(UserSession.user_id).where(matching).limit(MOST_OF_USERS).subquery()
    users = select(func.count(few.c.user_id.distinct())).scalar_subquery()
    total = func.count()
    counts = select(total, case((total <= MOST_OF_USERS, users)), clock())
    counts = counts.select_from(UserSession).where(matching)
    counted = system.ledger.read(counts.execution_options(**PLANNED_ANEW))[0]
    return counted[0], counted[1], counted[2]


def page_of(
    where: SessionFilter, limit: int, after: str | None = None, *, look_up: bool = True
) -> tuple[tuple[SessionRow, ...], tuple[str, ...], str | None]:
    """Return the rows of a page, the stores that were silent, and the next page's cursor."""
    moment = _moment(where)
    page = ROWS.where(where.clause()).order_by(moment.desc(), UserSession.id.desc())
    if after is not None:
        page = page.where(tuple_(moment, UserSession.id) < tuple_(*_from_cursor(after)))
    found = system.ledger.read(page.limit(limit + 1).execution_options(**PLANNED_ANEW))
    rows, unavailable = looked_up(found[:limit], look_up=look_up)
    return rows, unavailable, cursor_after(where, found[limit - 1]) if len(found) > limit else None


def _moment(where: SessionFilter) -> Any:
    return UserSession.last_seen_at if where.state == "live" else UserSession.ended_at


def cursor_after(where: SessionFilter, row: AnyRow) -> str:
    """Return the cursor of the page that follows a row."""
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
