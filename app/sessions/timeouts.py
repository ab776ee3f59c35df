"""Deadlines and limits: pure functions and values, computed from the settings once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

ACTIVE_WITHIN = timedelta(minutes=5)
EXPIRING_WITHIN = timedelta(minutes=2)
_TTL_MARGIN = timedelta(seconds=60)


class LimitPolicy(StrEnum):
    """What happens to a sign-in at the limit: it ends the oldest sessions, or it is denied."""

    SUPERSEDE = "supersede"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """What holds for the sessions of one role. Times are since the last activity and since sign-in."""

    idle: timedelta
    absolute: timedelta
    limit: int
    at_limit: LimitPolicy
    store: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of sessions, by role, and the touch interval."""

    by_role: Mapping[str, RolePolicy]
    touch_interval: timedelta

    def of(self, role: str) -> RolePolicy:
        return self.by_role[role]


def warn_before(policy: RolePolicy) -> timedelta:
    """Return how long before its end a person is warned: two minutes, less where sessions are short."""
    return min(EXPIRING_WITHIN, policy.idle / 3)


def touch_due(now: datetime, last_seen: datetime, interval: timedelta) -> bool:
    """Say whether a person's request now moves the idle deadline."""
    return now - last_seen >= interval


def store_ttl(policy: RolePolicy, now: datetime, absolute_expires_at: datetime) -> timedelta:
    """Return how long a store keeps a payload that was touched now.

    It is never shorter than the ledger's deadline: the margin covers a touch that the store saw late.
    """
    return min(policy.idle, absolute_expires_at - now) + _TTL_MARGIN


def first_ttl(policy: RolePolicy) -> timedelta:
    """Return how long a store keeps the payload of a sign-in."""
    return min(policy.idle, policy.absolute) + _TTL_MARGIN


def status(
    now: datetime, last_seen: datetime, idle_until: datetime, absolute_until: datetime
) -> str:
    """Return the word for a live session: `active`, `idle` or `expiring`."""
    if min(idle_until, absolute_until) - now < EXPIRING_WITHIN:
        return "expiring"
    return "active" if now - last_seen < ACTIVE_WITHIN else "idle"
