"""Note how far the batches of a revocation have come in its own row, instead of in each target.

Revision: 0006
After: 0005
"""

import sqlalchemy as sa
from alembic import op

from app.columns import Id

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. A revocation that is under way begins at its first target again, which ends none twice."""
    op.add_column("revocations", sa.Column("reached", Id, server_default="0", nullable=False))
    op.drop_column("revocation_targets", "outcome")


def downgrade() -> None:
    """Take back."""
    op.add_column("revocation_targets", sa.Column("outcome", sa.String(length=16), nullable=True))
    op.execute(
        "UPDATE revocation_targets SET outcome ="
        " (SELECT CASE WHEN s.revocation_id = revocation_targets.revocation_id THEN 'ended'"
        " WHEN s.ended_at IS NOT NULL THEN 'already_ended' END"
        " FROM user_sessions s WHERE s.id = revocation_targets.row_id)"
        " WHERE revocation_id IN (SELECT id FROM revocations WHERE confirmed_at IS NOT NULL)"
    )
    op.drop_column("revocations", "reached")
