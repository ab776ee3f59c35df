"""Template filters: times, numbers and the words of the domain, in the reader's language.

`init_app` registers them; templates, exports and messages share them.
Times are UTC; how long ago something was is told against a `now` that the caller got from the
ledger's clock.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from babel.dates import format_timedelta
from babel.units import format_unit
from flask import Flask
from flask_babel import format_decimal, get_locale
from flask_babel.speaklater import LazyString

from app.audit.models import Verb
from app.sessions.clients import client_in_words
from app.sessions.ledger import EndedSession
from app.sessions.models import EndReason
from app.texts import N_, lazy_gettext, ngettext
from app.texts import gettext as _

_l = lazy_gettext


STORES: Mapping[str, str] = {"redis": "Redis", "sql": "SQL"}

ROLES: Mapping[str, LazyString] = {
    "member": _l("member"),
    "viewer": _l("viewer"),
    "operator": _l("operator"),
    "auditor": _l("auditor"),
    "admin": _l("admin"),
}

STATUSES: Mapping[str, LazyString] = {
    "active": _l("Active"),
    "idle": _l("Idle"),
    "expiring": _l("Expiring"),
    "ended": _l("Ended"),
}

END_REASONS: Mapping[str, LazyString] = {
    "signed_out": _l("Signed out"),
    "revoked": _l("Revoked"),
    "superseded": _l("Superseded"),
    "idle_timeout": _l("Idle timeout"),
    "absolute_timeout": _l("Absolute timeout"),
    "password_changed": _l("Password changed"),
    "user_disabled": _l("User disabled"),
    "role_changed": _l("Role changed"),
    "lost": _l("Data lost"),
    "damaged": _l("Data damaged"),
}

REVOCATION_REASONS: Mapping[str, LazyString] = {
    "incident": _l("Security incident"),
    "lost_device": _l("Lost or stolen device"),
    "left_company": _l("Left the company"),
    "user_request": _l("The user asked for it"),
    "policy": _l("Policy"),
    "other": _l("Other"),
}

LIMIT_POLICIES: Mapping[str, LazyString] = {
    "supersede": _l("the newest sign-in ends the oldest session"),
    "deny": _l("a further sign-in is denied"),
}

VERBS: Mapping[str, LazyString] = {
    "session.signed_in": _l("Signed in"),
    "session.sign_in_failed": _l("Sign-in failed"),
    "session.sign_in_denied": _l("Sign-in denied at the limit"),
    "session.signed_out": _l("Signed out"),
    "session.superseded": _l("Superseded"),
    "session.expired": _l("Expired"),
    "session.revoked": _l("Revoked"),
    "session.ended": _l("Ended"),
    "session.lost": _l("Lost by its store"),
    "session.damaged": _l("Data damaged"),
    "session.regenerated": _l("New session id"),
    "session.stepped_up": _l("Password entered again"),
    "session.step_up_failed": _l("Wrong password at re-entry"),
    "session.step_up_required": _l("Refused until the password is entered again"),
    "session.client_changed": _l("Client changed"),
    "session.ids_guessed": _l("Unknown session ids tried"),
    "revocation.frozen": _l("Revocation prepared"),
    "revocation.confirmed": _l("Revocation confirmed"),
    "revocation.finished": _l("Revocation finished"),
    "user.created": _l("User created"),
    "user.disabled": _l("User disabled"),
    "user.enabled": _l("User enabled"),
    "user.role_changed": _l("Role changed"),
    "user.password_changed": _l("Password changed"),
    "user.password_change_failed": _l("Password change failed"),
    "user.password_reset": _l("Password reset"),
    "access.refused": _l("Access refused"),
    "data.exported": _l("Data exported"),
    "worker.alarm": _l("Worker alarm"),
}


_TOLD: Mapping[EndReason, str] = {
    EndReason.SIGNED_OUT: N_("You signed out at %(at)s."),
    EndReason.IDLE_TIMEOUT: N_(
        "You were signed out at %(at)s because nothing was done for a while."
    ),
    EndReason.ABSOLUTE_TIMEOUT: N_(
        "Your session reached its longest time at %(at)s. Sign in again."
    ),
    EndReason.PASSWORD_CHANGED: N_("Your password was changed at %(at)s."),
    EndReason.USER_DISABLED: N_("Your user was disabled at %(at)s."),
    EndReason.ROLE_CHANGED: N_("Your role was changed at %(at)s. Sign in again to use it."),
    EndReason.LOST: N_("The server lost this session's data; it ended at %(at)s."),
    EndReason.DAMAGED: N_("This session's data could not be read; it ended at %(at)s."),
}


def iso(value: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds, None for None."""
    if value is None:
        return None
    text = value.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def utc(value: datetime) -> str:
    """Return date and time to the second, in UTC and saying so."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock_time(value: datetime) -> str:
    """Return the time of day in UTC, to the second."""
    return value.astimezone(UTC).strftime("%H:%M:%S UTC")


def relative(value: datetime, now: datetime) -> str:
    """Say how long ago, or in how long, in one unit: `41 sec. ago`."""
    delta = value - now
    if abs(delta) < timedelta(seconds=1):
        return str(_l("now"))
    return format_timedelta(
        delta, add_direction=True, format="short", threshold=1.5, locale=get_locale()
    )


def duration(value: timedelta) -> str:
    """Return a duration in its two largest units: `11 hr 5 min`. Below zero it is zero."""
    seconds = max(0, int(value.total_seconds()))
    parts = [(seconds // 86400, "day"), (seconds // 3600 % 24, "hour")]
    parts += [(seconds // 60 % 60, "minute"), (seconds % 60, "second")]
    start = next((i for i, part in enumerate(parts) if part[0]), len(parts) - 1)
    shown = [part for i, part in enumerate(parts[start : start + 2]) if part[0] or i == 0]
    return " ".join(
        format_unit(count, f"duration-{unit}", length="short", locale=get_locale())
        for count, unit in shown
    )


def number(value: int) -> str:
    """Return a whole number with the separators of the reader's language."""
    return str(format_decimal(value))


