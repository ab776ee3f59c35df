"""Template filters: times, numbers and the words of the domain, in the reader's language.

`init_app` registers them; templates, exports and messages share them.
Times are UTC; how long ago something was is told against a `now` that the caller got from the
ledger's clock.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, reduce
from typing import Any

from babel import Locale
from babel.dates import format_date, format_timedelta
from babel.units import format_unit
from flask import Flask
from flask_babel import format_datetime, format_decimal, get_locale
from flask_babel.speaklater import LazyString

from app import labels
from app.audit.models import Verb
from app.sessions.clients import UNKNOWN_CLIENT, client_in_words
from app.sessions.ledger import EndedSession
from app.sessions.models import EndReason
from app.texts import gettext as _
from app.texts import ngettext

_DIGIT_THEN_HAN = re.compile("(?<=[0-9])(?=[\u3400-\u9fff])")


def iso(value: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds, None for None."""
    if value is None:
        return None
    text = value.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def utc(value: datetime) -> str:
    """Return date and time to the second, in UTC and saying so."""
    at = value.astimezone(UTC)
    day = _said_day(at.date(), _("yyyy-MM-dd"), get_locale())
    return f"{day} {clock_time(at)}"


@lru_cache(maxsize=64)
def _said_day(day: date, pattern: str, locale: Locale) -> str:
    return str(format_date(day, pattern, locale))


def clock_time(value: datetime) -> str:
    """Return the time of day in UTC, to the second."""
    return f"{value.astimezone(UTC).time().isoformat('seconds')} UTC"


def minute(value: datetime) -> str:
    """Return day and time to the minute, in UTC and saying so."""
    pattern = _("d MMM, HH:mm 'UTC'")
    return str(format_datetime(value.astimezone(UTC), pattern, rebase=False))


def day(value: datetime) -> str:
    """Return day and month, in UTC."""
    return str(format_datetime(value.astimezone(UTC), _("d MMM"), rebase=False))


def relative(value: datetime, now: datetime) -> str:
    """Say how long ago, or in how long, in one unit: `41 sec. ago`."""
    seconds = (value - now).total_seconds()
    if abs(seconds) < 1:
        return _("now")
    # From here on no shorter unit is said.
    step = 1 if abs(seconds) < 1.5 * 60 else 60
    return _since(round(seconds / step) * step, get_locale())


@lru_cache(maxsize=1024)
def _since(seconds: int, locale: Locale) -> str:
    return _spaced(
        format_timedelta(seconds, add_direction=True, format="short", threshold=1.5, locale=locale)
    )


