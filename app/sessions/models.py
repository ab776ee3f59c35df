"""The ledger's tables: every signed-in session from sign-in to its end and after it."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, Integer, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.columns import FixedBinary, Id, UtcDateTime
from app.extensions import Base


class EndReason(StrEnum):
    """How a session ended."""

    SIGNED_OUT = "signed_out"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    IDLE_TIMEOUT = "idle_timeout"
    ABSOLUTE_TIMEOUT = "absolute_timeout"
    PASSWORD_CHANGED = "password_changed"
    USER_DISABLED = "user_disabled"
    ROLE_CHANGED = "role_changed"
    LOST = "lost"
    DAMAGED = "damaged"


class RevocationReason(StrEnum):
    """Why a person ended someone's session."""

    INCIDENT = "incident"
    LOST_DEVICE = "lost_device"
    LEFT_COMPANY = "left_company"
    USER_REQUEST = "user_request"
    POLICY = "policy"
    OTHER = "other"


class UserAgent(Base):
    """A User-Agent header, interned by its digest, with the client it names."""

    __tablename__ = "user_agents"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[bytes] = mapped_column(FixedBinary(32), unique=True)
    header: Mapped[str] = mapped_column(Text)
    client: Mapped[str] = mapped_column(String(80), index=True)


_LIVE, _ENDED = "ended_at IS NULL", "ended_at IS NOT NULL"
GUESSES = 5
"""From so many failed sign-ins just before on, a session needs a look."""
_COUNTED = (
    "last_seen_at",
    "idle_expires_at",
    "absolute_expires_at",
    "started_at",
    "user_id",
    "ip_key",
)


_PARTIAL = ("postgresql", "sqlite")
"""The databases whose indexes can hold some rows only."""


def _partial(
    name: str, where: str, *columns: str, include: Sequence[str] = (), **info: object
) -> Index:
    """Return an index of some rows only, where the database can do that; MariaDB's has them all."""
    return Index(
        f"ix_user_sessions_{name}",
        *columns,
        postgresql_where=text(where),
        postgresql_include=include,
        sqlite_where=text(where),
        info=info,
    )


def _of_live(name: str, *columns: str, include: Sequence[str] = ()) -> tuple[Index, Index]:
    """Return an index that begins at these columns of live rows, and the one that MariaDB has instead.

    That one holds all rows, so `ended_at` comes first. Elsewhere it comes last: PostgreSQL takes
    `ended_at IS NULL` for said by the index and would not begin at a column behind it, and SQLite reads
    no row where the column is there.
    """
    last = _partial(name, _LIVE, *columns, "ended_at", include=include, databases=_PARTIAL)
    first = f"ix_user_sessions_ended_at_{name}"
    return last, Index(first, "ended_at", *columns, info={"databases": ("mariadb",)})


def is_on(item: Any, database: str) -> bool:
    """Say whether an index, or what else the tables are made of, is there on a database: for Alembic."""
    return database in item.info.get("databases", (database,))


