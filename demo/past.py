"""The past as acts in their order, each done by the application itself at its own time.

Nothing is written past the application: the clock of this process is moved back, and what happens is
what `sign_in`, `sign_out`, `confirm` and the others do. So each change has its event, and each
deadline is the one that the settings ask for.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

from flask import Flask
from sqlalchemy import select

from app.audit.trail import Actor
from app.auth.sign_in import SignInRefused, Verified, authenticate, sign_in, sign_out
from app.auth.throttle import Throttled
from app.columns import AnyRow, skew
from app.people.models import User
from app.sessions import upkeep
from app.sessions.interface import SessionEnded, session
from app.sessions.ledger import Principal
from app.sessions.sampling import sample
from app.sessions.system import system
from app.sessions.transaction import TARGET, live
from demo.cast import Person
from demo.places import Place, updated

Act = Callable[[], None]


class Diary:
    """Acts and their times. Reading it moves the clock; what is after the end is never done."""

    def __init__(self) -> None:
        self._acts: list[tuple[datetime, int, Act]] = []
        self._noted = 0

    def note(self, at: datetime, act: Act) -> None:
        heapq.heappush(self._acts, (at, self._noted, act))
        self._noted += 1

    def live(self, until: datetime, between: Act) -> None:
        """Do what is noted up to a time, and call `between` after each; the clock is right again then."""
        try:
            while self._acts and self._acts[0][0] <= until:
                at, _, act = heapq.heappop(self._acts)
                _turn_clock(at)
                act()
                between()
        finally:
            skew.seconds = 0.0


def _turn_clock(at: datetime) -> None:
    """Move the clock to a time, but never back: an act takes milliseconds, and the next comes after it."""
    real = datetime.now(UTC)
    behind = timedelta(seconds=skew.seconds)
    reached = real + behind if behind else at
    skew.seconds = (max(at, reached) - real).total_seconds()


class Visit:
    """One browser of one person, from sign-in on. Its requests are real but for the view in the middle."""

    def __init__(self, app: Flask, person: Person, place: Place) -> None:
        self.person = person
        self.place = place
        self.over = False
        self._app = app
        self._cookie: str | None = None

    @contextmanager
    def request(self) -> Iterator[Principal | None]:
        """Be inside a request of this browser; yields who is signed in with it."""
        name = self._app.config["SESSION_COOKIE_NAME"]
        headers = {"User-Agent": self.place.user_agent}
        if self._cookie is not None:
            headers["Cookie"] = f"{name}={self._cookie}"
        at = {"REMOTE_ADDR": self.place.ip}
        with self._app.test_request_context("/", environ_base=at, headers=headers):
            self._app.preprocess_request()
            yield session.principal
            response = self._app.process_response(self._app.response_class())
            for line in response.headers.getlist("Set-Cookie"):
                if (cookie := SimpleCookie(line).get(name)) is not None:
                    self._cookie = cookie.value or None

    @contextmanager
    def signed_in(self) -> Iterator[Principal | None]:
        """Be inside a request; yields None, and this visit is over, if the session has ended."""
        with self.request() as principal:
            self.over = principal is None
            yield principal

    def come(self) -> None:
        """Sign in. Whoever was disabled meanwhile is not let in."""
        with self.request():
            try:
                sign_in(verified(self.person))
            except SignInRefused:
                self.over = True

    def look(self, note: str | None = None) -> None:
        """Open a page; with `note`, change the session's data as the start page does."""
        if self.over:
            return
        with self.signed_in() as principal:
            if principal is not None and note is not None:
                with suppress(SessionEnded):
                    session["note"] = note

    def mistype(self, typed: str) -> None:
        """Try to sign in with this password, which is the wrong one."""
        with self.request(), suppress(SignInRefused, Throttled):
            authenticate(self.person.name, typed)

    def move(self, ip: str) -> None:
        """Go on from another address, with a browser that was updated meanwhile if it was old."""
        self.place = Place(ip, updated(self.place.user_agent))

    def leave(self) -> None:
        """Sign out, unless the session has ended."""
        if self.over:
            return
        with self.signed_in() as principal:
            if principal is not None:
                sign_out()
                self.over = True


def verified(person: Person) -> Verified:
    """Return a person as if the password had just been checked: a thousand checks take a minute."""
    columns = (User.id, User.name, User.role, User.password_hash)
    row = system.ledger.read(select(*columns).where(User.name == person.name))[0]
    return Verified(row.id, row.name, row.role, row.password_hash)


def id_of(person: Person) -> int:
    return verified(person).id


def live_of(person: Person) -> list[AnyRow]:
    """Return a person's live sessions as they are in the ledger."""
    return list(system.ledger.read(TARGET.where(live(), User.name == person.name)))


def expire() -> None:
    """Do what the worker does about deadlines that have passed, and count what is left as it does."""
    upkeep.expire(system, Actor.system("worker"))
    sample(system)
