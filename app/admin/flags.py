"""What a flag says: in the list a few words, on the session's page a sentence of what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.filters import client_name, clock_time, number, sentence, store_name
from app.sessions import flags
from app.sessions.rows import SessionRow
from app.sessions.system import system
from app.sessions.transaction import RECORDED_WITHIN
from app.texts import gettext as _


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of a session: its name in the filter, short words, and what was seen."""

    name: str
    short: str
    seen: str

    @property
    def head(self) -> str:
        """The few words as a sentence."""
        return sentence(self.short)


def flags_of(rows: Sequence[SessionRow]) -> dict[str, list[Flag]]:
    """Return the flags of those of the live sessions that have one, by reference."""
    signed_in = [row for row in rows if row.state == "live"]
    crowded = flags.over_limit([row.user_id for row in signed_in])
    found = {row.reference: _of(row, crowded.get(row.user_id)) for row in signed_in}
    return {reference: said for reference, said in found.items() if said}


def overdue_flag(row: SessionRow, now: datetime) -> Flag | None:
    """Return the flag of a session that is past a deadline which no worker has recorded in time."""
    until = min(row.idle_expires_at, row.absolute_expires_at)
    if row.ended_at is not None or until + timedelta(seconds=RECORDED_WITHIN) > now:
        return None
    seen = _(
        "Its deadline passed at %(time)s and no worker has recorded it: is the worker running?",
        time=clock_time(until),
    )
    return Flag("overdue", _("Past its deadline"), seen)


def _of(row: SessionRow, sessions: int | None) -> list[Flag]:
    said = [_say(name, row) for name in row.flags]
    return said if sessions is None else [*said, _over_limit(row, sessions)]


def _say(flag: str, row: SessionRow) -> Flag:
    match flag:
        case "client":
            first, last = client_name(row.first_client), client_name(row.client)
            seen = _("It began with %(first)s and now has %(last)s.", first=first, last=last)
            return Flag(flag, _("Client changed"), seen)
        case "network":
            seen = _(
                "It began at %(first)s and is now used from %(last)s, another network.",
                first=row.first_ip,
                last=row.ip,
            )
            return Flag(flag, _("Network changed"), seen)
        case "guessed":
            count = number(row.failed_before)
            minutes = number(flags.JUST_BEFORE / 60)
            seen = _(
                "%(count)s sign-ins of this user failed in the %(minutes)s minutes before this one.",
                count=count,
                minutes=minutes,
            )
            return Flag(flag, _("%(count)s failed before", count=count), seen)
    assert row.missing_since is not None
    seen = _(
        "%(store)s did not have its data when the worker looked at %(time)s.",
        store=store_name(row.store),
        time=clock_time(row.missing_since),
    )
    return Flag(flag, _("Data missing"), seen)


def _over_limit(row: SessionRow, sessions: int) -> Flag:
    limit = system.policy.of(row.role).limit
    seen = _(
        "%(user)s has %(sessions)s live sessions, and the limit is %(limit)s: it was lowered.",
        user=row.user,
        sessions=number(sessions),
        limit=number(limit),
    )
    short = _("%(count)s sessions of %(limit)s", count=number(sessions), limit=number(limit))
    return Flag(flags.LIMIT, short, seen)
