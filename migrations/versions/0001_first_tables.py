"""Make people, the ledger, revocations, the trail and the SQL store's table.

Revision: 0001
After:
"""

import sqlalchemy as sa
from alembic import op
from flask import current_app
from sqlalchemy.dialects import mysql

from app.columns import FixedBinary, Id, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _payloads() -> str:
    """Return the name of the SQL store's table, which is a setting."""
    name = current_app.config["SESSION_SQLALCHEMY_TABLE"]
    assert isinstance(name, str)
    return name


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "audit_events",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("verb", sa.String(length=40), nullable=False),
        sa.Column("result", sa.String(length=10), nullable=False),
        sa.Column("actor_kind", sa.String(length=10), nullable=False),
        sa.Column("actor_user_id", Id, nullable=True),
        sa.Column("actor_name", sa.String(length=64), nullable=False),
        sa.Column("actor_role", sa.String(length=16), nullable=True),
        sa.Column("actor_reference", sa.String(length=10), nullable=True),
        sa.Column("ip", sa.String(length=45), nullable=True),
        sa.Column("request_id", sa.String(length=36), nullable=True),
        sa.Column("target_user_id", Id, nullable=True),
        sa.Column("target_name", sa.String(length=64), nullable=True),
        sa.Column("reference", sa.String(length=10), nullable=True),
        sa.Column("revocation_id", Id, nullable=True),
        sa.Column("reason", sa.String(length=20), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index(
            "ix_audit_events_actor_user_id_id", ["actor_user_id", "id"], unique=False
        )
        batch_op.create_index("ix_audit_events_at_id", ["at", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_events_reference"), ["reference"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_audit_events_revocation_id"), ["revocation_id"], unique=False
        )
        batch_op.create_index(
            "ix_audit_events_target_user_id_id", ["target_user_id", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_audit_events_verb"), ["verb"], unique=False)

    op.create_table(
        "revocations",
        sa.Column("id", Id, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("actor_user_id", Id, nullable=True),
        sa.Column("actor_name", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.JSON(), nullable=False),
        sa.Column("matched_by", sa.String(length=500), nullable=False),
        sa.Column("whole_store", sa.String(length=16), nullable=True),
        sa.Column("everyone", sa.Boolean(), nullable=False),
        sa.Column("held_back", sa.String(length=10), nullable=True),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("tell_user", sa.Boolean(), nullable=False),
        sa.Column("confirmed_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("present", sa.Integer(), nullable=True),
        sa.Column("read_back_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revocations")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("revocations", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_revocations_actor_user_id"), ["actor_user_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_revocations_confirmed_at"), ["confirmed_at"], unique=False
        )

    op.create_table(
        "user_agents",
        sa.Column("id", Id, nullable=False),
        sa.Column("digest", FixedBinary(length=32), nullable=False),
        sa.Column("header", sa.Text(), nullable=False),
        sa.Column("client", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_agents")),
        sa.UniqueConstraint("digest", name=op.f("uq_user_agents_digest")),
    )
    with op.batch_alter_table("user_agents", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_user_agents_client"), ["client"], unique=False)

    op.create_table(
        "users",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("password_changed_at", UtcDateTime(), nullable=False),
        sa.Column("disabled_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name_key", name=op.f("uq_users_name_key")),
    )
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_users_role"), ["role"], unique=False)

    op.create_table(
        "cutoff",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("spared_id", Id, nullable=True),
        sa.Column("revocation_id", Id, nullable=True),
        sa.ForeignKeyConstraint(
            ["revocation_id"], ["revocations.id"], name=op.f("fk_cutoff_revocation_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cutoff")),
    )
    op.create_table(
        "user_sessions",
        sa.Column("id", Id, nullable=False),
        sa.Column("reference", sa.String(length=10), nullable=False),
        sa.Column("handle", FixedBinary(length=32), nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("store", sa.String(length=16), nullable=False),
        sa.Column("data_key", sa.String(length=64), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.Column("idle_expires_at", UtcDateTime(), nullable=False),
        sa.Column("absolute_expires_at", UtcDateTime(), nullable=False),
        sa.Column("stepped_up_at", UtcDateTime(), nullable=False),
        sa.Column("regenerations", sa.Integer(), nullable=False),
        sa.Column("first_ip", sa.String(length=45), nullable=False),
        sa.Column("ip", sa.String(length=45), nullable=False),
        sa.Column("ip_key", FixedBinary(length=16), nullable=False),
        sa.Column("first_user_agent_id", Id, nullable=False),
        sa.Column("user_agent_id", Id, nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("end_reason", sa.String(length=20), nullable=True),
        sa.Column("ended_by", sa.String(length=64), nullable=True),
        sa.Column("revocation_id", Id, nullable=True),
        sa.Column("superseded_by_id", Id, nullable=True),
        sa.Column("reason_code", sa.String(length=20), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("tell_user", sa.Boolean(), nullable=False),
        sa.Column("purged_at", UtcDateTime(), nullable=True),
        sa.Column("missing_since", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["first_user_agent_id"],
            ["user_agents.id"],
            name=op.f("fk_user_sessions_first_user_agent_id"),
        ),
        sa.ForeignKeyConstraint(
            ["revocation_id"], ["revocations.id"], name=op.f("fk_user_sessions_revocation_id")
        ),
        sa.ForeignKeyConstraint(
            ["user_agent_id"], ["user_agents.id"], name=op.f("fk_user_sessions_user_agent_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_sessions")),
        sa.UniqueConstraint("handle", name=op.f("uq_user_sessions_handle")),
        sa.UniqueConstraint("reference", name=op.f("uq_user_sessions_reference")),
    )
    with op.batch_alter_table("user_sessions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_user_sessions_absolute_expires_at",
            ["ended_at", "absolute_expires_at"],
            unique=False,
        )
        batch_op.create_index("ix_user_sessions_ended_at_id", ["ended_at", "id"], unique=False)
        batch_op.create_index(
            "ix_user_sessions_idle_expires_at", ["ended_at", "idle_expires_at"], unique=False
        )
        batch_op.create_index("ix_user_sessions_ip_key", ["ip_key", "last_seen_at"], unique=False)
        batch_op.create_index(
            "ix_user_sessions_live_last_seen",
            ["last_seen_at", "id"],
            unique=False,
            postgresql_where=sa.text("ended_at IS NULL"),
            sqlite_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index(
            batch_op.f("ix_user_sessions_revocation_id"), ["revocation_id"], unique=False
        )
        batch_op.create_index(
            "ix_user_sessions_unpurged",
            ["id"],
            unique=False,
            postgresql_where=sa.text("ended_at IS NOT NULL AND purged_at IS NULL"),
            sqlite_where=sa.text("ended_at IS NOT NULL AND purged_at IS NULL"),
        )
        batch_op.create_index(
            "ix_user_sessions_user_agent_id", ["user_agent_id", "last_seen_at"], unique=False
        )
        batch_op.create_index(
            "ix_user_sessions_user_id_ended_at", ["user_id", "ended_at", "id"], unique=False
        )

    op.create_table(
        "revocation_targets",
        sa.Column("revocation_id", Id, nullable=False),
        sa.Column("row_id", Id, nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["revocation_id"],
            ["revocations.id"],
            name=op.f("fk_revocation_targets_revocation_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["row_id"],
            ["user_sessions.id"],
            name=op.f("fk_revocation_targets_row_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("revocation_id", "row_id", name=op.f("pk_revocation_targets")),
    )
    with op.batch_alter_table("revocation_targets", schema=None) as batch_op:
        batch_op.create_index("ix_revocation_targets_row_id", ["row_id"], unique=False)

    op.create_table(
        _payloads(),
        sa.Column(
            "data_key",
            sa.String(length=64)
            .with_variant(
                mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), "mariadb"
            )
            .with_variant(
                mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), "mysql"
            ),
            nullable=False,
        ),
        sa.Column(
            "payload",
            sa.LargeBinary()
            .with_variant(mysql.LONGBLOB(), "mariadb")
            .with_variant(mysql.LONGBLOB(), "mysql"),
            nullable=False,
        ),
        sa.Column("version", FixedBinary(length=8), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("data_key", name=op.f(f"pk_{_payloads()}")),
    )
    with op.batch_alter_table(_payloads(), schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f(f"ix_{_payloads()}_expires_at"), ["expires_at"], unique=False
        )


def downgrade() -> None:
    """Take back. Indexes go with their tables: MariaDB keeps those that a foreign key needs."""
    op.drop_table(_payloads())
    op.drop_table("revocation_targets")
    op.drop_table("user_sessions")
    op.drop_table("cutoff")
    op.drop_table("users")
    op.drop_table("user_agents")
    op.drop_table("revocations")
    op.drop_table("audit_events")
