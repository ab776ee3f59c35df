"""The session engine beside a model of its promises: people, staff, the worker and broken stores in any order.

TEST_STATEFUL_EXAMPLES says how many stories are told, the same ones each time; with it, one that
fails is shortened.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import pytest
from flask import session
from flask_login import current_user
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from sqlalchemy import inspect, text
from werkzeug.test import TestResponse

from app.audit.trail import Actor
from app.auth.changes import change_role, disable_user, enable_user
from app.auth.sign_in import SessionLimitReached, SignInRefused, sign_in, sign_out, step_up
from app.columns import skew
from app.sessions import revocation, upkeep
from app.sessions.freeze import Frozen, NothingToRevoke, Targets, freeze
from app.sessions.handles import handle_for
from app.sessions.interface import session as rollcall_session
from app.sessions.store import DataKey
from app.sessions.transaction import live
from tests.servers import RedisServer
from tests.sessions import model
from tests.sessions.helpers import add_view
from tests.sessions.model import Model, Person, Review, Rules
from tests.sessions.test_damaged import damage
from tests.site import CAST, PASSWORD, Site

ASKED_FOR = os.environ.get("TEST_STATEFUL_EXAMPLES")
EXAMPLES = int(ASKED_FOR or 25)
STEPS = 30
BROWSERS = 7
STAFF = Actor.cli("tests")

SETTINGS: tuple[dict[str, Any], ...] = (
    {
        "SESSION_LIMIT": 1,
        "SESSION_STORE_BY_ROLE": {"member": "redis"}
        | dict.fromkeys({*CAST.values()} - {"member"}, "sql"),
    },
    {
        "SESSION_LIMIT": 3,
        "SESSION_LIMIT_POLICY": "deny",
        "SESSION_STORE_BY_ROLE": {"member": "sql"}
        | dict.fromkeys({*CAST.values()} - {"member"}, "redis"),
    },
)
"""Two sites on one ledger: what one allows is too much for the other."""

browsers = st.integers(0, BROWSERS - 1)
someone = st.integers(0, 999)
"""Mostly one of the browsers that are signed in: see `Story.choose`."""
sites = st.integers(0, 1)
people = st.sampled_from(sorted(CAST))
changeable = st.sampled_from(sorted(set(CAST) - {"ada"}))
keys = st.sampled_from(["basket", "note"])
values = st.integers(0, 3)
picks = st.integers(0, 99)


def rules_of(number: int, role: str) -> Rules:
    given = SETTINGS[number]
    deny = given.get("SESSION_LIMIT_POLICY") == "deny"
    return Rules(given["SESSION_LIMIT"], deny, given["SESSION_STORE_BY_ROLE"][role])


def enter(name: str) -> dict[str, Any]:
    from tests.processes.served import verified

    try:
        return {"reference": sign_in(verified(name)).reference}
    except SessionLimitReached:
        return {"outcome": "denied"}
    except SignInRefused:
        return {"outcome": "refused"}


def who() -> dict[str, Any]:
    if not current_user.is_authenticated:
        return {"name": None}
    data = {key: value for key, value in dict(session).items() if key != "csrf_token"}
    return {"name": current_user.name, "data": data}


def put(key: str, value: str) -> dict[str, Any]:
    session[key] = value
    return {}


def fail(key: str, value: str) -> None:
    session[key] = value
    raise ZeroDivisionError


def regenerate() -> dict[str, Any]:
    rollcall_session.regenerate()
    return {}


def confirm_password() -> dict[str, Any]:
    step_up(PASSWORD)
    return {}


def leave() -> dict[str, Any]:
    sign_out()
    return {}


class Story(RuleBasedStateMachine):
    """Steps on a site and on the model. `sites` and `valkey` are given by the test."""

    sites: tuple[Site, ...]
    valkey: RedisServer
    redis: Redis

    def __init__(self) -> None:
        super().__init__()
        self.model = Model({name: Person(name, role) for name, role in CAST.items()})
        self.cookies: dict[int, str] = {}
        self.holders: dict[int, model.Session] = {}
        self.ids: dict[str, model.Session] = {}
        self.current: dict[str, str] = {}
        self.reviews: list[Review] = []
        self.lost: dict[str, bytes] = {}
        self.empty()

    def empty(self) -> None:
        """Bring database, Redis and clock back to where every story begins."""
        skew.seconds = 0.0
        self.redis.flushall()
        with self.site.system.ledger.transaction() as tx:
            for table in (
                "revocation_targets",
                "cutoff",
                "user_sessions",
                "revocations",
                "audit_events",
                "session_payloads",
            ):
                tx.connection.execute(text(f"DELETE FROM {table}"))
            for name, role in CAST.items():
                tx.connection.execute(
                    text("UPDATE users SET role = :role, active = 1 WHERE name = :name"),
                    {"role": role, "name": name},
                )

    def teardown(self) -> None:
        """No id that was ever given out is anywhere in the database."""
        tables = inspect(self.site.system.ledger.engine).get_table_names()
        held = [
            value if isinstance(value, bytes) else str(value).encode()
            for table in tables
            for row in self.site.system.ledger.read(text(f'SELECT * FROM "{table}"'))
            for value in row
        ]
        assert not [secret for secret in self.ids for each in held if secret.encode() in each]

    @property
    def site(self) -> Site:
        return self.sites[0]

    def ask(self, on: int, path: str, cookie: str | None, *, passive: bool = False) -> TestResponse:
        """Send a request to one of the sites with this cookie."""
        app = self.sites[on].app
        headers = {"X-Passive": "1"} if passive else {}
        if cookie is not None:
            headers["Cookie"] = f"{app.config['SESSION_COOKIE_NAME']}={cookie}"
        return app.test_client(use_cookies=False).get(path, headers=headers)

    def new_id(self, response: TestResponse) -> str | None:
        """Return the id that a response sets; an empty one deletes the cookie."""
        name = self.site.app.config["SESSION_COOKIE_NAME"]
        for value in response.headers.getlist("Set-Cookie"):
            if name in (cookie := SimpleCookie(value)):
                return cookie[name].value
        return None

    def give(self, browser: int, secret: str, to: model.Session) -> None:
        """A browser holds a session's new id; the one before it is nobody's."""
        self.cookies[browser], self.holders[browser] = secret, to
        self.ids[secret] = to
        self.current[to.reference] = secret

    def choose(self, pick: int) -> int:
        """Return a browser: nine times in ten one that is signed in, if there is any."""
        held = [browser for browser in range(BROWSERS) if self.holder(browser) is not None]
        return held[pick % len(held)] if held and pick < 900 else pick % BROWSERS

    def holder(self, browser: int) -> model.Session | None:
        """Return the live session whose id a browser holds."""
        held = self.holders.get(browser)
        if held is None or self.current[held.reference] != self.cookies[browser]:
            return None
        return held if self.model.is_live(held) else None

    def row_of(self, of: model.Session) -> Any:
        (row,) = [row for row in self.site.rows() if row.reference == of.reference]
        return row

    # People

    @initialize(names=st.lists(people, min_size=3, max_size=5), on=sites)
    def begins(self, names: list[str], on: int) -> None:
        for browser, name in enumerate(names):
            self.signs_in(browser, name, on)

    @rule(browser=browsers, name=people, on=sites)
    def signs_in(self, browser: int, name: str, on: int) -> None:
        rules = rules_of(on, self.model.people[name].role)
        before = len(self.model.live(name))
        expected = self.model.enter(name, rules, self.holder(browser))
        response = self.ask(on, f"/enter/{name}", self.cookies.get(browser))
        said = response.get_json()
        if expected != "signed in":
            assert said == {"outcome": expected}
            assert self.new_id(response) is None
            return
        secret = self.new_id(response)
        assert secret
        assert secret not in self.ids
        self.give(browser, secret, self.model.begin(said["reference"], name, rules))
        assert len(self.model.live(name)) <= (
            max(before, rules.limit) if rules.deny else rules.limit
        )

    def request(
        self, browser: int, on: int, path: str, *, passive: bool = False
    ) -> TestResponse | None:
        """Send a request that looks at the data; None if the model says that it cannot, and it did not."""
        held = self.holder(browser)
        response = self.ask(on, path, self.cookies.get(browser), passive=passive)
        if held is None:
            assert response.status_code in (200, 401, 500)
            return None
        if held.damaged:
            self.model.end(held, "damaged", "session.damaged")
            assert response.status_code == 401
            return None
        self.model.touch(held, passive=passive)
        if held.data is None:
            assert response.status_code == 503
            return None
        return response

    @rule(pick=someone, on=sites, passive=st.booleans())
    def looks(self, pick: int, on: int, passive: bool) -> None:
        browser = self.choose(pick)
        held = self.holder(browser)
        if held is None:
            response = self.ask(on, "/who", self.cookies.get(browser), passive=passive)
            assert response.get_json() == {"name": None}
            assert self.new_id(response) is None
            return
        response = self.request(browser, on, "/who", passive=passive)
        if response is not None:
            assert response.get_json() == {"name": held.person.name, "data": held.data}
            assert self.new_id(response) is None

    @rule(pick=someone, on=sites, key=keys, value=values, passive=st.booleans())
    def writes(self, pick: int, on: int, key: str, value: int, passive: bool) -> None:
        browser = self.choose(pick)
        self.put(browser, on, f"/put/{key}/{value}", key, value, passive=passive, status=200)

    @rule(pick=someone, on=sites, key=keys, value=values)
    def writes_and_fails(self, pick: int, on: int, key: str, value: int) -> None:
        browser = self.choose(pick)
        self.put(browser, on, f"/fail/{key}/{value}", key, value, passive=False, status=500)

    def put(
        self, browser: int, on: int, path: str, key: str, value: int, *, passive: bool, status: int
    ) -> None:
        held = self.holder(browser)
        response = self.request(browser, on, path, passive=passive)
        if response is not None:
            assert held is not None
            assert held.data is not None
            assert response.status_code == status
            held.data[key] = str(value)

    @rule(pick=someone, on=sites, how=st.sampled_from(["regenerated", "stepped_up"]))
    def gets_a_new_id(self, pick: int, on: int, how: str) -> None:
        browser = self.choose(pick)
        held = self.holder(browser)
        if held is None:
            return
        response = self.request(browser, on, f"/{how}")
        if response is None:
            return
        secret = self.new_id(response)
        assert secret
        assert secret not in self.ids
        self.model.tell(f"session.{how}", held)
        self.give(browser, secret, held)

    @rule(pick=someone, on=sites)
    def signs_out(self, pick: int, on: int) -> None:
        browser = self.choose(pick)
        held = self.holder(browser)
        response = self.ask(on, "/leave", self.cookies.get(browser))
        assert self.new_id(response) == (None if held is None else "")
        if held is not None:
            self.model.end(held, "signed_out", "session.signed_out")

    @precondition(lambda self: self.ids)
    @rule(pick=picks, on=sites)
    def replays(self, pick: int, on: int) -> None:
        secret = list(self.ids)[pick % len(self.ids)]
        of = self.ids[secret]
        if self.current[of.reference] == secret and self.model.is_live(of):
            return
        response = self.ask(on, "/who", secret)
        assert response.get_json() == {"name": None}
        assert not response.headers.getlist("Set-Cookie")

    # Staff

    def freeze(self, targets: Targets, members: list[model.Session]) -> None:
        with self.site.app.test_request_context():
            if not members:
                with pytest.raises(NothingToRevoke):
                    freeze(targets, actor=STAFF)
                return
            frozen = freeze(targets, actor=STAFF)
        assert frozen.size == len(members)
        self.reviews.append(self.model.freeze(frozen.id, members))

    @precondition(lambda self: self.model.sessions)
    @rule(chosen=st.sets(picks, min_size=1, max_size=4))
    def freezes_some(self, chosen: set[int]) -> None:
        known = self.model.sessions
        members = [known[at] for at in sorted({pick % len(known) for pick in chosen})]
        self.freeze(Targets(references=tuple(each.reference for each in members)), members)

    @rule(name=people)
    def freezes_a_persons(self, name: str) -> None:
        self.freeze(Targets(user_id=self.site.user_id(name)), self.model.live(name))

    @rule()
    def freezes_everyones(self) -> None:
        self.freeze(Targets(everyone=True), self.model.live())

    @precondition(lambda self: self.reviews)
    @rule(pick=picks)
    def confirms(self, pick: int) -> None:
        review = self.reviews[pick % len(self.reviews)]
        with self.site.app.test_request_context():
            frozen = Frozen(review.id, len(review.members))
            if self.model.is_stale(review):
                with pytest.raises(revocation.Stale):
                    revocation.revoke(frozen, actor=STAFF, reason="incident")
                return
            receipt = revocation.revoke(frozen, actor=STAFF, reason="incident")
        ended, already = self.model.confirm(review, "incident")
        assert receipt.counts() == {
            "ended": ended,
            "already_ended": already,
            "purged": ended,
            "purge_pending": 0,
            "present": 0,
        }

    @rule(name=changeable)
    def is_disabled_or_enabled(self, name: str) -> None:
        person = self.model.people[name]
        with self.site.app.test_request_context():
            if person.active:
                ending = len([s for s in self.model.unended() if s.person is person])
                assert disable_user(self.site.user_id(name), actor=STAFF) == ending
                self.model.disable(name)
            else:
                enable_user(self.site.user_id(name), actor=STAFF)
                self.model.enable(name)

    @rule(name=changeable, role=st.sampled_from(["member", "viewer", "operator"]))
    def gets_another_role(self, name: str, role: str) -> None:
        if self.model.people[name].role == role:
            return
        with self.site.app.test_request_context():
            change_role(self.site.user_id(name), role, actor=STAFF)
        self.model.change_role(name, role)

    # Time, the worker, and stores that break

    @rule(seconds=st.sampled_from([30, 30, 60, 60, 90, 120, 300, 840, 1740, 43170]))
    def time_passes(self, seconds: int) -> None:
        skew.seconds += seconds
        self.model.now += seconds

    @rule()
    def worker_does_a_pass(self) -> None:
        with self.site.app.app_context():
            revocation.resume(self.site.system)
            upkeep.run(self.site.system, look_again=model.LOOK_AGAIN)
        self.model.run_pass()
        assert self.keys_in_stores(expired=True) == {
            row.data_key
            for row in self.site.rows()
            if any(
                s.reference == row.reference and s.data is not None for s in self.model.unended()
            )
        }

    def holding(self) -> list[model.Session]:
        """Return the sessions whose data a store holds, whole."""
        return [s for s in self.model.live() if s.data is not None and not s.damaged]

    def lose(self, of: model.Session) -> None:
        row = self.row_of(of)
        payload = self.site.payload(row)
        assert payload is not None
        self.lost[of.reference] = payload
        assert self.site.system.stores[row.store].delete([DataKey(row.data_key)]) == 1
        self.model.lose(of)

    @precondition(lambda self: self.holding())
    @rule(pick=picks)
    def store_loses_one(self, pick: int) -> None:
        self.lose(self.holding()[pick % len(self.holding())])

    @precondition(lambda self: any(each.store == "redis" for each in self.holding()))
    @rule()
    def redis_loses_all(self) -> None:
        for each in self.holding():
            if each.store == "redis":
                self.lose(each)

    @precondition(lambda self: any(each.data is None for each in self.model.live()))
    @rule()
    def what_was_lost_comes_back(self) -> None:
        for each in self.model.live():
            if each.data is None:
                row = self.row_of(each)
                ttl = row.idle_expires_at - row.last_seen_at
                payload = self.lost.pop(each.reference)
                self.site.system.stores[row.store].create(DataKey(row.data_key), payload, ttl)
                self.model.find_again(each)

    @precondition(lambda self: self.holding())
    @rule(pick=picks)
    def store_damages_one(self, pick: int) -> None:
        of = self.holding()[pick % len(self.holding())]
        damage(self.site, self.valkey, self.row_of(of), b"\x91\x01")
        of.damaged = True

    # What must be so after each step

    def keys_in_stores(self, *, expired: bool) -> set[str]:
        """Return what the stores hold; one that has expired in SQL is absent until a pass deletes it."""
        prefix = "rollcall:session:"
        found = {key.decode().removeprefix(prefix) for key in self.redis.scan_iter(f"{prefix}*")}
        rows = self.site.system.ledger.read(
            text(
                "SELECT data_key FROM session_payloads WHERE :all OR expires_at > rollcall_now(:at)"
            ),
            {"all": expired, "at": skew.seconds},
        )
        return found | {row.data_key for row in rows}

    @invariant()
    def all_agree(self) -> None:
        alive = self.site.rows(live())
        self.live_rows_are_the_models(alive)
        self.every_change_has_its_event_and_every_event_its_change()
        self.data_and_deadlines_are_the_models(alive)
        self.only_the_newest_id_of_a_live_session_is_somebodys()

    def live_rows_are_the_models(self, alive: list[Any]) -> None:
        expected = {(s.reference, s.person.name, s.store) for s in self.model.live()}
        assert {(row.reference, row.name, row.store) for row in alive} == expected
        assert max(Counter(row.name for row in alive).values(), default=0) <= 3
        rows = self.site.rows()
        ended = {s.reference: s.ended for s in self.model.sessions}
        assert {row.reference: row.end_reason for row in rows} == ended
        unended = {row.data_key for row in rows if row.ended_at is None}
        assert self.keys_in_stores(expired=False) <= unended

    def every_change_has_its_event_and_every_event_its_change(self) -> None:
        told = Counter(
            (each.verb, each.target_name, each.reference, each.reason)
            for each in self.site.events()
        )
        assert told == self.model.told

    def data_and_deadlines_are_the_models(self, alive: list[Any]) -> None:
        known = {s.reference: s for s in self.model.live()}
        for row in alive:
            of, payload = known[row.reference], self.site.payload(row)
            seen, idle, absolute = (
                (at - row.started_at).total_seconds()
                for at in (row.last_seen_at, row.idle_expires_at, row.absolute_expires_at)
            )
            # A story takes some seconds, and its clock moves by no less than thirty.
            assert 0 <= seen - (of.seen - of.started) < 30
            assert 0 <= idle - (of.idle_until - of.started) < 30
            assert absolute == model.ABSOLUTE
            if of.data is None:
                assert payload is None
            elif not of.damaged:
                assert payload is not None
                data = self.site.system.codec.decode(payload)
                assert {k: v for k, v in data.items() if k != "csrf_token"} == of.data
                assert not [secret for secret in self.ids if secret.encode() in payload]

    def only_the_newest_id_of_a_live_session_is_somebodys(self) -> None:
        for secret, of in self.ids.items():
            handle = handle_for(secret)
            assert handle is not None
            row = self.site.system.ledger.open(handle)
            somebody = row is not None and bool(row.live)
            assert somebody == (self.model.is_live(of) and self.current[of.reference] == secret)


VIEWS: dict[str, Callable[..., Any]] = {
    "/enter/<name>": enter,
    "/who": who,
    "/put/<key>/<value>": put,
    "/fail/<key>/<value>": fail,
    "/regenerated": regenerate,
    "/stepped_up": confirm_password,
    "/leave": leave,
}


@pytest.fixture
def story(make_site: Callable[..., Site], valkey: RedisServer) -> Iterator[type[Story]]:
    made = tuple(make_site(**given, PROPAGATE_EXCEPTIONS=False) for given in SETTINGS)
    for site in made:
        for path, view in VIEWS.items():
            add_view(site, path, view)
    with valkey.client() as client:
        yield type("OnSites", (Story,), {"sites": made, "valkey": valkey, "redis": client})
    skew.seconds = 0.0


def test_whatever_happens_in_whatever_order_the_site_does_what_the_model_does(
    story: type[Story],
) -> None:
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            database=None,
            deadline=None,
            # To shorten a story that failed takes minutes: only for whoever asked for many.
            phases=(Phase.generate, Phase.shrink) if ASKED_FOR else (Phase.generate,),
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
