"""Require a new password.

Revision: 0004
After: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    required = sa.Column(
        "new_password_required", sa.Boolean(), server_default=sa.false(), nullable=False
    )
    op.add_column("users", required)
    op.add_column(
        "revocations",
        sa.Column("new_password", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("revocations", sa.Column("draft", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take back."""
    # No batch: on SQLite that makes the table anew, and sessions and the cutoff name its rows.
    op.drop_column("revocations", "draft")
    op.drop_column("revocations", "new_password")
    op.drop_column("users", "new_password_required")
