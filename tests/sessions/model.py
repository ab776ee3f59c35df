"""What Rollcall promises about sessions, in plain Python: no SQL, no store, no clock but a number.

`test_stateful` drives it beside a real site and compares the two after each step.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

ABSOLUTE = 43200
MEMBERS_IDLE = 1800
STAFF_IDLE = 900
TOUCH = 60
LOOK_AGAIN = 30
FEW = 5
LOST_SHARE = 0.05
ALARM_PAUSE = 3600
REVIEW = 300

Told = tuple[str, str | None, str | None, str | None]
"""An event: its verb, whom and which session it is about, its reason."""


@dataclass
class Person:
    """A user."""

    name: str
    role: str
    active: bool = True

    @property
    def idle(self) -> int:
        return MEMBERS_IDLE if self.role == "member" else STAFF_IDLE


@dataclass
class Session:
    """A session, from its sign-in on. While its store has lost `data`, that is None, and in `lost`."""

    reference: str
    person: Person
    store: str
    started: int
    seen: int
    data: dict[str, Any] | None = field(default_factory=dict)
    lost: dict[str, Any] | None = None
    damaged: bool = False
    ended: str | None = None
    missing_since: int | None = None

    @property
    def idle_until(self) -> int:
        return self.seen + self.person.idle

    @property
    def until(self) -> int:
        return self.started + ABSOLUTE


@dataclass
class Review:
    """A frozen set."""

    id: int
    at: int
    members: list[Session]
    confirmed: bool = False


@dataclass(frozen=True)
class Rules:
    """What a site is set to at a sign-in."""

    limit: int
    deny: bool
    store: str


@dataclass
class Model:
    """Everybody and everything. Each method is what a person, the worker or a broken store does."""

    people: dict[str, Person]
    now: int = 0
    sessions: list[Session] = field(default_factory=list)
    told: Counter[Told] = field(default_factory=Counter)
    alarmed: dict[str, int] = field(default_factory=dict)

    # What is so

    def is_live(self, session: Session) -> bool:
        return session.ended is None and self.now < min(session.idle_until, session.until)

    def live(self, name: str | None = None) -> list[Session]:
        """Return live sessions, oldest first."""
        return [s for s in self.sessions if self.is_live(s) and name in (None, s.person.name)]

    def unended(self) -> list[Session]:
        return [s for s in self.sessions if s.ended is None]

    def tell(
        self, verb: str, about: Session | Person | None = None, reason: str | None = None
    ) -> None:
        person = about.person if isinstance(about, Session) else about
        reference = about.reference if isinstance(about, Session) else None
        self.told[verb, None if person is None else person.name, reference, reason] += 1

    # What people do

    def enter(self, name: str, rules: Rules, own: Session | None) -> str:
        """Return `signed in`, `denied` or `refused`, and do all of it but the new session itself."""
        person = self.people[name]
        if not person.active:
            return "refused"
        own = own if own is not None and self.is_live(own) else None
        others = [s for s in self.live(name) if s is not own]
        if rules.deny and len(others) >= rules.limit:
            for lost in [s for s in others if s.data is None]:
                self.end(lost, "lost", "session.lost")
            others = [s for s in others if s.ended is None]
            if len(others) >= rules.limit:
                self.tell("session.sign_in_denied", person)
                return "denied"
        for old in others[: max(0, len(others) + 1 - rules.limit)]:
            self.end(old, "superseded", "session.superseded")
        if own is not None and own.person is person:
            self.end(own, "superseded", "session.superseded")
        elif own is not None:
            self.end(own, "signed_out", "session.signed_out")
        return "signed in"

    def begin(self, reference: str, name: str, rules: Rules) -> Session:
        """Add the session of a sign-in, under the name that the site gave it."""
        session = Session(reference, self.people[name], rules.store, self.now, self.now)
        self.sessions.append(session)
        self.tell("session.signed_in", session)
        return session

    def end(self, session: Session, reason: str, verb: str, code: str | None = None) -> None:
        """End a session with its event; its data goes with it."""
        session.ended = reason
        session.data = session.lost = None
        session.damaged = False
        self.tell(verb, session, code or reason)

    def touch(self, session: Session, *, passive: bool) -> None:
        """Move the idle deadline, if that is due."""
        if not passive and self.now - session.seen >= TOUCH:
            session.seen = self.now

    # What staff do

    def expire(self, sessions: Iterable[Session]) -> None:
        """End what is past a deadline; the one that came first is the cause."""
        for session in list(sessions):
            if session.ended is None and self.now >= min(session.until, session.idle_until):
                absolute = session.until <= session.idle_until
                reason = "absolute_timeout" if absolute else "idle_timeout"
                self.end(session, reason, "session.expired")

    def end_all(self, name: str, reason: str) -> None:
        """End all that a person has, what has expired as expired."""
        own = [s for s in self.unended() if s.person.name == name]
        self.expire(own)
        for session in own:
            if session.ended is None:
                self.end(session, reason, "session.ended")

    def freeze(self, review_id: int, members: list[Session]) -> Review:
        """Fix a set; it is good for five minutes."""
        self.tell("revocation.frozen")
        return Review(review_id, self.now, members)

    def is_stale(self, review: Review) -> bool:
        return review.confirmed or self.now - review.at >= REVIEW

    def confirm(self, review: Review, code: str) -> tuple[int, int]:
        """End exactly the set; return how many it ended and how many had ended."""
        review.confirmed = True
        self.tell("revocation.confirmed", reason=code)
        still = [s for s in review.members if s.ended is None]
        self.expire(still)
        ended = [s for s in still if s.ended is None]
        for session in ended:
            self.end(session, "revoked", "session.revoked", code)
        self.tell("revocation.finished")
        return len(ended), len(review.members) - len(ended)

    def disable(self, name: str) -> None:
        person = self.people[name]
        person.active = False
        self.tell("user.disabled", person)
        self.end_all(name, "user_disabled")

    def enable(self, name: str) -> None:
        self.people[name].active = True
        self.tell("user.enabled", self.people[name])

    def change_role(self, name: str, role: str) -> None:
        self.tell("user.role_changed", self.people[name])
        self.end_all(name, "role_changed")
        self.people[name].role = role

    # What a broken store does

    def lose(self, session: Session) -> None:
        session.lost, session.data = session.data, None

    def find_again(self, session: Session) -> None:
        session.data, session.lost = session.lost, None

    # What the worker does

    def run_pass(self) -> None:
        """Record expiries, and end what a store has lost for good; alarm instead if it lost too much."""
        self.expire(self.unended())
        for store in ("redis", "sql"):
            own = [s for s in self.unended() if s.store == store]
            absent = [s for s in own if s.data is None]
            twice = []
            for session in own:
                if session.data is not None:
                    session.missing_since = None
                elif session.missing_since is None:
                    session.missing_since = self.now
                elif self.now - session.missing_since >= LOOK_AGAIN:
                    twice.append(session)
            if len(absent) > max(FEW, LOST_SHARE * len(own)):
                if self.now - self.alarmed.get(store, -ALARM_PAUSE) >= ALARM_PAUSE:
                    self.alarmed[store] = self.now
                    self.tell("worker.alarm", reason=store)
                continue
            for session in twice:
                self.end(session, "lost", "session.lost")
