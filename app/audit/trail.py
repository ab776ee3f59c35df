"""Write the audit trail. An act and its event share one transaction: `record` takes its connection.

Called by everything that changes the ledger or a person, and by the refusals (a failed sign-in).
Where an act is done to many, `record_each` writes their events in one statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, insert, literal

from app.audit.models import AuditEvent, Verb


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person by page or CLI, or the system itself."""

    kind: str
    name: str
    user_id: int | None = None
    role: str | None = None
    reference: str | None = None
    ip: str | None = None
    request_id: str | None = None

    @classmethod
    def system(cls, name: str = "rollcall") -> "Actor":
        """Return the actor of what nobody did: expiry, reconciliation."""
        return cls(kind="system", name=name)

    @classmethod
    def cli(cls, name: str) -> "Actor":
        """Return the actor of a command, named by the operating system's user."""
        return cls(kind="cli", name=name[:64])


@dataclass(frozen=True, slots=True)
class Event:
    """What is recorded beside actor and time."""

    verb: Verb
    target_user_id: int | None = None
    target_name: str | None = None
    reference: str | None = None
    revocation_id: int | None = None
    reason: str | None = None
    note: str | None = None
    result: str = "ok"
    details: dict[str, Any] = field(default_factory=dict)


_INSERT = insert(AuditEvent)
_WHOM = ("target_user_id", "target_name", "reference")


def record(connection: Connection, at: datetime, actor: Actor, events: Sequence[Event]) -> None:
    """Insert the events of one act on its own connection, inside its transaction."""
    if events:
        connection.execute(_INSERT, [_row(at, actor, event) for event in events])


def record_each(
    connection: Connection, at: datetime, actor: Actor, event: Event, whom: Select[Any]
) -> None:
    """Insert this event for each row of `whom`: a user's id and name, and a session's reference."""
    same = {name: v for name, v in _row(at, actor, event).items() if name not in _WHOM}
    columns = AuditEvent.__table__.c
    whom = whom.add_columns(*(literal(value, columns[name].type) for name, value in same.items()))
    connection.execute(_INSERT.from_select([*_WHOM, *same], whom))


def _row(at: datetime, actor: Actor, event: Event) -> dict[str, Any]:
    return {
        "at": at,
        "verb": event.verb.value,
        "result": event.result,
        "actor_kind": actor.kind,
        "actor_user_id": actor.user_id,
        "actor_name": actor.name,
        "actor_role": actor.role,
        "actor_reference": actor.reference,
        "ip": actor.ip,
        "request_id": actor.request_id,
        "target_user_id": event.target_user_id,
        "target_name": event.target_name,
        "reference": event.reference,
        "revocation_id": event.revocation_id,
        "reason": event.reason,
        "note": event.note,
        "details": event.details,
    }