def size(value: int) -> str:
    """Return a size in bytes or kilobytes."""
    if value < 1000:
        return ngettext("%(count)s byte", "%(count)s bytes", value, count=number(value))
    return format_unit(
        round(value / 1000, 1), "digital-kilobyte", length="short", locale=get_locale()
    )


def store_name(value: str) -> str:
    """Return a store's name as it is written in prose."""
    return STORES.get(value, value)


def why_ended(ended: EndedSession) -> str:
    """Say to whoever held the session how it ended, with the time and the actor's kind."""
    at = ended.ended_at.astimezone(UTC).strftime("%H:%M UTC")
    if ended.reason is EndReason.SUPERSEDED:
        client = ended.by_client or _("another browser")
        return _("You signed in from %(client)s at %(at)s.", client=client, at=at)
    if ended.reason is EndReason.REVOKED:
        if ended.reason_code is None:
            return _("An administrator ended this session at %(at)s.", at=at)
        why = reason(ended.reason_code)
        return _("An administrator ended this session at %(at)s (%(why)s).", at=at, why=why)
    return _(_TOLD[ended.reason], at=at)


class Words:
    """A filter that says a stored code in words; an unknown code is shown as it is."""

    def __init__(self, words: Mapping[str, LazyString]) -> None:
        self._words = words

    def __call__(self, code: str) -> str:
        return str(self._words.get(str(code), code))


end_reason = Words(END_REASONS)
reason = Words(REVOCATION_REASONS)
role_name = Words(ROLES)
status_name = Words(STATUSES)
verb_name = Words(VERBS)
limit_policy = Words(LIMIT_POLICIES)


def event_words(event: Any) -> str:
    """Say an event's reason and details in one line."""
    reasons = {**END_REASONS, **REVOCATION_REASONS}
    said_by_the_verb = not event.reason or event.verb.endswith(f".{event.reason}")
    parts = [] if said_by_the_verb else [str(reasons.get(event.reason, event.reason))]
    details = dict(event.details or {})
    if event.verb == Verb.SIGNED_IN and "client" in details:
        details["client"] = client_in_words(details["client"])
    return ", ".join([*parts, *(_detail(key, value) for key, value in details.items())])


def _detail(key: str, value: Any) -> str:
    match key:
        case "client" | "why":
            return str(value)
        case "store":
            return store_name(value)
        case "size":
            return ngettext("%(count)s session", "%(count)s sessions", value, count=number(value))
    return f"{key.replace('_', ' ')} {value}"


def chosen(matched_by: str) -> str:
    """Say how the targets of a revocation were chosen."""
    if not matched_by:
        return _("by hand")
    if matched_by.startswith("user_id:"):
        return _("all of one user")
    if matched_by == "everyone":
        return _("everyone")
    return _("all that matched %(filter)s", filter=matched_by)


def init_app(app: Flask) -> None:
    """Register the filters with the application's templates."""
    app.jinja_env.filters.update(
        iso=iso,
        utc=utc,
        clock_time=clock_time,
        relative=relative,
        duration=duration,
        number=number,
        size=size,
        store_name=store_name,
        end_reason=end_reason,
        reason=reason,
        role_name=role_name,
        status_name=status_name,
        verb_name=verb_name,
        limit_policy=limit_policy,
        why_ended=why_ended,
        event_words=event_words,
        chosen=chosen,
    )
