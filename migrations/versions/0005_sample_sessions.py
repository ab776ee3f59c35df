"""Sample how many sessions are live.

Revision: 0005
After: 0004
"""

import sqlalchemy as sa
from alembic import op

from app.columns import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "session_samples",
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("store", sa.String(length=16), nullable=False),
        sa.Column("live", sa.Integer(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("at", "store", name=op.f("pk_session_samples")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("session_samples")
