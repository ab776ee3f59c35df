"""Users and roles: who may sign in, and what a role may do (section 8 of the design)."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Boolean, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.columns import Id, UtcDateTime
from app.extensions import Base

NAME_LENGTH = 64


class Permission(StrEnum):
    """What a rule can ask for. `OWN` is everybody's who is signed in."""

    OWN = "own"
    STAFF = "staff"
    REVOKE = "revoke"
    DISABLE_MEMBERS = "disable_members"
    AUDIT = "audit"
    ADMINISTER = "administer"


class Role(StrEnum):
    """A person's role. Staff is every role but member."""

    MEMBER = "member"
    VIEWER = "viewer"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"

    @property
    def is_staff(self) -> bool:
        return self is not Role.MEMBER

    def may(self, permission: Permission) -> bool:
        return permission in _PERMISSIONS[self]


_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.MEMBER: frozenset({Permission.OWN}),
    Role.VIEWER: frozenset({Permission.OWN, Permission.STAFF}),
    Role.OPERATOR: frozenset(
        {Permission.OWN, Permission.STAFF, Permission.REVOKE, Permission.DISABLE_MEMBERS}
    ),
    Role.AUDITOR: frozenset({Permission.OWN, Permission.STAFF, Permission.AUDIT}),
    Role.ADMIN: frozenset(Permission),
}


class User(Base):
    """A person who may sign in. `name` is unique without regard to case (`name_key`).

    Until somebody of whom a new password is required has chosen one, nothing else is open to them.
    """

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    name_key: Mapped[str] = mapped_column(String(NAME_LENGTH * 2), unique=True)
    role: Mapped[str] = mapped_column(String(16), index=True)
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    password_changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    new_password_required: Mapped[bool] = mapped_column(
        Boolean, default=False, server_default=false()
    )
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
