"""Find sessions: the pages of the list.

A page is one ledger query by keyset, then one look into each store for the rows on it.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    case,
    func,
    or_,
    select,
    true,
    tuple_,
)

from app.columns import AnyRow, clock, now
from app.people.models import Role
from app.sessions.filter import (
    FilterError,
    SessionFilter,
    ends_soon,
    for_a_filter,
    of_staff,
    seen_lately,
)
from app.sessions.models import UserSession
from app.sessions.rows import ROWS, SessionRow, looked_up
from app.sessions.stores.engines import PLANNED_ANEW
from app.sessions.system import system
from app.sessions.transaction import after_cutoff, cutoff_denies
from app.texts import gettext as _

LONGEST_PAGE = 200
SORTS = ("seen", "signed_in")
"""The orders of a list: the last one seen first (of the ended: the last to end), or the last to sign in."""

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
    where: SessionFilter,
    *,
    limit: int = 50,
    after: str | None = None,
    look_up: bool = True,
    sort: str = "seen",
) -> SessionPage:
    """Return a page of sessions, in one of SORTS.

    Raises FilterError for a bad cursor, StoreUnavailable("database").
    """
    limit = max(1, min(limit, LONGEST_PAGE))
    total, users, at = count_of(where)
    rows, unavailable, following = page_of(where, limit, after, look_up=look_up, sort=sort)
    return SessionPage(rows, total, users, following, unavailable, at, limit)


def walk(
    where: SessionFilter, after: str | None = None, sort: str = "seen"
) -> Iterator[tuple[SessionRow, ...]]:
    """Yield all that `find` would list, the longest pages one after the other, and count nothing.

    Raises FilterError for a bad cursor, StoreUnavailable("database").
    """
    while True:
        rows, _unavailable, after = page_of(where, LONGEST_PAGE, after, sort=sort)
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
    found = system.ledger.read(_counts(where, MOST_OF_USERS))[0]
    return found[0], found[1], found[2]


@for_a_filter
def _counts(where: SessionFilter, most_of_users: int) -> Select[Any]:
    # The limit keeps PostgreSQL from counting once for each mention.
    counted = select(number_of(where).label("total")).limit(1).subquery()
    few = select(UserSession.user_id).where(where.clause()).limit(most_of_users).subquery()
    users = select(func.count(few.c.user_id.distinct())).scalar_subquery()
    counts = select(counted.c.total, case((counted.c.total <= most_of_users, users)), clock())
    return counts.execution_options(**PLANNED_ANEW)


def number_of(where: SessionFilter) -> ColumnElement[int]:
    """Return, for a statement, how many sessions match. Members are all but the staff, who are few."""
    if where.to_query() == {"role": Role.MEMBER.value}:
        return number_live() - number_live(of_staff())
    quick = where.state == "live" and where.status in (None, "active")
    if not quick or set(where.to_query()) - {"store", "status"}:
        return _counted(where.clause())
    of_store = [] if where.store is None else [UserSession.store == where.store]
    if where.status is None:
        return number_live(*of_store)
    return _open_but(ends_soon(), *of_store, seen_lately())


def number_live(*which: ColumnElement[bool]) -> ColumnElement[int]:
    """Return, for a statement, how many of such sessions are live.

    They are counted as those without an end but for the few past a deadline, which an index finds:
    comparing a million rows with the clock would take five times as long.
    """
    idle, absolute = UserSession.idle_expires_at, UserSession.absolute_expires_at
    return _open_but(or_(idle <= now(), absolute <= now()), *which)


def _open_but(few: ColumnElement[bool], *which: ColumnElement[bool]) -> ColumnElement[int]:
    open_ = and_(UserSession.ended_at.is_(None), *which)
    denied = _counted(and_(open_, ~few, ~after_cutoff()))
    # A CASE and no condition: that would be looked at after PostgreSQL has started its workers.
    denied_if_any = case((cutoff_denies(), denied), else_=0)
    # By a CASE, for what narrows all is no way to find the few.
    of_few = func.count(case((and_(true(), *which), 1)))
    past = select(of_few).select_from(UserSession).where(UserSession.ended_at.is_(None), few)
    return _counted(open_) - past.scalar_subquery() - denied_if_any


def _counted(condition: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(UserSession).where(condition).scalar_subquery()


def page_of(
    where: SessionFilter,
    limit: int,
    after: str | None = None,
    *,
    look_up: bool = True,
    sort: str = "seen",
) -> tuple[tuple[SessionRow, ...], tuple[str, ...], str | None]:
    """Return the rows of a page, the stores that were silent, and the next page's cursor."""
    page = _page(where, sort, limit)
    if after is not None:
        key = _key(where, sort)
        page = page.where(tuple_(*key) < tuple_(*_from_cursor(after)[-len(key) :]))
    found = system.ledger.read(page)
    rows, unavailable = looked_up(found[:limit], look_up=look_up)
    return rows, unavailable, cursor_after(where, found[limit - 1]) if len(found) > limit else None


@for_a_filter
def _page(where: SessionFilter, sort: str, limit: int) -> Any:
    page = ROWS.where(where.clause()).order_by(*(column.desc() for column in _key(where, sort)))
    return page.limit(limit + 1).execution_options(**PLANNED_ANEW)


def _key(where: SessionFilter, sort: str) -> tuple[Any, ...]:
    """Return what the rows are in the order of. Ids grow with the sign-ins, and need no index of their own."""
    if sort == "signed_in":
        return (UserSession.id,)
    moment = UserSession.ended_at if where.state == "ended" else UserSession.last_seen_at
    return (moment, UserSession.id)


def cursor_after(where: SessionFilter, row: AnyRow) -> str:
    """Return the cursor of the page that follows a row."""
    at = row.ended_at if where.state == "ended" else row.last_seen_at
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
