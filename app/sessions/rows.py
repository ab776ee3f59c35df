"""A session as it is shown: its row, and whether its store still has its data.

`search`, `freeze`, the pages and the commands read sessions through it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import aliased

from app.columns import AnyRow, clock
from app.people.models import User
from app.sessions.flags import OF_A_ROW
from app.sessions.models import PendingPurge, UserAgent, UserSession
from app.sessions.store import DataKey, StoreUnavailable, UnreadablePayload
from app.sessions.stores import budget
from app.sessions.system import system
from app.sessions.timeouts import status
from app.sessions.transaction import live

_LOOK = 0.4
"""Seconds that a page waits for the stores of the sessions on it: it says which were silent."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as pages, exports and the CLI show it. Times are UTC.

    `flags` are those of a live session that its row has by itself. Without `tell_user` the note is staff's
    alone.

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
    tell_user: bool = False
    missing_since: datetime | None = None
    failed_before: int = 0
    flags: tuple[str, ...] = ()
    present: bool | None = None
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ValueName:
    """A value of a session, without the value: its name, type and size in bytes."""

    name: str
    type: str
    size: int


_FirstAgent = aliased(UserAgent)

ROWS = (
    select(
        UserSession,
        User.name,
        User.role,
        UserAgent.client,
        UserAgent.header,
        _FirstAgent.client.label("first_client"),
        clock().label("now"),
        live().label("live"),
        select(PendingPurge.row_id)
        .where(PendingPurge.row_id == UserSession.id)
        .exists()
        .label("purge_pending"),
        *(flag.label(f"flag_{name}") for name, flag in OF_A_ROW.items()),
    )
    .join(User, User.id == UserSession.user_id)
    .join(UserAgent, UserAgent.id == UserSession.user_agent_id)
    .join(_FirstAgent, _FirstAgent.id == UserSession.first_user_agent_id)
)
ROWS = ROWS.with_only_columns(
    *UserSession.__table__.c,
    *[column for column in ROWS.selected_columns if column.table is not UserSession.__table__],
)


def get(reference: str) -> SessionRow | None:
    """Return one session by its reference, looked up in its store; None if there is none."""
    found = system.ledger.read(ROWS.where(UserSession.reference == reference.casefold()))
    rows, _unavailable = looked_up(found, look_up=True)
    return rows[0] if rows else None


def by_ids(row_ids: list[int]) -> list[SessionRow]:
    """Return sessions by their ledger ids, in that order of ids, looked up in their stores."""
    found = system.ledger.read(ROWS.where(UserSession.id.in_(row_ids)).order_by(UserSession.id))
    return list(looked_up(found, look_up=True)[0])


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
        ValueName(name, type(value).__name__, system.codec.size(value))
        for name, value in sorted(data.items())
    ]


def looked_up(
    found: Sequence[AnyRow], *, look_up: bool
) -> tuple[tuple[SessionRow, ...], tuple[str, ...]]:
    """Ask each store once which of the rows' payloads it has."""
    by_store: dict[str, list[DataKey]] = {}
    for row in found if look_up else ():
        if _may_have_data(row):
            by_store.setdefault(row.store, []).append(DataKey(row.data_key))
    with budget.within(_LOOK):
        present, silent = system.stores.present(by_store)
    rows = []
    for row in found:
        if look_up and not _may_have_data(row):
            rows.append(_shown(row, present=False))
        elif look_up and row.store not in silent:
            ttl = present.get(row.store, {}).get(DataKey(row.data_key))
            rows.append(_shown(row, present=ttl is not None, ttl=ttl))
        else:
            rows.append(_shown(row))
    return tuple(rows), tuple(sorted(silent))


def _may_have_data(row: AnyRow) -> bool:
    return row.ended_at is None or bool(row.purge_pending)


def _shown(row: AnyRow, *, present: bool | None = None, ttl: timedelta | None = None) -> SessionRow:
    word = "ended"
    flags: tuple[str, ...] = ()
    if row.live:
        flags = tuple(name for name in OF_A_ROW if getattr(row, f"flag_{name}"))
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
        tell_user=row.tell_user,
        missing_since=row.missing_since,
        failed_before=row.failed_before,
        flags=flags,
        present=present,
        ttl=ttl,
    )