def duration(value: timedelta) -> str:
    """Return a duration in its two largest units: `11 hr 5 min`. Below zero it is zero."""
    seconds = max(0, int(value.total_seconds()))
    parts = [(seconds // 86400, "day"), (seconds // 3600 % 24, "hour")]
    parts += [(seconds // 60 % 60, "minute"), (seconds % 60, "second")]
    start = next((i for i, part in enumerate(parts) if part[0]), len(parts) - 1)
    shown = [part for i, part in enumerate(parts[start : start + 2]) if part[0] or i == 0]
    return " ".join(
        _spaced(format_unit(count, f"duration-{unit}", length="short", locale=get_locale()))
        for count, unit in shown
    )


def _spaced(text: str) -> str:
    """Put the space between a digit and Chinese that the catalogs have and Babel's words may lack."""
    return _DIGIT_THEN_HAN.sub(" ", text)


def number(value: float) -> str:
    """Return a number with the separators of the reader's language."""
    return str(format_decimal(value))


def size(value: int) -> str:
    """Return a size in bytes, kilobytes or megabytes."""
    if value < 1000:
        return ngettext("%(count)s byte", "%(count)s bytes", value, count=number(value))
    unit, one = ("kilobyte", 1000) if value < 1_000_000 else ("megabyte", 1_000_000)
    return format_unit(
        round(value / one, 1), f"digital-{unit}", length="short", locale=get_locale()
    )


def store_name(value: str) -> str:
    """Return a store's name as it is written in prose."""
    return labels.STORES.get(value, value)


def client_name(words: str) -> str:
    """Return a client, as it is stored in English, in the reader's language."""
    if words == UNKNOWN_CLIENT:
        return _("unknown client")
    browser, on, system = words.rpartition(" on ")
    return _("%(browser)s on %(system)s", browser=browser, system=system) if on else words


def listed(words: Iterable[str]) -> str:
    """Return words or phrases as one text, with the separator of the reader's language."""
    return _(", ").join(words)


def sentence(text: str) -> str:
    """Return a text with the full stop of the reader's language."""
    return _("%(text)s.", text=text)


def join_sentences(*sentences: str) -> str:
    """Return sentences as one text, without the empty ones."""
    said = [each for each in sentences if each]
    return reduce(lambda text, more: _("%(text)s %(more)s", text=text, more=more), said or [""])


def why_ended(ended: EndedSession) -> str:
    """Say to whoever held the session how it ended, with the time and the actor's kind."""
    at = ended.ended_at.astimezone(UTC).strftime("%H:%M UTC")
    if ended.reason is EndReason.SUPERSEDED:
        client = client_name(ended.by_client) if ended.by_client else _("another browser")
        return _("You signed in from %(client)s at %(at)s.", client=client, at=at)
    if ended.reason is EndReason.REVOKED:
        if ended.reason_code is None:
            return _("An administrator ended this session at %(at)s.", at=at)
        why = reason(ended.reason_code)
        return _("An administrator ended this session at %(at)s (%(why)s).", at=at, why=why)
    return _(labels.TOLD[ended.reason], at=at)


class Words:
    """A filter that says a stored code in words; an unknown code is shown as it is."""

    def __init__(self, words: Mapping[str, LazyString]) -> None:
        self._words = words

    def __call__(self, code: str) -> str:
        return str(self._words.get(str(code), code))


end_reason = Words(labels.END_REASONS)
reason = Words(labels.REVOCATION_REASONS)
role_name = Words(labels.ROLES)
state_name = Words(labels.STATES)
status_name = Words(labels.STATUSES)
verb_name = Words(labels.VERBS)
limit_policy = Words(labels.LIMIT_POLICIES)
actor_kind = Words(labels.ACTOR_KINDS)
result_name = Words(labels.RESULTS)
setting_group = Words(labels.SETTING_GROUPS)
setting_source = Words(labels.SETTING_SOURCES)
_refusal = Words(labels.REFUSALS)


def setting_value(value: str, unit: str) -> str:
    """Return a setting's value with its unit, where it is one number and the name does not say it."""
    if not value.isdecimal():
        return re.sub(r",(?! )", ", ", value)
    count = int(value)
    match unit:
        case "seconds":
            return _("%(value)s s", value=value)
        case "bytes":
            return ngettext("%(count)s byte", "%(count)s bytes", count, count=value)
        case "days":
            return ngettext("%(count)s day", "%(count)s days", count, count=value)
    return value


def event_words(event: Any) -> str:
    """Say an event's reason and details in one line."""
    reasons = {**labels.END_REASONS, **labels.REVOCATION_REASONS}
    said_by_the_verb = not event.reason or event.verb.endswith(f".{event.reason}")
    parts = [] if said_by_the_verb else [str(reasons.get(event.reason, event.reason))]
    details = dict(event.details or {})
    if event.verb == Verb.SIGNED_IN and "client" in details:
        details["client"] = client_in_words(details["client"])
    return listed([*parts, *(_detail(key, value) for key, value in details.items())])


def event_note(event: Any) -> str:
    """Return an event's note; the worker's alarm is put in the reader's language."""
    note = event.note or ""
    return alarm_note(event.details, note) if event.verb == Verb.WORKER_ALARM else note


def alarm_note(details: Mapping[str, Any] | None, note: str) -> str:
    """Say what the worker's alarm is about, by its details; one that has none says its note."""
    found = details or {}
    if not {"store", "absent", "live"} <= found.keys():
        return note
    return ngettext(
        "%(store)s answers, but lacks the data of %(absent)s of %(count)s live session:"
        " an empty server or a wrong URL? Nobody was ended",
        "%(store)s answers, but lacks the data of %(absent)s of %(count)s live sessions:"
        " an empty server or a wrong URL? Nobody was ended",
        found["live"],
        store=store_name(found["store"]),
        absent=number(found["absent"]),
        count=number(found["live"]),
    )


def _detail(key: str, value: Any) -> str:
    match key:
        case "client":
            return client_name(str(value))
        case "why":
            return _refusal(value)
        case "store":
            return store_name(value)
        case "size":
            return ngettext("%(count)s session", "%(count)s sessions", value, count=number(value))
        case "role" | "from" | "to":
            value = role_name(value)
    if words := labels.DETAILS.get(key):
        return _(words, value=number(value) if isinstance(value, int | float) else value)
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
        minute=minute,
        relative=relative,
        duration=duration,
        number=number,
        size=size,
        store_name=store_name,
        client_name=client_name,
        listed=listed,
        end_reason=end_reason,
        reason=reason,
        role_name=role_name,
        status_name=status_name,
        verb_name=verb_name,
        limit_policy=limit_policy,
        actor_kind=actor_kind,
        result_name=result_name,
        setting_group=setting_group,
        setting_source=setting_source,
        why_ended=why_ended,
        event_words=event_words,
        event_note=event_note,
        chosen=chosen,
    )
