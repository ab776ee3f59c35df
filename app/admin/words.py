"""Sentences that are put together from figures: the receipt's verdict and the overview's checks.

They are functions of values, so that a test can hold them to the rule that no page says more than
is true.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.admin.counts import Alarm, StoreAnswer
from app.admin.helpers import sessions_in_words
from app.filters import (
    alarm_note,
    clock_time,
    join_sentences,
    listed,
    minute,
    number,
    sentence,
    store_name,
)
from app.labels import UNSAFE
from app.sessions.flags import LIMIT
from app.sessions.receipt import Receipt
from app.sessions.stores.facts import Unsafe
from app.texts import gettext as _
from app.texts import ngettext


class Answered(Protocol):
    """A store that was asked."""

    @property
    def name(self) -> str: ...
    @property
    def reachable(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a receipt says first: a kind for the colour, a strong sentence, and the rest."""

    kind: str
    head: str
    strong: str
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence of the overview: good, warning, bad or unknown.

    `shown` is a filter, by name and value, of the list that shows what it is about.
    """

    kind: str
    text: str
    shown: tuple[str, str] | None = None


def is_done(receipt: Receipt) -> bool:
    """Say whether nothing is left to do: ended, deleted, and read back with nothing found."""
    left = receipt.purge_pending or receipt.present or receipt.read_back_at is None
    return receipt.finished and not left


def receipt_verdict(receipt: Receipt) -> Verdict:
    """Say what has ended, what is deleted and what the read-back found, and no more than that."""
    frozen = receipt.ended + receipt.already_ended
    stores = [(store_name(n), s) for n, s in receipt.by_store.items()]
    shares = listed(f"{name} {number(store.ended)}" for name, store in stores)
    shares = sentence(shares) if shares else ""
    if not receipt.finished:
        return Verdict(
            "warning",
            _("Confirmed and under way."),
            _("Ending: %(what)s so far.", what=sessions_in_words(receipt.ended)),
            join_sentences(shares, _("The worker goes on; below is how far it is.")),
        )
    look = _read_back(receipt)
    if not is_done(receipt):
        waiting = ""
        if receipt.purge_pending:
            waiting = _(
                "The data of %(what)s is not deleted yet.",
                what=sessions_in_words(receipt.purge_pending),
            )
        return Verdict(
            "warning",
            join_sentences(_("Nobody in this list is signed in any more."), _undeleted(receipt)),
            ngettext(
                "%(ended)s of %(count)s session is signed out.",
                "%(ended)s of %(count)s sessions are signed out.",
                frozen,
                ended=number(frozen),
                count=number(frozen),
            ),
            join_sentences(shares, waiting, look),
        )
    if not receipt.ended:
        return Verdict(
            "good",
            _("Nobody in this list is signed in any more."),
            _("Nothing to end: %(what)s had ended already.", what=sessions_in_words(frozen)),
            look,
        )
    before = ""
    if receipt.already_ended:
        had = sessions_in_words(receipt.already_ended)
        before = _("Of these, %(what)s had ended already.", what=had)
    return Verdict(
        "good",
        _("Nobody in this list is signed in any more."),
        _("%(ended)s of %(count)s gone.", ended=number(frozen), count=number(frozen)),
        join_sentences(shares, before, look),
    )


def _undeleted(receipt: Receipt) -> str:
    if receipt.purge_pending or receipt.present:
        return _("Not all of their data is deleted.")
    return _("Not read back yet.")


def _read_back(receipt: Receipt) -> str:
    if receipt.read_back_at is None:
        return _("Not read back yet.")
    at, present = clock_time(receipt.read_back_at), number(receipt.present)
    if receipt.purge_pending > receipt.present:
        unread = number(receipt.purge_pending - receipt.present)
        return _(
            "Read back at %(time)s: %(present)s present, %(unread)s not readable.",
            time=at,
            present=present,
            unread=unread,
        )
    return _("Read back at %(time)s: %(present)s present.", time=at, present=present)


def stores_sentence(answers: Sequence[Answered]) -> str:
    """Say whether the stores answer, naming those that do not."""
    silent = [store_name(answer.name) for answer in answers if not answer.reachable]
    if silent:
        return _("%(stores)s did not answer.", stores=listed(silent))
    if len(answers) == 1:
        return _("%(store)s answers.", store=store_name(answers[0].name))
    return _("Both stores answer.") if len(answers) == 2 else _("All stores answer.")


def store_check(answer: StoreAnswer) -> Check:
    """Say how quickly a store answered, or that it did not."""
    name = store_name(answer.name)
    if answer.reachable:
        text = _("%(store)s answers in %(ms)s ms", store=name, ms=number(answer.milliseconds or 0))
        return Check("good", text)
    return Check("bad", _("%(store)s did not answer", store=name))


def unsafe_sentence(unsafe: Unsafe, value: str) -> str:
    """Say what is unsafe about a server, with the value that makes it so, and what to do."""
    return _(UNSAFE[unsafe], value=value)


def purge_check(waiting: int) -> Check:
    """Say whether data of ended sessions is still to be deleted."""
    if not waiting:
        return Check("good", _("No data of an ended session is waiting to be deleted"))
    what = sessions_in_words(waiting)
    return Check("warning", _("The data of %(what)s that ended is not deleted yet", what=what))


def overdue_check(count: int) -> Check:
    """Say whether the worker has recorded what time ended."""
    if not count:
        return Check("good", _("No session is past a deadline without a record"))
    return Check(
        "warning",
        ngettext(
            "%(count)s session is past its deadline and not recorded: is the worker running?",
            "%(count)s sessions are past their deadline and not recorded: is the worker running?",
            count,
            count=number(count),
        ),
        ("state", "overdue"),
    )


def worker_check(sampled_at: datetime | None, lately: bool) -> Check:
    """Say when the worker counted sessions last: it does so in a pass, every five minutes."""
    if sampled_at is None:
        return Check("unknown", _("The worker has not counted the sessions yet"))
    if lately:
        at = clock_time(sampled_at)
        return Check("good", _("The worker counted the sessions at %(time)s", time=at))
    at = minute(sampled_at)
    return Check("bad", _("The worker has counted nothing since %(time)s: is it running?", time=at))


def missing_check(count: int) -> Check:
    """Say whether a store has lost the data of a live session."""
    if not count:
        return Check("good", _("No live session is marked as missing its data"))
    return Check(
        "bad",
        ngettext(
            "%(count)s live session is marked as missing its data in its store",
            "%(count)s live sessions are marked as missing their data in their store",
            count,
            count=number(count),
        ),
        ("flag", "lost"),
    )


def alarm_check(alarm: Alarm) -> Check:
    """Repeat what the worker raised an alarm about, with the time."""
    note = alarm_note(alarm.details, alarm.note)
    return Check("bad", _("Alarm at %(time)s: %(note)s", time=clock_time(alarm.at), note=note))


def limit_check(users: int | None) -> Check:
    """Say whether anybody holds more sessions than the limit allows; None is that nobody counted."""
    if users is None:
        return Check("unknown", _("Too many sessions to count who holds more than the limit"))
    if not users:
        return Check("good", _("No user holds more sessions than the limit"))
    return Check(
        "warning",
        ngettext(
            "%(count)s user holds more sessions than the limit",
            "%(count)s users hold more sessions than the limit",
            users,
            count=number(users),
        ),
        ("flag", LIMIT),
    )


def unfinished_check(count: int) -> Check | None:
    """Say that a confirmed revocation is still ending sessions; nothing if none is."""
    if not count:
        return None
    return Check(
        "warning",
        ngettext(
            "%(count)s revocation is still ending sessions",
            "%(count)s revocations are still ending sessions",
            count,
            count=number(count),
        ),
    )
