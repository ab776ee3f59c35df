"""The people of the demo while it runs: `python -m demo.crowd MEMBERS STAFF SEED ADDRESS`.

One thread, one request at a time and a pause between two, so that the crowd never loads the machine.
`demo.__main__` starts it beside the site and ends it with a signal.
"""

import heapq
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from traceback import extract_tb

from demo import PASSWORD_FILE
from demo.browser import Browser, Unreachable
from demo.cast import Person, people
from demo.places import OFFICES, Place
from demo.visits import After, Visit

_GAP, _OPENING_GAP = 4.0, 0.9
"""Seconds between two people who come: later, and until there are enough."""

_SHARE_INSIDE = 0.45
_PAUSE, _OPENING_PAUSE = 0.33, 0.2
"""Seconds between two requests."""

_WHOLE_OFFICE = 0.12
"""The share of revocations that hit all members of an office."""

_REPORT_EVERY = 300.0
_MINUTE = 60.0


class Crowd:
    """Who is inside, who is away, and what happens next."""

    def __init__(self, site: str, cast: list[Person], password: str, random: Random) -> None:
        self._site = site
        self._password = password
        self._random = random
        self._away = [*cast]
        self._inside: list[Visit] = []
        self._target = round(len(cast) * _SHARE_INSIDE)
        self._counts: Counter[str] = Counter()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._noted = 0
        self._opening = True
        self._last_request = 0.0

    def live(self) -> None:
        """Go on until a signal comes."""
        self._in(0, self._open)
        self._in(2 * _MINUTE, self._report)
        self._in(2.5 * _MINUTE, self._revoke)
        while True:
            at, _, act = heapq.heappop(self._agenda)
            time.sleep(max(0.0, at - time.monotonic()))
            try:
                act()
            except Unreachable:
                self._counts["not answered"] += 1
            except Exception as error:  # noqa: BLE001 -- it would end the site too
                self._stumble(error)

    def _stumble(self, error: Exception) -> None:
        """Count what nobody has thought of, and tell of the first."""
        if not self._counts["stumbled"]:
            at = extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {str(error)[:200]} ({at.filename}:{at.lineno})"
            print(f"The crowd stumbled, and goes on: {what}", flush=True)
        self._counts["stumbled"] += 1

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, self._noted, act))
        self._noted += 1

    def _pace(self) -> None:
        pause = _OPENING_PAUSE if self._opening else _PAUSE
        time.sleep(max(0.0, self._last_request + pause - time.monotonic()))
        self._last_request = time.monotonic()

    def _open(self) -> None:
        """Let one of the staff look who is still inside: coming again would only end those sessions."""
        self._in(0, self._let_in)
        first = self._away.pop(0)
        self._random.shuffle(self._away)
        self._come(first, self._random.choice(first.places))
        for visit in self._inside:
            inside = visit.who_is_inside()
            self._away.sort(key=lambda person: person.name in inside)

    def _let_in(self) -> None:
        """Let the next one come if there is room; at first quickly."""
        if len(self._inside) >= self._target:
            self._opening = False
        self._in(_OPENING_GAP if self._opening else _GAP, self._let_in)
        if self._away and len(self._inside) < self._target:
            nearest = 0 if self._opening else self._random.randrange(len(self._away))
            person = self._away.pop(nearest)
            self._come(person, self._random.choice(person.places))

    def _come(self, person: Person, place: Place) -> None:
        visit = Visit(person, Browser(self._site, place, self._pace), self._password, self._random)
        try:
            welcome = visit.sign_in()
        except Exception:
            self._rest(person, 1)
            raise
        if welcome:
            self._counts["came"] += 1
            self._inside.append(visit)
            self._in(self._short_while(person), lambda: self._step(visit))
        else:
            # Disabled, or throttled: there is no use in trying on.
            self._counts["refused"] += 1
            self._rest(person, 45)

    def _short_while(self, person: Person) -> float:
        """Return seconds until the next click, well below the idle timeout of the role."""
        mean, longest = (70.0, 230.0) if person.role.is_staff else (130.0, 700.0)
        return min(longest, 3 + self._random.expovariate(1 / mean))

    def _step(self, visit: Visit) -> None:
        if visit not in self._inside:
            return
        chance = self._random.random()
        if chance < 0.025:
            self._walk_away(visit)
            return
        if chance < 0.04:
            self._come_again(visit)
        self._in(self._short_while(visit.person), lambda: self._step(visit))
        self._note(visit, visit.step())

    def _note(self, visit: Visit, after: After) -> None:
        if after is After.GOES_ON or visit not in self._inside:
            return
        self._counts["signed out" if after is After.SIGNED_OUT else "were ended"] += 1
        self._inside.remove(visit)
        self._rest(visit.person, self._random.uniform(4, 40))

    def _rest(self, person: Person, minutes: float) -> None:
        self._in(minutes * _MINUTE, lambda: self._be_away(person))

    def _be_away(self, person: Person) -> None:
        """Let a person be chosen again, once, and not while another browser of theirs is inside."""
        if person not in self._away and all(visit.person != person for visit in self._inside):
            self._away.append(person)

    def _walk_away(self, visit: Visit) -> None:
        """Leave the browser open; who comes back to it reads that the session has expired."""
        self._counts["walked away"] += 1
        self._inside.remove(visit)

        def come_back() -> None:
            self._be_away(visit.person)
            visit.browser.get("/account/sessions")

        self._in(self._random.uniform(16, 40) * _MINUTE, come_back)

    def _come_again(self, visit: Visit) -> None:
        """Sign in from elsewhere; members have one session, so the one here ends."""
        elsewhere = [place for place in visit.person.places if place != visit.browser.place]
        self._in(5, lambda: self._come(visit.person, self._random.choice(elsewhere)))

    def _revoke(self) -> None:
        """Let one of the staff end a session, seldom those of a whole office."""
        self._in(self._random.uniform(150, 420), self._revoke)
        staff = [visit for visit in self._inside if visit.person.may_revoke]
        others = [visit for visit in self._inside if not visit.person.role.is_staff]
        if not staff or not others:
            return
        visit = self._random.choice(staff)
        self._counts["revocations"] += 1
        if self._random.random() < _WHOLE_OFFICE:
            after = visit.revoke_members_at(f"{self._random.choice(OFFICES)}.0/24")
        else:
            after = visit.revoke_one(self._random.choice(others).person.name)
        self._note(visit, after)

    def _report(self) -> None:
        self._in(_REPORT_EVERY, self._report)
        words = ", ".join(f"{what} {count}" for what, count in sorted(self._counts.items()))
        print(f"The crowd: {len(self._inside)} inside. Since the start: {words}.", flush=True)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    members, staff, seed, site = sys.argv[1:]
    cast = people(int(members), int(staff))
    password = PASSWORD_FILE.read_text()
    random = Random(int(seed))
    Crowd(site, cast, password, random).live()
    return 0


if __name__ == "__main__":
    sys.exit(main())
