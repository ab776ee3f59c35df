"""Let counts of live sessions begin where the index has what they look for.

Revision: 0007
After: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SESSIONS = "user_sessions"
_LIVE = sa.text("ended_at IS NULL")
_COUNTED = [
    "last_seen_at",
    "idle_expires_at",
    "absolute_expires_at",
    "started_at",
    "user_id",
    "ip_key",
]
_OF_LIVE = {
    "counted": (["store", "id"], {"postgresql_include": _COUNTED}),
    "idle_expires_at": (["idle_expires_at"], {}),
    "absolute_expires_at": (["absolute_expires_at"], {}),
}
"""Indexes that had `ended_at` first: PostgreSQL reads one of live rows only from end to end then."""


def upgrade() -> None:
    """Apply."""
    for name, (columns, options) in _OF_LIVE.items():
        if _is_partial():
            _drop(name)
            _create(name, [*columns, "ended_at"], **options)
        else:
            _rename(name, f"ended_at_{name}")
    if _is_partial():
        _create("started_at", ["started_at", "ended_at"])
    else:
        _create("ended_at_started_at", ["ended_at", "started_at"])
    columns = ["ended_at", "id", "started_at", "end_reason"]
    op.create_index(f"ix_{_SESSIONS}_ended", _SESSIONS, columns)
    _drop("ended_at_id")


def downgrade() -> None:
    """Take back."""
    op.create_index(f"ix_{_SESSIONS}_ended_at_id", _SESSIONS, ["ended_at", "id"])
    _drop("ended")
    _drop("started_at" if _is_partial() else "ended_at_started_at")
    for name, (columns, options) in _OF_LIVE.items():
        if _is_partial():
            _drop(name)
            _create(name, ["ended_at", *columns], **options)
        else:
            _rename(f"ended_at_{name}", name)


def _is_partial() -> bool:
    return op.get_bind().dialect.name in ("postgresql", "sqlite")


def _create(name: str, columns: list[str], **options: object) -> None:
    op.create_index(
        f"ix_{_SESSIONS}_{name}",
        _SESSIONS,
        columns,
        postgresql_where=_LIVE,
        sqlite_where=_LIVE,
        **options,
    )


def _drop(name: str) -> None:
    op.drop_index(f"ix_{_SESSIONS}_{name}", table_name=_SESSIONS)


def _rename(old: str, new: str) -> None:
    op.execute(f"ALTER TABLE {_SESSIONS} RENAME INDEX ix_{_SESSIONS}_{old} TO ix_{_SESSIONS}_{new}")
