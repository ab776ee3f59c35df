"""Let no database look for the live ones in the index of the ended ones.

Revision: 0008
After: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SESSIONS = "user_sessions"
_NAME = f"ix_{_SESSIONS}_ended"
_COLUMNS = ["ended_at", "id", "started_at", "end_reason"]
_ENDED = sa.text("ended_at IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    if _can_be_partial():
        op.drop_index(_NAME, table_name=_SESSIONS)
        op.create_index(_NAME, _SESSIONS, _COLUMNS, postgresql_where=_ENDED, sqlite_where=_ENDED)


def downgrade() -> None:
    """Take back."""
    if _can_be_partial():
        op.drop_index(_NAME, table_name=_SESSIONS)
        op.create_index(_NAME, _SESSIONS, _COLUMNS)


def _can_be_partial() -> bool:
    return op.get_bind().dialect.name in ("postgresql", "sqlite")
