"""Require a new password, and flag what needs a look.

Revision: 0004
After: 0003
"""

import sqlalchemy as sa
from alembic import op

from app.columns import FixedBinary

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SESSIONS = "user_sessions"
_FLAGGED = sa.text(
    "ended_at IS NULL AND (moved = true OR failed_before >= 5 OR missing_since IS NOT NULL)"
)


def _no(name: str) -> sa.Column[bool]:
    """Return a column that is false in what is there already."""
    return sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)


def upgrade() -> None:
    """Apply."""
    op.add_column("users", _no("new_password_required"))
    op.add_column("revocations", _no("new_password"))
    op.add_column("revocations", sa.Column("draft", sa.JSON(), nullable=True))

    # Of sessions that are there the first network stays unknown: that flag is not theirs.
    op.add_column(_SESSIONS, sa.Column("first_ip_key", FixedBinary(16), nullable=True))
    op.add_column(_SESSIONS, _no("moved"))
    op.add_column(
        _SESSIONS, sa.Column("failed_before", sa.Integer(), server_default="0", nullable=False)
    )
    op.create_index(
        f"ix_{_SESSIONS}_flagged",
        _SESSIONS,
        ["id"],
        postgresql_where=_FLAGGED,
        sqlite_where=_FLAGGED,
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index(f"ix_{_SESSIONS}_flagged", table_name=_SESSIONS)
    # No batch: on SQLite that makes the table anew, and sessions and the cutoff name its rows.
    for column in ("failed_before", "moved", "first_ip_key"):
        op.drop_column(_SESSIONS, column)
    op.drop_column("revocations", "draft")
    op.drop_column("revocations", "new_password")
    op.drop_column("users", "new_password_required")
