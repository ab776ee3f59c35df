"""Clocks: each limit a second before and after, a database minutes off, and clocks that jump.

The ledger's clock decides. It is moved here as against this process's own, which is what a web server
sees whose database has another time; the limits on idling are in test_timeouts.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.sessions.freeze import Targets, freeze
from app.sessions.models import Revocation
from app.sessions.revocation import confirm, revoke
from tests.sessions.test_revocation import CLI, alive, commanding, start
from tests.sessions.test_upkeep import run
from tests.site import PASSWORD, Browser, Site, clock_at, clock_moved, clock_stopped

MINUTE = 60
IDLE = 30 * MINUTE
PASSIVE = {"X-Passive": "1"}
OFF = [-5 * MINUTE, 5 * MINUTE]
off = pytest.mark.parametrize("seconds", OFF, ids=["behind", "ahead"])


@pytest.mark.admin
@pytest.mark.parametrize("limit", ["idle", "absolute"])
def test_a_limit_holds_to_the_second_for_requests_lists_and_the_worker(
    make_site: Callable[..., Site], limit: str
) -> None:
    site = make_site(
        SESSION_IDLE_TIMEOUT_BY_ROLE={"operator": 3600, "member": 900},
        SESSION_ABSOLUTE_TIMEOUT_BY_ROLE={"member": 3600 if limit == "idle" else 900},
    )
    alice, ops = site.signed_in("alice"), site.signed_in("ops")

    def at(seconds: int) -> Any:
        """Move the ledger's clock to so many seconds after the limit."""
        (row,) = site.live("alice")
        until = row.idle_expires_at if limit == "idle" else row.absolute_expires_at
        return clock_at(site, until + timedelta(seconds=seconds))

    def listed() -> int:
        page = ops.get("/admin/sessions?user=alice&format=json")
        assert page.json is not None
        return len(page.json["sessions"])

    with clock_stopped(), at(-1):
        assert alice.get("/account/sessions", headers=PASSIVE).status_code == 200
        assert listed() == 1
        assert run(site).expired == 0
    with at(1):
        assert alice.get("/account/sessions", headers=PASSIVE).status_code == 401
        assert listed() == 0
        assert run(site).expired == 1
    assert [row.end_reason for row in site.rows()] == [f"{limit}_timeout", None]


def test_a_cutoff_is_the_second_of_the_freeze(any_site: Site) -> None:
    """Whoever began before it is out at the confirmation, whoever began after it is in."""
    with clock_moved(-1):
        start(any_site, "alice")
    with commanding(any_site):
        frozen = freeze(Targets(everyone=True), actor=CLI)
    with clock_moved(1):
        (after,) = start(any_site, "bob")
    (row,) = any_site.system.ledger.read(select(Revocation.created_at))
    with commanding(any_site), clock_at(any_site, row.created_at + timedelta(seconds=299)):
        assert revoke(frozen, actor=CLI, reason="incident").ended == 1
    assert alive(any_site) == {after}


@pytest.mark.admin
@off
def test_a_database_minutes_off_changes_nothing_for_anybody(any_site: Site, seconds: int) -> None:
    """All of a session's life by a clock five minutes from ours, to the second, and no 500."""
    with clock_moved(seconds):
        alice, ada = any_site.signed_in("alice"), any_site.signed_in("ada")
        for row in any_site.rows():
            assert row.started_at - datetime.now(UTC) < timedelta(seconds=seconds + 1)
        (row,) = any_site.live("alice")
        assert row.idle_expires_at - row.started_at == timedelta(minutes=30)
        assert row.absolute_expires_at - row.started_at == timedelta(hours=12)
        assert alice.post("/", {"note": "milk"}).status_code == 303
        assert "milk" in alice.get("/").text
        assert alice.post("/reauth", {"password": PASSWORD}).status_code == 303
        for path in PAGES:
            assert ada.get(path).status_code == 200, path
        done = run(any_site)
        assert (done.expired, done.missing, done.lost) == (0, 0, 0)
        left = row.idle_expires_at - any_site.system.ledger.now()
        with clock_moved(left.total_seconds() - MINUTE):
            assert alice.is_signed_in()
        receipt = ada.revoke(row.reference)
        assert "1 of 1 gone." in receipt.text
        assert not alice.is_signed_in()


PAGES = (
    "/account/sessions", "/admin/", "/admin/sessions", "/admin/sessions?format=csv",
    "/admin/users", "/admin/audit", "/admin/stores", "/admin/statistics", "/admin/policy",
    "/healthz", "/readyz", "/metrics",
)  # fmt: skip


def asked(browser: Browser) -> bool:
    """Look at every page that a member has; say whether they are signed in, and never meet a 500."""
    codes = {browser.get(path).status_code for path in ("/", "/account/sessions")}
    assert codes <= {200, 303}
    return browser.is_signed_in()


@pytest.mark.parametrize("name", ["alice", "ada"], ids=["in Redis", "in SQL"])
def test_a_clock_that_jumps_ahead_and_back_lets_nobody_outlive_the_ledger(
    any_site: Site, name: str
) -> None:
    person = any_site.signed_in(name)
    (before,) = any_site.live(name)
    with clock_moved(10 * MINUTE):
        assert asked(person)
    (ahead,) = any_site.live(name)
    assert ahead.last_seen_at > before.last_seen_at
    for at in (0, 5 * MINUTE, -60 * MINUTE):
        with clock_moved(at):
            assert asked(person)
            assert run(any_site).expired == 0
    (after,) = any_site.live(name)
    # What happens at a time before the last activity moves nothing, neither on nor back.
    assert after.last_seen_at == ahead.last_seen_at
    assert after.idle_expires_at == ahead.idle_expires_at
    assert after.absolute_expires_at == before.absolute_expires_at
    left = (after.idle_expires_at - any_site.system.ledger.now()).total_seconds()
    with clock_moved(left - MINUTE):
        assert person.get("/account/sessions", headers=PASSIVE).status_code == 200
    with clock_moved(left + 1):
        assert not asked(person)


def test_a_session_that_time_has_ended_stays_ended_when_the_clock_goes_back(
    site: Site,
) -> None:
    alice = site.signed_in("alice")
    with clock_moved(IDLE + 1):
        assert run(site).expired == 1
    assert not alice.is_signed_in()
    assert [row.end_reason for row in site.rows()] == ["idle_timeout"]


@pytest.mark.admin
def test_staff_see_and_end_sessions_of_a_clock_that_has_gone_back(site: Site) -> None:
    with clock_moved(60 * MINUTE):
        alice = site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    for path in (*PAGES, f"/admin/sessions/{row.reference}"):
        assert ada.get(path).status_code == 200, path
    assert "1 of 1 gone." in ada.revoke(row.reference).text
    assert not alice.is_signed_in()


def test_after_everyone_was_signed_out_a_clock_that_goes_back_lets_nobody_in_early(
    site: Site,
) -> None:
    """Their sessions would have begun before the cutoff: refused with the reason, until it is past."""
    start(site, "alice")
    with commanding(site):
        confirm(freeze(Targets(everyone=True), actor=CLI).id, actor=CLI, reason="incident")
    with clock_moved(-MINUTE):
        alice = site.signed_in("alice")
        assert not asked(alice)
    with clock_moved(1):
        assert site.signed_in("alice").is_signed_in()
