"""What does not happen to everybody every day: revocations, guesses, lost data, people who leave."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle
from random import Random

from flask import Flask

from app.audit.trail import Actor
from app.auth import changes
from app.auth.sign_in import step_up
from app.people.models import Role, User
from app.sessions import upkeep
from app.sessions.filter import SessionFilter
from app.sessions.freeze import Frozen, NothingToRevoke, Targets, freeze
from app.sessions.ledger import Principal
from app.sessions.models import UserSession
from app.sessions.revocation import confirm
from app.sessions.store import DataKey
from app.sessions.system import system, system_of
from app.sessions.transaction import TARGET, live
from demo.cast import Person
from demo.past import Diary, Visit, expire, id_of, live_of
from demo.places import OFFICES, Place

Words = tuple[str, str, bool]
"""Reason, note, and whether the user is told."""

WORDS: tuple[Words, ...] = (
    ("lost_device", "Phone left in a taxi, reported by the owner", True),
    ("lost_device", "Laptop stolen on the train; ticket 5120", True),
    ("incident", "Signed in from two countries within ten minutes", False),
    ("incident", "Password seen in a paste; the owner is informed", True),
    ("incident", "Malware on this machine, desk 4.17", False),
    ("user_request", "Forgot to sign out at the meeting room's PC", True),
    ("user_request", "Asked by phone, called back on the known number", False),
    ("left_company", "Last day was yesterday", False),
    ("policy", "Shared account, see rule 7", True),
    ("policy", "Script signed in as a person", False),
    ("other", "Test of the night shift's runbook", False),
)
WORDS_FOR_MANY: tuple[Words, ...] = (
    ("incident", "Malware in this office's network; everybody signs in anew", True),
    ("policy", "The office has moved to the new network", True),
)

_GUESSER = Place("203.0.113.66", "python-requests/2.32.5")
_GUESSED = ("admin", "root", "test", "administrator", "oracle", "backup", "support", "guest")


class Incidents:
    """Notes into a diary what staff, thieves and faults do. Targets are chosen when the time comes.

    `apart` are four members to whom nothing else happens: what they are for happens for certain.
    """

    def __init__(
        self, app: Flask, people: list[Person], apart: list[Person], random: Random, diary: Diary
    ) -> None:
        self._app = app
        self._people = people
        self._apart = apart
        self._random = random
        self._diary = diary
        members = [person for person in people if person.role is Role.MEMBER]
        random.shuffle(members)
        # In turn, so that what happens to one of them does not spoil what happens to the next.
        self._members = cycle(members)

    def plan(self, moment: Callable[[], datetime], password: str) -> None:
        """Spread everything over the window; `moment` returns a random one, likelier by day."""
        newcomer, loser, victim, leaver = self._apart
        for number in range(max(4, len(self._people) // 10)):
            at = moment()
            if number < 4 or number % 3 == 0:
                self._somebody(at)  # or at a quiet hour there may be nobody to revoke
            self._revoke(at, self._one_member)
        for office in self._random.sample(OFFICES, 2):
            where = SessionFilter(ip=f"{office}.0/24", role=Role.MEMBER)
            self._revoke(moment(), partial(Targets, matching=where), password)
        self._reset(moment(), password)
        self._lend_a_role(moment())
        for person in (loser, None, None):
            self._change_own_password(moment(), password)
            self._lose(moment(), person)
        for person in (victim, None):
            self._damage(moment(), person)
        self._disable(moment(), leaver, password)
        self._take_over(moment(), newcomer)
        self._guess(moment())

    def _one_member(self) -> Targets | None:
        members = [person.name for person in self._people if person.role is Role.MEMBER]
        found = TARGET.where(live(), User.name.in_(members)).order_by(UserSession.id)
        rows = system.ledger.read(found)
        return Targets(references=(self._random.choice(rows).reference,)) if rows else None

    def _somebody(self, at: datetime, apart: Person | None = None) -> Visit:
        """Let a member sign in shortly before something happens to them, and do nothing else."""
        person = apart or next(self._members)
        # At home no revocation of an office finds them.
        place = person.home if apart else self._random.choice(person.places)
        visit = Visit(self._app, person, place)
        self._diary.note(at - timedelta(minutes=2), visit.come)
        idle = system_of(self._app).policy.of(person.role).idle
        self._diary.note(at + idle, expire)
        return visit

    def _staff(self, at: datetime, *roles: Role) -> Visit:
        """Let one of the staff sign in for what is to be done, and sign out a while after it."""
        person = self._random.choice([p for p in self._people if p.role in roles])
        visit = Visit(self._app, person, person.places[0])
        self._diary.note(at, visit.come)
        self._diary.note(at + timedelta(minutes=3.5), visit.look)
        self._diary.note(at + timedelta(minutes=self._random.uniform(4, 7)), visit.leave)
        return visit

    def _later(self, at: datetime) -> datetime:
        return at + timedelta(seconds=self._random.uniform(25, 90))

    def _revoke(
        self, at: datetime, choose: Callable[[], Targets | None], password: str | None = None
    ) -> None:
        """Freeze and confirm; with a password, step up before it, as the pages ask for."""
        visit = self._staff(at, Role.OPERATOR, Role.ADMIN)
        reason, note, tell = self._random.choice(WORDS_FOR_MANY if password else WORDS)
        frozen: list[Frozen] = []

        def prepare() -> None:
            targets = choose()
            with visit.signed_in() as me, suppress(NothingToRevoke):
                if targets is not None and me is not None:
                    frozen.append(freeze(targets, actor=me))

        def finish() -> None:
            with visit.signed_in() as me:
                if frozen and me is not None:
                    by = step_up(password) if password else me
                    confirm(frozen[0].id, actor=by, reason=reason, note=note, tell=tell)

        at = self._later(at)
        self._diary.note(at, prepare)
        self._diary.note(self._later(at), finish)

    def _by_admin(self, at: datetime, act: Callable[[Principal], object]) -> None:
        visit = self._staff(at, Role.ADMIN)

        def do() -> None:
            with visit.signed_in() as me, suppress(changes.ChangeRefused):
                if me is not None:
                    act(me)

        self._diary.note(self._later(at), do)

    def _disable(self, at: datetime, person: Person, password: str) -> None:
        """Somebody leaves the company, and tries once more."""
        leaver = self._somebody(at, person)
        self._by_admin(at, lambda me: changes.disable_user(id_of(leaver.person), actor=me))
        later = at + timedelta(minutes=self._random.uniform(8, 40))
        self._diary.note(later, lambda: leaver.mistype(password))

    def _reset(self, at: datetime, password: str) -> None:
        person = self._somebody(at).person
        self._by_admin(at, lambda me: changes.reset_password(id_of(person), password, actor=me))

    def _lend_a_role(self, at: datetime) -> None:
        """A viewer who is signed in stands in for an operator, until an administrator ends it."""
        viewer = next(person for person in self._people if person.role is Role.VIEWER)
        visit = Visit(self._app, viewer, viewer.places[0])
        self._diary.note(at - timedelta(seconds=20), visit.come)
        for begin, role in ((at, Role.OPERATOR), (at + timedelta(minutes=50), Role.VIEWER)):

            def act(me: Principal, role: Role = role) -> None:
                changes.change_role(id_of(viewer), role, actor=me)

            self._by_admin(begin, act)

    def _change_own_password(self, at: datetime, password: str) -> None:
        """One of the staff, signed in at two places, changes the password: the other session ends."""
        person = self._random.choice([p for p in self._people if p.role.is_staff])
        here, there = (Visit(self._app, person, place) for place in person.places[:2])
        self._diary.note(at, there.come)
        self._diary.note(at + timedelta(seconds=40), here.come)

        def change() -> None:
            with here.signed_in() as me:
                if me is not None:
                    changes.change_own_password(password, password)

        self._diary.note(self._later(at + timedelta(seconds=40)), change)
        self._diary.note(at + timedelta(minutes=3.5), here.leave)

    def _lose(self, at: datetime, apart: Person | None) -> None:
        """The store loses a session's data; the worker sees it twice and ends the session."""
        person = self._somebody(at, apart).person

        def lose() -> None:
            for row in live_of(person):
                system.stores[row.store].delete([DataKey(row.data_key)])

        def reconcile() -> None:
            again = upkeep.LOOK_AGAIN
            upkeep.reconcile(system, Actor.system("worker"), upkeep.Pass(), again)

        self._diary.note(at, lose)
        for seconds in (12, 42):
            self._diary.note(at + timedelta(seconds=seconds), reconcile)

    def _damage(self, at: datetime, apart: Person | None) -> None:
        """A session's data becomes unreadable, which its next request finds out."""
        visit = self._somebody(at, apart)
        person = visit.person

        def spoil() -> None:
            for row in live_of(person):
                store, key = system.stores[row.store], DataKey(row.data_key)
                if (stored := store.load(key)) is not None:
                    store.save(key, b"no payload", stored.version, None)

        self._diary.note(at + timedelta(seconds=20), spoil)
        self._diary.note(at + timedelta(seconds=30), lambda: visit.look("never kept"))

    def _take_over(self, at: datetime, person: Person) -> None:
        """Somebody goes on with the phone, which ends the session at home, and forgets about it."""
        later = at + timedelta(minutes=10)
        self._diary.note(at, Visit(self._app, person, person.home).come)
        self._diary.note(later, Visit(self._app, person, person.places[2]).come)
        idle = system_of(self._app).policy.of(person.role).idle
        self._diary.note(later + idle + timedelta(seconds=20), expire)

    def _guess(self, at: datetime) -> None:
        """Somebody outside tries names that are common elsewhere."""
        for number, name in enumerate(_GUESSED):
            stranger = Visit(self._app, Person(name, Role.MEMBER, ()), _GUESSER)
            attempt = partial(stranger.mistype, "Passw0rd!")
            self._diary.note(at + timedelta(seconds=2 * number), attempt)
