"""Let a million sessions be counted and ended.

Revision: 0002
After: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SESSIONS = "user_sessions"
_LIVE = "ended_at IS NULL"
_COUNTED = [
    "last_seen_at",
    "idle_expires_at",
    "absolute_expires_at",
    "started_at",
    "user_id",
    "ip_key",
]
_PARTIAL = {
    "user_agent_id": (["user_agent_id", "last_seen_at"], _LIVE),
    "idle_expires_at": (["ended_at", "idle_expires_at"], _LIVE),
    "absolute_expires_at": (["ended_at", "absolute_expires_at"], _LIVE),
}
"""Indexes that had all rows, and now only some: their columns, and which."""

_WITH_PARTIAL_INDEXES = ("postgresql", "sqlite")


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("revocation_targets", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_revocation_targets_row_id"), type_="foreignkey")
        batch_op.drop_constraint(
            batch_op.f("fk_revocation_targets_revocation_id"), type_="foreignkey"
        )

    with op.batch_alter_table("revocations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("already_ended", sa.Integer(), nullable=True))

    # The new one first: MariaDB keeps an index for its foreign key.
    _create("revocation_id_id", ["revocation_id", "id"], "revocation_id IS NOT NULL")
    _drop("revocation_id")
    _create("missing", ["id"], "missing_since IS NOT NULL")
    _create("counted", ["ended_at", "store", "id"], _LIVE, postgresql_include=_COUNTED)
    if _dialect() in _WITH_PARTIAL_INDEXES:
        for name, (columns, where) in _PARTIAL.items():
            _drop(name)
            _create(name, columns, where)


def downgrade() -> None:
    """Take back."""
    if _dialect() in _WITH_PARTIAL_INDEXES:
        for name, (columns, _where) in _PARTIAL.items():
            _drop(name)
            _create(name, columns)
    _drop("counted")
    _drop("missing")
    _create("revocation_id", ["revocation_id"])
    _drop("revocation_id_id")

    # No batch: on SQLite that makes the table anew, and sessions and the cutoff name its rows.
    op.drop_column("revocations", "already_ended")

    with op.batch_alter_table("revocation_targets", schema=None) as batch_op:
        batch_op.create_foreign_key(
            batch_op.f("fk_revocation_targets_revocation_id"),
            "revocations",
            ["revocation_id"],
            ["id"],
            ondelete="CASCADE",
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_revocation_targets_row_id"),
            "user_sessions",
            ["row_id"],
            ["id"],
            ondelete="CASCADE",
        )


def _dialect() -> str:
    return str(op.get_bind().dialect.name)


def _create(name: str, columns: list[str], where: str | None = None, **options: object) -> None:
    if where is not None:
        options |= {"postgresql_where": sa.text(where), "sqlite_where": sa.text(where)}
    op.create_index(f"ix_{_SESSIONS}_{name}", _SESSIONS, columns, **options)


def _drop(name: str) -> None:
    op.drop_index(f"ix_{_SESSIONS}_{name}", table_name=_SESSIONS)
