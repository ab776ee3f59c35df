"""The range of time that a page looks at: `last=24h`, or `from` and `to` in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.filters import listed, number
from app.texts import gettext as _

PRESETS: Mapping[str, timedelta] = {
    "24h": timedelta(hours=24),
    "48h": timedelta(hours=48),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
DEFAULT = "48h"
LONGEST = timedelta(days=366)

_NAMES = ("last", "from", "to")
_MOST_SLOTS = 60
_STEPS = (60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)


class BadRange(ValueError):
    """A range that cannot be looked at. `field` is what is to blame, `message` says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Range:
    """From `begin` on and before `end`, both UTC; `last` is the preset, if it is one."""

    begin: datetime
    end: datetime
    last: str = ""

    @property
    def step(self) -> int:
        """Return the seconds of the slots that a chart of it has: at most some sixty, of a round length."""
        length = (self.end - self.begin).total_seconds()
        return next((s for s in _STEPS if s * _MOST_SLOTS >= length), _STEPS[-1])

    def slots(self) -> range:
        """Return the numbers, as `columns.bucket` counts them, of the slots that it touches."""
        last = (self.end - timedelta(microseconds=1)).timestamp() // self.step
        return range(int(self.begin.timestamp() // self.step), int(last) + 1)

    def slot_begins(self, slot: int) -> datetime:
        return datetime.fromtimestamp(slot * self.step, UTC)

    def share(self, at: datetime) -> float:
        """Return how far along the slots a time is, from 0 to 1."""
        slots = self.slots()
        return (at.timestamp() / self.step - slots[0]) / len(slots)


def read_range(args: Mapping[str, str], now: datetime) -> Range:
    """Read a query string; the last 48 hours if it says nothing.

    Raises BadRange for a time that is none, an end that is not after its beginning, a range that is too
    long or wholly to come, and for whatever is not known here.
    """
    for name in args:
        if name not in _NAMES:
            allowed = ", ".join(_NAMES)
            raise BadRange(name, _("There is no filter “%(a)s”. Use %(b)s.", a=name, b=allowed))
    if "from" not in args and "to" not in args:
        return _preset(args.get("last", DEFAULT), now)
    if "last" in args:
        raise BadRange("last", _("Give either “last”, or a beginning and an end."))
    if "from" not in args:
        raise BadRange("from", _("Give a beginning too."))
    begin = _time("from", args["from"])
    end = _time("to", args["to"]) if "to" in args else now
    if begin >= now:
        raise BadRange("from", _("The beginning must lie in the past."))
    if end <= begin:
        raise BadRange("to", _("The end must come after the beginning."))
    if end - begin > LONGEST:
        raise BadRange("to", _("At most %(days)s days at once.", days=number(LONGEST.days)))
    return Range(begin, end)


def _preset(name: str, now: datetime) -> Range:
    if name not in PRESETS:
        raise BadRange("last", _("“last” can be: %(allowed)s.", allowed=listed(PRESETS)))
    return Range(now - PRESETS[name], now, name)


def _time(field: str, text: str) -> datetime:
    """Read a time as forms and RFC 3339 write it; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRange(field, _("Give a time in UTC, as 2026-01-31T08:00.")) from None
