"""What ends or forbids a user's sessions, against a sign-in of that user that is under way elsewhere."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, func, select

from app import create_app
from app.audit.trail import Actor
from app.auth.changes import enable_user
from app.people.models import User
from app.sessions import upkeep
from app.sessions.models import Revocation, UserSession
from app.sessions.stores import budget
from app.sessions.transaction import live
from tests.processes.barrier import PATIENCE
from tests.processes.conftest import Square, holdings, settings_for, waiters
from tests.processes.crowd import ACTS
from tests.processes.web import in_background
from tests.servers import wait_until
from tests.site import PASSWORD, Browser, Site

LIMIT = 3
ROUNDS = 8
FORBIDDEN = {"disable", "reset_password", "change_own_password"}
"""After these a sign-in that was verified before them is refused; after the others it may begin."""

acts = pytest.mark.parametrize(
    "act",
    [
        "disable",
        "reset_password",
        "change_role",
        "revoke_user",
        "revoke_everyone",
        "change_own_password",
    ],
)


@pytest.fixture
def site(square: Square) -> Iterator[Site]:
    more = {"SESSION_LIMIT": LIMIT, "REQUEST_DEADLINE": 60}
    made = Site(create_app(settings_for(square.url, square.redis, **more)))
    # A request waits for a lock until the test opens the door, like the acts that are none.
    made.app.before_request(budget.clear)
    yield made
    made.close()


def sign_ins(square: Square, store: str = "sql", times: int = 1, **more: object) -> Any:
    given = {"whom": ["alice"], "times": times, **more}
    return square.order("sign_in", store, order=given, SESSION_LIMIT=LIMIT)


def alive(site: Site) -> list[Any]:
    """Return alice's live sessions, as the live statement sees them."""
    return site.rows(User.name == "alice", live())


def act_of(site: Site, name: str, alice: Browser) -> Callable[[], object]:
    """Return an act as a call in this process."""
    if name != "change_own_password":
        return lambda: ACTS[name](site.app, "alice")
    new = "a lantern above the harbour"
    form = {"current_password": PASSWORD, "password": new, "repeat": new}
    form["csrf_token"] = alice.token("/account/password")
    return lambda: alice.client.post("/account/password", data=form)


def interned(square: Square) -> None:
    """Let the crowd's user agent be known, so that a sign-in has one transaction."""
    under_way = square.at_once([sign_ins(square)])
    under_way.start()
    assert under_way.finish() == [{"signed in": 1}]


@acts
def test_a_sign_in_that_was_verified_before_an_act_begins_after_it_or_not_at_all(
    square: Square, site: Site, act: str
) -> None:
    interned(square)
    alice = site.signed_in("alice")
    acting = act_of(site, act, alice)
    under_way = square.at_once([sign_ins(square, stop="begin")])
    under_way.start()
    door = square.barrier.arrived("crowd-0-begin")
    acting()
    acted_at = site.system.ledger.now()
    own = [row.reference for row in alive(site)]
    assert len(own) == (act == "change_own_password")

    door.open()
    assert under_way.finish() == [{"refused" if act in FORBIDDEN else "signed in": 1}]
    later = [row for row in alive(site) if row.reference not in own]
    assert len(later) == (act not in FORBIDDEN)
    assert all(row.started_at > acted_at for row in later)
    assert len(holdings(site)) == len(own) + len(later)


@acts
def test_an_act_ends_the_session_of_a_sign_in_that_was_about_to_commit(
    square: Square, site: Site, act: str
) -> None:
    interned(square)
    alice = site.signed_in("alice")
    acting = act_of(site, act, alice)
    under_way = square.at_once([sign_ins(square, stop="commit")])
    under_way.start()
    door = square.barrier.arrived("crowd-0-commit")
    began = site.system.ledger.now()
    acted = begun(site, acting)
    if square.database == "postgresql":
        wait_until(lambda: waiters(site) or acted.done())
        assert not acted.done()

    door.open()
    assert under_way.finish() == [{"signed in": 1}]
    acted.result(PATIENCE)
    own = [row for row in alive(site) if act == "change_own_password"]
    assert [row.reference for row in alive(site)] == [row.reference for row in own]
    assert len(own) == (act == "change_own_password")
    assert len([row for row in site.rows() if row.started_at < began]) == 3
    if act != "revoke_everyone":
        upkeep.run(site.system)
        assert len(holdings(site)) == len(own)


def test_a_sign_in_waits_for_one_that_is_about_to_commit_and_counts_its_session(
    square: Square, site: Site
) -> None:
    interned(square)
    for _ in range(LIMIT - 1):
        site.signed_in("alice")
    under_way = square.at_once([sign_ins(square, stop="commit")])
    under_way.start()
    door = square.barrier.arrived("crowd-0-commit")
    entered = begun(site, lambda: ACTS["sign_in"](site.app, "alice"))
    if square.database == "postgresql":
        wait_until(lambda: waiters(site) or entered.done())
        assert not entered.done()

    door.open()
    assert under_way.finish() == [{"signed in": 1}]
    entered.result(PATIENCE)
    assert len(alive(site)) == LIMIT
    assert len(site.rows()) == LIMIT + 2


def begun(site: Site, acting: Callable[[], object]) -> Future[object]:
    """Start an act in a thread of its own, and return when its first transaction is about to begin."""
    begins = threading.Event()

    @event.listens_for(site.system.ledger.engine, "before_cursor_execute")
    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("BEGIN"):
            begins.set()

    acted = in_background(acting)
    assert begins.wait(PATIENCE)
    return acted


def acted_at(site: Site, act: str) -> datetime:
    """Return since when an act holds; what began before it must not be live."""
    latest = {
        "disable": select(User.disabled_at).where(User.name == "alice"),
        "reset_password": select(User.password_changed_at).where(User.name == "alice"),
        "revoke_user": select(func.max(Revocation.created_at)).where(
            Revocation.confirmed_at.is_not(None)
        ),
    }
    at = site.system.ledger.read(latest[act])[0][0]
    return at if at is not None else datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize("act", ["disable", "reset_password", "revoke_user"])
def test_an_act_in_a_crowd_of_sign_ins_leaves_nothing_that_began_before_it(
    square: Square, site: Site, act: str
) -> None:
    interned(square)
    orders = [sign_ins(square, store, 6) for store in ("redis", "sql", "redis")]
    orders.append(square.order(act, order={"whom": ["alice"], "dawdle": 5}))
    under_way = square.at_once(orders, ROUNDS)
    for _ in under_way.rounds():
        found = alive(site)
        since = acted_at(site, act)
        assert all(row.started_at > since for row in found)
        assert len(found) <= LIMIT
        if act == "disable":
            assert site.live("alice") == []
            with site.app.app_context():
                enable_user(site.user_id("alice"), actor=Actor.cli("tests"))
    came = sum(under_way.came[:3], Counter())
    assert came["signed in"] > 0
    assert came["signed in"] + came["refused"] == 3 * 6 * ROUNDS
    upkeep.run(site.system)
    unended = site.rows(UserSession.ended_at.is_(None))
    assert len(holdings(site)) == len(unended) == len(alive(site))
