"""The charts of the overview and of the statistics: reports with their words, ready to be drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.admin import reports
from app.admin.charts import Chart, Column, Upright, chart
from app.admin.helpers import sessions_in_words
from app.admin.ranges import Range
from app.columns import AnyRow
from app.filters import day, duration, listed, minute, role_name, store_name
from app.sessions.system import system
from app.texts import gettext as _

_SHORT = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row of a ranking: its name, its number, and the list that it leads to."""

    name: str
    value: int
    href: str | None = None


def over_time(
    within: Range, sampled: Mapping[int, Sequence[AnyRow]], revocations: Sequence[AnyRow] = ()
) -> Chart:
    """Draw how many sessions each store had, slot by slot, with a mark for each bulk revocation.

    A slot without a sample, and a store that was not sampled in it, have no value: that is not zero.
    """
    seen = {row.store for rows in sampled.values() for row in rows}
    stores = [*system.stores.names, *sorted(seen - set(system.stores.names))]
    columns = []
    for slot in within.slots():
        live = {row.store: row.live for row in sampled.get(slot, ())}
        begins = within.slot_begins(slot)
        values = tuple(live.get(store) for store in stores)
        columns.append(Column(minute(begins), _under(within, begins), values))
    marks = [
        Upright(
            within.share(row.confirmed_at),
            f"#{row.id}",
            _(
                "Revocation #%(id)s by %(who)s, %(at)s: %(what)s",
                id=row.id,
                who=row.actor_name,
                at=minute(row.confirmed_at),
                what=sessions_in_words(row.size),
            ),
        )
        for row in revocations
    ]
    return chart([store_name(name) for name in stores], columns, marks)


def _under(within: Range, begins: datetime) -> str:
    """Return what stands under a slot: the day at midnight, and in a short range round hours too."""
    since_midnight = int(begins.timestamp()) % reports.DAY
    if not since_midnight:
        return day(begins)
    length = within.end - within.begin
    every = reports.HOUR * (12 if length > timedelta(hours=30) else 6)
    if length > _SHORT or (length > timedelta(hours=12) and since_midnight % every):
        return ""
    return begins.strftime("%H:%M")


def by_hour(sign_ins: Sequence[int]) -> Chart:
    """Draw the sign-ins of each hour of the day."""
    columns = [
        Column(_("%(from)s to %(to)s UTC", **_hour(hour)), _hour(hour)["from"], (count,))
        for hour, count in enumerate(sign_ins)
    ]
    return chart([_("Sign-ins")], columns)


def _hour(hour: int) -> dict[str, str]:
    return {"from": f"{hour:02}:00", "to": f"{(hour + 1) % 24:02}:00"}


def by_day(sign_ins: Mapping[int, int | None]) -> Chart:
    """Draw the sign-ins of each day, by its number."""
    columns = []
    for number, count in sign_ins.items():
        name = day(datetime.fromtimestamp(number * reports.DAY, UTC))
        columns.append(Column(name, name, (count,)))
    return chart([_("Sign-ins")], columns)


def ages(counts: Sequence[int]) -> Chart:
    """Draw live sessions by the time since sign-in, with a line at each role's absolute timeout."""
    limits = {role: rule.absolute for role, rule in system.policy.by_role.items()}
    return _histogram(counts, limits, _("Absolute timeout of %(roles)s: %(time)s"))


def idle_times(counts: Sequence[int]) -> Chart:
    """Draw live sessions by the time since the last activity, with a line at each role's idle timeout."""
    limits = {role: rule.idle for role, rule in system.policy.by_role.items()}
    return _histogram(counts, limits, _("Idle timeout of %(roles)s: %(time)s"))


def _histogram(counts: Sequence[int], limits: Mapping[str, timedelta], words: str) -> Chart:
    *within, over = counts
    longest = max(limits.values())
    width = reports.bar_width(longest)
    columns = []
    for i, count in enumerate(within):
        begins = duration(width * i)
        name = _("%(from)s to %(to)s", **{"from": begins, "to": duration(width * (i + 1))})
        columns.append(Column(name, begins, (count,)))
    if over:
        columns.append(Column(_("longer than %(time)s", time=duration(longest)), "", (over,)))
    uprights = []
    for limit in sorted(set(limits.values())):
        roles = listed(role_name(role) for role, theirs in limits.items() if theirs == limit)
        said = words % {"roles": roles, "time": duration(limit)}
        uprights.append(Upright(limit / (width * len(columns)), duration(limit), said))
    return chart([_("Sessions")], columns, uprights)
