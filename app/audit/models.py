"""The audit trail's table: who did what to whom and why. Rows are written by `trail` alone."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.columns import Id, UtcDateTime
from app.extensions import Base


class Verb(StrEnum):
    """What happened. Names are kept for ever: exports and alarms rely on them."""

    SIGNED_IN = "session.signed_in"
    SIGN_IN_FAILED = "session.sign_in_failed"
    SIGN_IN_DENIED = "session.sign_in_denied"
    SIGNED_OUT = "session.signed_out"
    SUPERSEDED = "session.superseded"
    EXPIRED = "session.expired"
    REVOKED = "session.revoked"
    ENDED = "session.ended"
    LOST = "session.lost"
    DAMAGED = "session.damaged"
    REGENERATED = "session.regenerated"
    STEPPED_UP = "session.stepped_up"
    STEP_UP_FAILED = "session.step_up_failed"
    STEP_UP_REQUIRED = "session.step_up_required"
    CLIENT_CHANGED = "session.client_changed"
    IDS_GUESSED = "session.ids_guessed"
    REVOCATION_FROZEN = "revocation.frozen"
    REVOCATION_CONFIRMED = "revocation.confirmed"
    REVOCATION_FINISHED = "revocation.finished"
    USER_CREATED = "user.created"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    ROLE_CHANGED = "user.role_changed"
    PASSWORD_CHANGED = "user.password_changed"
    PASSWORD_CHANGE_FAILED = "user.password_change_failed"
    PASSWORD_RESET = "user.password_reset"
    PASSWORD_REQUIRED = "user.password_required"
    ACCESS_REFUSED = "access.refused"
    EXPORTED = "data.exported"
    WORKER_ALARM = "worker.alarm"


ENDS = (
    Verb.SIGNED_OUT,
    Verb.SUPERSEDED,
    Verb.EXPIRED,
    Verb.REVOKED,
    Verb.ENDED,
    Verb.LOST,
    Verb.DAMAGED,
)
"""What is recorded when a session ends, one of them for each."""


class AuditEvent(Base):
    """One event. It names people and sessions by value, so that it outlives them."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_at_id", "at", "id"),
        Index("ix_audit_events_target_user_id_id", "target_user_id", "id"),
        Index("ix_audit_events_actor_user_id_id", "actor_user_id", "id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    verb: Mapped[str] = mapped_column(String(40), index=True)
    result: Mapped[str] = mapped_column(String(10), default="ok")
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor_user_id: Mapped[int | None] = mapped_column(Id)
    actor_name: Mapped[str] = mapped_column(String(64))
    actor_role: Mapped[str | None] = mapped_column(String(16))
    actor_reference: Mapped[str | None] = mapped_column(String(10))
    ip: Mapped[str | None] = mapped_column(String(45))
    request_id: Mapped[str | None] = mapped_column(String(36))
    target_user_id: Mapped[int | None] = mapped_column(Id)
    target_name: Mapped[str | None] = mapped_column(String(64))
    reference: Mapped[str | None] = mapped_column(String(10), index=True)
    revocation_id: Mapped[int | None] = mapped_column(Id, index=True)
    reason: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
