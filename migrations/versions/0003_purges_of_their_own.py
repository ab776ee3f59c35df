"""Note beside the ledger whose data is still to be deleted, so that noting it writes one small row.

Revision: 0003
After: 0002
"""

import sqlalchemy as sa
from alembic import op

from app.columns import Id, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "pending_purges",
        sa.Column("row_id", Id, autoincrement=False, nullable=False),
        sa.Column("store", sa.String(length=16), nullable=False),
        sa.Column("data_key", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_pending_purges")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # No session ends between the look at what waits and the end of the column that says so.
        op.execute("LOCK TABLE user_sessions IN SHARE ROW EXCLUSIVE MODE")
    op.execute(
        "INSERT INTO pending_purges (row_id, store, data_key) SELECT id, store, data_key"
        " FROM user_sessions WHERE ended_at IS NOT NULL AND purged_at IS NULL"
    )
    op.drop_index("ix_user_sessions_unpurged", table_name="user_sessions")
    # No batch: on SQLite that makes the table anew, and sessions and the cutoff name its rows.
    op.drop_column("user_sessions", "purged_at")


def downgrade() -> None:
    """Take back. When data was deleted is not known any more: it is taken to be when the session ended."""
    op.add_column("user_sessions", sa.Column("purged_at", UtcDateTime(), nullable=True))
    op.execute(
        "UPDATE user_sessions SET purged_at = ended_at"
        " WHERE ended_at IS NOT NULL AND id NOT IN (SELECT row_id FROM pending_purges)"
    )
    unpurged = sa.text("ended_at IS NOT NULL AND purged_at IS NULL")
    op.create_index(
        "ix_user_sessions_unpurged",
        "user_sessions",
        ["id"],
        postgresql_where=unpurged,
        sqlite_where=unpurged,
    )
    op.drop_table("pending_purges")
