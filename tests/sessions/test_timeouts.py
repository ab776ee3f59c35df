"""Deadlines, by the clock that is passed in: never later than the idle timeout, never past the absolute one."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.sessions import passive
from app.sessions.timeouts import LimitPolicy, RolePolicy, first_ttl, status, store_ttl, touch_due
from tests.sessions.helpers import add_view
from tests.site import Browser, Site, clock_moved, clock_stopped

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
MINUTE = 60
IDLE = 30 * MINUTE
ABSOLUTE = 12 * 60 * MINUTE


@pytest.fixture
def stopped_clock() -> Iterator[None]:
    with clock_stopped():
        yield


to_the_second = pytest.mark.usefixtures("stopped_clock")
"""However long the machine takes between the sign-in and the last second."""


@pytest.fixture(params=[0, 60], ids=["exact", "touched each minute"])
def either_interval(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    return make_site(SESSION_TOUCH_INTERVAL=request.param)


def is_signed_in(browser: Browser, after: float = 0) -> bool:
    with clock_moved(after):
        return browser.is_signed_in()


@to_the_second
def test_a_session_is_there_a_second_before_its_idle_limit(either_interval: Site) -> None:
    assert is_signed_in(either_interval.signed_in("alice"), IDLE - 1)


@pytest.mark.parametrize("after", [IDLE + 1, 25 * 60 * MINUTE])
def test_a_session_is_gone_after_its_idle_limit(either_interval: Site, after: int) -> None:
    assert not is_signed_in(either_interval.signed_in("alice"), after)


@to_the_second
def test_with_an_interval_of_zero_the_limit_counts_from_the_last_request(
    make_site: Callable[..., Site],
) -> None:
    browser = make_site(SESSION_TOUCH_INTERVAL=0).signed_in("alice")
    assert is_signed_in(browser, 59)
    assert is_signed_in(browser, 59 + IDLE - 1)
    assert not is_signed_in(browser, 59 + 2 * IDLE)


@to_the_second
@pytest.mark.parametrize("last", [0, 1, 30, 59, 60, 61, 119])
def test_a_session_ends_between_29_and_30_minutes_after_the_last_activity(
    site: Site, last: int
) -> None:
    early, late = site.browser(), site.browser()
    browser = site.signed_in("alice")
    name = site.app.config["SESSION_COOKIE_NAME"]
    for at in range(0, last + 1, 7):
        assert is_signed_in(browser, at)
    assert is_signed_in(browser, last)
    for copy in (early, late):
        copy.client.set_cookie(name, browser.cookie or "")
    with clock_moved(last + IDLE + 1):
        assert not late.is_signed_in()
    with clock_moved(last + IDLE - MINUTE - 1):
        assert early.is_signed_in()


@to_the_second
def test_activity_moves_the_idle_deadline_at_most_once_an_interval(site: Site) -> None:
    browser = site.signed_in("alice")
    (before,) = site.live("alice")
    assert is_signed_in(browser, 59)
    assert site.live("alice")[0].last_seen_at == before.last_seen_at
    assert is_signed_in(browser, 61)
    (after,) = site.live("alice")
    assert timedelta(seconds=61) <= after.last_seen_at - before.last_seen_at
    idle = after.idle_expires_at - after.last_seen_at
    assert abs(idle - timedelta(minutes=30)) < timedelta(milliseconds=5)
    assert after.absolute_expires_at == before.absolute_expires_at


@to_the_second
def test_a_busy_session_ends_at_its_absolute_limit(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_ABSOLUTE_TIMEOUT=2 * IDLE)
    browser = site.signed_in("alice")
    for at in range(0, 2 * IDLE, 10 * MINUTE):
        assert is_signed_in(browser, at)
    assert is_signed_in(browser, 2 * IDLE - 1)
    assert not is_signed_in(browser, 2 * IDLE + 1)


def test_step_up_and_activity_leave_the_absolute_deadline_where_it_is(site: Site) -> None:
    browser = site.signed_in("alice")
    (before,) = site.live("alice")
    with clock_moved(20 * MINUTE):
        assert browser.post("/reauth", {"password": "correct horse battery staple"}).location == "/"
        assert browser.is_signed_in()
    (after,) = site.live("alice")
    assert after.absolute_expires_at == before.absolute_expires_at
    assert after.last_seen_at > before.last_seen_at


def ask_as_page(browser: Browser) -> int:
    return browser.get("/account/sessions", headers={"X-Passive": "1"}).status_code


def test_a_hundred_passive_requests_leave_last_seen_alone(site: Site) -> None:
    browser = site.signed_in("alice")
    (before,) = site.live("alice")
    for at in range(100):
        with clock_moved(at * 15):
            assert ask_as_page(browser) == 200
    (after,) = site.live("alice")
    assert after.last_seen_at == before.last_seen_at
    assert after.idle_expires_at == before.idle_expires_at


def test_passive_requests_do_not_keep_a_session_alive(either_interval: Site) -> None:
    browser = either_interval.signed_in("alice")
    for at in range(0, IDLE, 5 * MINUTE):
        with clock_moved(at):
            assert ask_as_page(browser) == 200
    with clock_moved(IDLE + 1):
        assert ask_as_page(browser) == 401


@pytest.mark.parametrize("path", ["/static/css/base.css", "/healthz", "/readyz"])
def test_static_files_and_health_checks_extend_nothing(either_interval: Site, path: str) -> None:
    browser = either_interval.signed_in("alice")
    (before,) = either_interval.live("alice")
    with clock_moved(20 * MINUTE):
        with browser.get(path) as response:
            assert response.status_code == 200
    (after,) = either_interval.live("alice")
    assert after.idle_expires_at == before.idle_expires_at


def test_a_view_that_is_marked_passive_extends_nothing_even_when_it_writes(site: Site) -> None:
    def poll() -> str:
        from flask import session

        session["polls"] = session.get("polls", 0) + 1
        return str(session["polls"])

    add_view(site, "/poll", passive(poll), signed_in=True)
    browser = site.signed_in("alice")
    (before,) = site.live("alice")
    left = time_left(site, before)
    with clock_moved(10 * MINUTE):
        assert browser.get("/poll").text == "1"
        assert browser.get("/poll").text == "2"
    (after,) = site.live("alice")
    assert after.idle_expires_at == before.idle_expires_at
    assert time_left(site, after) <= left


def time_left(site: Site, row: object) -> timedelta:
    key = row.data_key  # type: ignore[attr-defined]
    return site.system.stores[row.store].present([key])[key]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["alice", "ada"], ids=["in Redis", "in SQL"])
def test_a_stores_time_is_never_shorter_than_the_ledgers_deadline(site: Site, name: str) -> None:
    browser = site.signed_in(name)
    for at in (0, 61, 130, 600):
        with clock_moved(at):
            assert browser.is_signed_in()
            (row,) = site.live(name)
            assert time_left(site, row) >= row.idle_expires_at - site.system.ledger.now()


@pytest.mark.parametrize("name", ["alice", "ada"], ids=["in Redis", "in SQL"])
def test_a_stores_time_never_exceeds_the_absolute_deadline_by_more_than_the_margin(
    make_site: Callable[..., Site], name: str
) -> None:
    site = make_site(
        SESSION_ABSOLUTE_TIMEOUT=1200,
        SESSION_IDLE_TIMEOUT=1000,
        SESSION_IDLE_TIMEOUT_BY_ROLE={"admin": 1000},
    )
    browser = site.signed_in(name)
    with clock_moved(900):
        assert browser.is_signed_in()
        (row,) = site.live(name)
        assert time_left(site, row) <= timedelta(seconds=300 + 61)


def test_each_role_has_its_own_timeouts(make_site: Callable[..., Site]) -> None:
    site = make_site(
        SESSION_IDLE_TIMEOUT_BY_ROLE={"operator": 300},
        SESSION_ABSOLUTE_TIMEOUT_BY_ROLE={"operator": 400, "admin": 500},
    )
    for name, idle, absolute in [("alice", 1800, 43200), ("ops", 300, 400)]:
        site.signed_in(name)
        (row,) = site.live(name)
        assert row.idle_expires_at - row.started_at == timedelta(seconds=idle)
        assert row.absolute_expires_at - row.started_at == timedelta(seconds=absolute)


@to_the_second
def test_staff_expire_after_fifteen_idle_minutes_by_default(site: Site) -> None:
    assert is_signed_in(site.signed_in("vera"), 899)
    assert not is_signed_in(site.signed_in("vera"), 901)


def test_why_a_session_expired_is_said_before_the_worker_has_recorded_it(site: Site) -> None:
    browser = site.signed_in("alice")
    with clock_moved(IDLE + 1):
        page = browser.get("/account/sessions", follow_redirects=True)
    assert site.rows()[0].ended_at is None
    assert site.rows()[0].reference in page.text


def test_the_clock_is_the_databases_and_agrees_with_ours(any_site: Site) -> None:
    with clock_moved(1000):
        off = any_site.system.ledger.now() - datetime.now(UTC)
    assert timedelta(seconds=998) < off < timedelta(seconds=1002)
    name = any_site.system.ledger.engine.dialect.name
    if name == "postgresql":
        assert any_site.system.ledger.read(text("SELECT clock_timestamp() - now()"))


POLICY = RolePolicy(timedelta(minutes=30), timedelta(hours=12), 1, LimitPolicy.SUPERSEDE, "redis")


def test_a_touch_is_due_from_the_interval_on() -> None:
    interval = timedelta(seconds=60)
    assert not touch_due(NOW, NOW - timedelta(seconds=59, microseconds=999999), interval)
    assert touch_due(NOW, NOW - interval, interval)
    assert touch_due(NOW, NOW, timedelta(0))


def test_a_payload_is_kept_past_the_deadline_but_not_long() -> None:
    assert timedelta(0) < first_ttl(POLICY) - POLICY.idle <= timedelta(minutes=1)
    soon = NOW + timedelta(minutes=5)
    assert (
        timedelta(0) < store_ttl(POLICY, NOW, soon) - timedelta(minutes=5) <= timedelta(minutes=1)
    )


def test_a_live_session_is_active_idle_or_expiring() -> None:
    far = NOW + timedelta(hours=1)
    assert status(NOW, NOW - timedelta(minutes=4), far, far) == "active"
    assert status(NOW, NOW - timedelta(minutes=6), far, far) == "idle"
    near = NOW + timedelta(seconds=119)
    assert status(NOW, NOW, near, far) == "expiring"
    assert status(NOW, NOW, far, near) == "expiring"
