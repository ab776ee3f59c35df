"""Lay down the last 48 hours: what everybody did, and what happened to them.

`demo.__main__` calls it once, before anything else runs. Same people and seed, same history, at any time
of the day.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from random import Random

from flask import Flask
from sqlalchemy import insert

from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.columns import clock
from app.people.models import Role, User
from app.people.names import name_key
from app.people.passwords import hash_password
from app.sessions.system import system, system_of
from demo.cast import VISITORS, Person
from demo.incidents import Incidents
from demo.past import Diary, Visit, expire
from demo.places import Place

LENGTH = timedelta(hours=48)

# How likely somebody signs in, hour by hour of the day before the end. As if that were always at three in
# the afternoon: the evening, the night, a peak before noon and one after it.
_BY_HOUR = (11, 9, 7, 6, 5, 5, 4, 3, 2, 2, 1, 1, 1, 1, 2, 4, 7, 11, 12, 11, 10, 8, 9, 11)
_LONG_VISIT = 45 * 60.0
_SHORT_VISIT = 18 * 60.0
_LONGEST, _APART = 3, 4
"""So many members stay until the absolute deadline; so many do nothing but what an incident asks of them."""

_SECOND_BROWSER, _MISTYPED, _SIGN_OUT, _WRITES, _MOVES = 0.12, 0.03, 0.45, 0.05, 0.02
"""Probabilities: of a visit, of a sign-in, of a visit's end; of a request, the first for members."""

NOTES = (
    "Ask about the invoice of October",
    "Ticket 4711: waiting for the other team",
    "Call back before noon",
    "Draft of the report is in the shared folder",
    "明天下午三點開會",
    "Revoir le contrat avec Inès",
)


class History:
    """A plan of what happens when, and its execution."""

    def __init__(self, app: Flask, people: list[Person], random: Random, until: datetime) -> None:
        self._app = app
        self._people = people
        self._random = random
        self._until = until
        self._from = until - LENGTH
        self._diary = Diary()

    def lay_down(self, password: str, between: Callable[[], None]) -> None:
        """Create everybody, then live through the hours. `between` is called after each act."""
        self._create_people(password)
        # The last in the cast are members. These are nobody's target, so no reason to end is ever missing.
        others, longest = self._people[:-_LONGEST], self._people[-_LONGEST:]
        usual, apart = others[:-_APART], others[-_APART:]
        for person in longest:
            self._plan_longest(person)
        for number, person in enumerate(usual):
            # Every other one has gone by then, so that there are people to come in.
            early = timedelta(minutes=self._random.uniform(15, 70))
            self._plan_days(person, self._until - early if number % 2 == 0 else None)
            if number % 8 == 1:
                self._plan_arrival(person)
        incidents = Incidents(self._app, usual, apart, self._random, self._diary)
        incidents.plan(self._early_moment, password)
        with self._app.app_context():
            self._diary.live(self._until, between)

    def _create_people(self, password: str) -> None:
        """Create them one after the other over the last year, the visitors' sign-ins last."""
        password_hash = hash_password(password)
        names = [(person.name, person.role) for person in self._people] + [*VISITORS.items()]
        days = sorted((self._random.uniform(3, 330) for _ in names), reverse=True)
        diary = Diary()
        for (name, role), ago in zip(names, days, strict=True):

            def create(name: str = name, role: Role = role) -> None:
                _create(name, role, password_hash)

            diary.note(self._from - timedelta(days=ago), create)
        with self._app.app_context():
            diary.live(self._from, lambda: None)

    def _plan_days(self, person: Person, gone: datetime | None) -> None:
        visits = self._random.randint(1, 6 if person.role.is_staff else 5)
        mean = _SHORT_VISIT if person.role.is_staff else _LONG_VISIT
        for _ in range(visits):
            begin = self._moment()
            end = begin + timedelta(seconds=self._random.expovariate(1 / mean))
            self._plan_visit(person, begin, end, gone)
            if self._random.random() < _SECOND_BROWSER:
                again = begin + (end - begin) * self._random.random()
                self._plan_visit(person, again, end, gone)

    def _plan_longest(self, person: Person) -> None:
        """Keep somebody busy at home in one session until it ends in any case."""
        absolute = system_of(self._app).policy.of(person.role).absolute
        begin = self._from + max(LENGTH - 2 * absolute, timedelta(0)) * self._random.random()
        self._plan_visit(person, begin, begin + 1.1 * absolute, None, person.home)

    def _plan_arrival(self, person: Person) -> None:
        """Let somebody come in the last minutes and still be there in the first."""
        begin = self._until - timedelta(minutes=self._random.uniform(1, 14))
        self._plan_visit(person, begin, self._until + timedelta(hours=1), None)

    def _plan_visit(
        self,
        person: Person,
        begin: datetime,
        end: datetime,
        gone: datetime | None,
        fixed: Place | None = None,
    ) -> None:
        """Note a sign-in, the requests that keep the session alive, and its end before `gone`."""
        if gone is not None and begin >= gone:
            return
        policy = system_of(self._app).policy.of(person.role)
        visit = Visit(self._app, person, fixed or self._random.choice(person.places))
        if self._random.random() < _MISTYPED:
            mistyped = begin - timedelta(seconds=self._random.uniform(4, 15))
            self._diary.note(mistyped, lambda: visit.mistype("not what it is"))
        self._diary.note(begin, visit.come)
        last = begin
        while (seen := last + policy.idle * self._random.uniform(0.5, 0.93)) < min(
            end, gone or end
        ):
            writes = person.role is Role.MEMBER and self._random.random() < _WRITES
            if fixed is None and self._random.random() < _MOVES:
                elsewhere = self._random.choice(person.places).ip
                self._diary.note(seen, partial(visit.move, elsewhere))
            self._note_look(visit, seen, self._random.choice(NOTES) if writes else None)
            last = seen
        if (gone and gone < end) or self._random.random() < _SIGN_OUT:
            self._diary.note(min(end, gone or end), visit.leave)
        for deadline in (last + policy.idle, begin + policy.absolute):
            self._diary.note(deadline + self._until_next_pass(), expire)

    def _note_look(self, visit: Visit, at: datetime, note: str | None) -> None:
        self._diary.note(at, lambda: visit.look(note))

    def _until_next_pass(self) -> timedelta:
        """Return how long the worker, which passes every 30 seconds, leaves something undone."""
        return timedelta(seconds=self._random.uniform(0.5, 30))

    def _early_moment(self) -> datetime:
        """Return a moment after which there is time for what follows from an incident."""
        return min(self._moment(), self._until - timedelta(hours=1))

    def _moment(self) -> datetime:
        """Return a moment of the window, likelier at busy hours; two draws, whatever comes out."""
        (hour,) = self._random.choices(range(len(_BY_HOUR) * 2), _BY_HOUR * 2)
        return self._from + timedelta(hours=hour + self._random.random())


def _create(name: str, role: Role, password_hash: str) -> None:
    """Create a user as `create_user` does, but with a hash that is made once for all."""
    values = {
        "name": name,
        "name_key": name_key(name),
        "role": role.value,
        "active": True,
        "password_hash": password_hash,
        "created_at": clock(),
        "password_changed_at": clock(),
    }
    with system.ledger.transaction() as tx:
        result = tx.connection.execute(insert(User).values(values))
        assert result.inserted_primary_key is not None
        user_id = int(result.inserted_primary_key[0])
        event = Event(Verb.USER_CREATED, user_id, name, details={"role": role.value})
        tx.record(Actor.cli("demo"), [event])