class UserSession(Base):
    """A row of the ledger. Only `ledger`, `sign_in` and `revocation` write it.

    `moved` says that address or client were others than at sign-in when it was last seen, `failed_before`
    how many sign-ins of its user had failed just before it: `flags` goes by them.
    """

    __tablename__ = "user_sessions"
    __table_args__ = (
        _partial("live_last_seen", _LIVE, "last_seen_at", "id"),
        Index("ix_user_sessions_user_id_ended_at", "user_id", "ended_at", "id"),
        # With what is counted of those that began or ended in a time. Of them alone: SQLite takes the live
        # ones for as few as those that ended at one moment, and would look for all of them here.
        _partial("ended", _ENDED, "ended_at", "id", "started_at", "end_reason"),
        # It holds all that counting the live ones reads, so that counting needs no row.
        *_of_live("counted", "store", "id", include=_COUNTED),
        Index("ix_user_sessions_ip_key", "ip_key", "last_seen_at"),
        # A row that ends leaves these, which is less to write when many end at once.
        _partial("user_agent_id", _LIVE, "user_agent_id", "last_seen_at"),
        *_of_live("idle_expires_at", "idle_expires_at"),
        *_of_live("absolute_expires_at", "absolute_expires_at"),
        *_of_live("started_at", "started_at"),
        _partial(
            "flagged",
            f"{_LIVE} AND (moved = true OR failed_before >= {GUESSES} OR missing_since IS NOT NULL)",
            "id",
        ),
        _partial("missing", "missing_since IS NOT NULL", "id"),
        _partial("revocation_id_id", "revocation_id IS NOT NULL", "revocation_id", "id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    reference: Mapped[str] = mapped_column(String(10), unique=True)
    handle: Mapped[bytes] = mapped_column(FixedBinary(32), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    store: Mapped[str] = mapped_column(String(16))
    data_key: Mapped[str] = mapped_column(String(64))

    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    idle_expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    absolute_expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    stepped_up_at: Mapped[datetime] = mapped_column(UtcDateTime)
    regenerations: Mapped[int] = mapped_column(Integer, default=0)

    first_ip: Mapped[str] = mapped_column(String(45))
    ip: Mapped[str] = mapped_column(String(45))
    ip_key: Mapped[bytes] = mapped_column(FixedBinary(16))
    first_ip_key: Mapped[bytes | None] = mapped_column(FixedBinary(16))
    moved: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    failed_before: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    first_user_agent_id: Mapped[int] = mapped_column(ForeignKey("user_agents.id"))
    user_agent_id: Mapped[int] = mapped_column(ForeignKey("user_agents.id"))

    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    end_reason: Mapped[str | None] = mapped_column(String(20))
    ended_by: Mapped[str | None] = mapped_column(String(64))
    revocation_id: Mapped[int | None] = mapped_column(ForeignKey("revocations.id"))
    superseded_by_id: Mapped[int | None] = mapped_column(Id)
    reason_code: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(Text)
    tell_user: Mapped[bool] = mapped_column(Boolean, default=False)

    missing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PendingPurge(Base):
    """The data of a session that has ended: to be deleted, until its store has answered that it is.

    A table of its own, for to mark it in the ledger's row would write that, and all its indexes, again.
    """

    __tablename__ = "pending_purges"

    row_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    store: Mapped[str] = mapped_column(String(16))
    data_key: Mapped[str] = mapped_column(String(64))


class Revocation(Base):
    """A frozen set of targets, bound to who froze it; confirmed, it becomes the receipt.

    Everyone's set has no targets: it is what was live at `created_at`, but for `held_back`. Once it is
    done, `already_ended` says how many of it had ended otherwise. Its batches have run up to the row
    `reached`. `draft` is what was typed on the review
    before the password was asked for; `new_password` requires one of everybody whose session is in the set.
    """

    __tablename__ = "revocations"
    # The trail names revocations by id, so that of a set which was never confirmed is not used again.
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor_user_id: Mapped[int | None] = mapped_column(Id, index=True)
    actor_name: Mapped[str] = mapped_column(String(64))
    actor: Mapped[dict[str, Any]] = mapped_column(JSON)
    matched_by: Mapped[str] = mapped_column(String(500))
    whole_store: Mapped[str | None] = mapped_column(String(16))
    everyone: Mapped[bool] = mapped_column(Boolean, default=False)
    held_back: Mapped[str | None] = mapped_column(String(10))
    left_out: Mapped[int] = mapped_column(Integer, default=0)
    size: Mapped[int] = mapped_column(Integer)
    already_ended: Mapped[int | None] = mapped_column(Integer)
    reason: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(Text)
    tell_user: Mapped[bool] = mapped_column(Boolean, default=False)
    new_password: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    draft: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    reached: Mapped[int] = mapped_column(Id, default=0, server_default="0")
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    present: Mapped[int | None] = mapped_column(Integer)
    read_back_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RevocationTarget(Base):
    """One session of a frozen set. What became of it is told by the ledger's row.

    It has no foreign keys: checking them would lock each session that is frozen, and take most of the
    time. `upkeep` deletes targets before what they name.
    """

    __tablename__ = "revocation_targets"
    __table_args__ = (Index("ix_revocation_targets_row_id", "row_id"),)

    revocation_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    row_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)


class Cutoff(Base):
    """The one row that denies everyone at once: sessions that began before `at` are not live, but for one."""

    __tablename__ = "cutoff"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    spared_id: Mapped[int | None] = mapped_column(Id)
    revocation_id: Mapped[int | None] = mapped_column(ForeignKey("revocations.id"))


class SessionSample(Base):
    """How many sessions of a store were live at a time, and how many of them active. `upkeep` writes it."""

    __tablename__ = "session_samples"

    at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    store: Mapped[str] = mapped_column(String(16), primary_key=True)
    live: Mapped[int] = mapped_column(Integer)
    active: Mapped[int] = mapped_column(Integer)
