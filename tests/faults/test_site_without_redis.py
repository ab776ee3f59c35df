"""The whole site while Redis fails: members get a 503 and stay signed in, staff work on."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from app import create_app
from app.auth.access import requires
from app.people.models import Permission
from app.sessions import upkeep
from app.sessions.interface import session
from app.sessions.stores.breaker import BreakerState
from tests.faults import watch
from tests.faults.answers import (
    BREAKERS,
    DEADLINE,
    NETWORK,
    PAUSE,
    RETURN,
    Held,
    assert_unavailable,
    failing,
    set_breakers,
    sign_in,
    timed,
)
from tests.faults.proxy import Mode, Proxy
from tests.servers import RedisServer, wait_until
from tests.site import CHROME, Site, clock_moved, settings


@pytest.fixture
def proxy(valkey: RedisServer) -> Iterator[Proxy]:
    with Proxy(valkey.port, pause=PAUSE) as made:
        yield made


@pytest.fixture
def site(make_site: Callable[..., Site], proxy: Proxy) -> Site:
    """A site that reaches Valkey through the proxy."""
    return made_behind(proxy, make_site)


def made_behind(proxy: Proxy, make_site: Callable[..., Site]) -> Site:
    url = f"redis://127.0.0.1:{proxy.port}/0"
    return make_site(REDIS_URL=url, REQUEST_DEADLINE=DEADLINE)


@pytest.fixture
def alice(site: Site) -> Held:
    return Held.signed_in(site, "alice")


@pytest.fixture
def ops(site: Site) -> Held:
    return Held.signed_in(site, "ops")


def is_well(person: Held) -> bool:
    """Say whether somebody works on with the cookie that they have."""
    person.assert_kept()
    page = person.browser.get("/account/sessions")
    assert page.status_code in (200, 503), "signed out"
    return page.status_code == 200


def recovers(site: Site, person: Held) -> None:
    """Expect all to be well within 5 s of the server's return, the breaker closed."""
    wait_until(lambda: is_well(person), RETURN)
    assert site.system.stores["redis"].breaker.state is BreakerState.CLOSED


network = pytest.mark.parametrize("fault", NETWORK)
breakers = pytest.mark.parametrize("breaker", BREAKERS)


@network
@breakers
def test_a_member_gets_a_503_in_time_and_is_not_signed_out(
    site: Site, proxy: Proxy, valkey: RedisServer, alice: Held, fault: str, breaker: str
) -> None:
    with failing(fault, proxy, valkey):
        for ask in (
            lambda: alice.get("/account/sessions"),
            lambda: alice.post("/", note="what I wrote"),
            lambda: alice.post("/logout"),
            lambda: sign_in(site.browser(CHROME), "alice"),
        ):
            set_breakers(site, breaker)
            assert_unavailable(ask(), of="Redis")
            alice.assert_kept()
        set_breakers(site, breaker)
        polled = alice.get("/account/sessions?format=json")
        assert polled.status_code in (200, 503)
        assert alice.get("/healthz").status_code == 200
        ready = alice.get("/readyz")
        assert ready.status_code == 503
        assert ready.json["dependencies"]["redis"] == {"ok": False}
        assert ready.json["dependencies"]["database"]["ok"] is True
        set_breakers(site, breaker)
        scraped = alice.get("/metrics")
        assert scraped.status_code == 200
        assert 'rollcall_up{dependency="redis"} 0.0' in scraped.text
        assert 'rollcall_up{dependency="database"} 1.0' in scraped.text
    recovers(site, alice)
    assert [row.ended_at for row in site.rows()] == [None]


@pytest.mark.admin
@network
@breakers
def test_staff_sign_in_and_work_and_see_which_store_is_silent(
    site: Site, proxy: Proxy, valkey: RedisServer, alice: Held, fault: str, breaker: str
) -> None:
    with failing(fault, proxy, valkey):
        set_breakers(site, breaker)
        browser = site.browser()
        assert sign_in(browser, "ops").status_code == 303
        ops = Held.by(browser)
        set_breakers(site, breaker)
        page = ops.get("/admin/sessions")
        assert page.status_code == 200
        assert "Redis did not answer" in page.text
        set_breakers(site, breaker)
        listed = ops.get("/admin/sessions?format=json").json
        assert listed["unavailable"] == ["redis"]
        assert {row["user"]: row["present"] for row in listed["sessions"]} == {
            "alice": None,
            "ops": True,
        }
        for path in ("/admin/", "/admin/stores", "/admin/users", "/admin/policy"):
            set_breakers(site, breaker)
            assert ops.get(path).status_code == 200, path
        (row,) = site.live("alice")
        set_breakers(site, breaker)
        assert ops.get(f"/admin/sessions/{row.reference}").status_code == 200
        assert ops.post("/", note="kept in SQL").status_code == 303
        ops.assert_kept()
        assert ops.post("/logout").status_code == 303
        assert ops.browser.cookie is None
    recovers(site, alice)
    assert [(row.name, row.end_reason) for row in site.rows()] == [
        ("alice", None),
        ("ops", "signed_out"),
    ]


@pytest.mark.admin
@network
@breakers
def test_a_revocation_denies_at_once_and_says_that_data_waits(
    site: Site, proxy: Proxy, valkey: RedisServer, alice: Held, ops: Held, fault: str, breaker: str
) -> None:
    (row,) = site.live("alice")
    with failing(fault, proxy, valkey):
        set_breakers(site, breaker)
        frozen = ops.post("/admin/revocations", reference=row.reference)
        assert frozen.status_code == 303
        review = frozen.location
        set_breakers(site, breaker)
        assert ops.get(review).status_code == 200
        set_breakers(site, breaker)
        assert ops.post(review, reason="lost_device").status_code == 303

        led = alice.get("/account/sessions")
        assert (led.status_code, led.location.partition("?")[0]) == (303, "/login")
        set_breakers(site, breaker)
        counts = ops.get(f"{review}?format=json").json
        assert (counts["ended"], counts["purged"], counts["purge_pending"]) == (1, 0, 1)
        page = ops.get(review)
        assert page.status_code == 200
        assert "1 of 1 gone" not in page.text
        assert "An administrator ended this session" in alice.get(led.location).text

    back = time.monotonic()
    wait_until(lambda: not upkeep.run(site.system).purge_pending, RETURN)
    assert time.monotonic() - back < RETURN
    counts = ops.get(f"{review}?format=json").json
    assert (counts["ended"], counts["purged"], counts["purge_pending"]) == (1, 1, 0)
    assert site.payload(row) is None


def test_what_needs_no_redis_is_done_though_it_hangs(
    migrated_postgresql_url: str, valkey: RedisServer
) -> None:
    """On a database that keeps the deadline, unlike SQLite: Redis may not use all of it."""
    given = settings(migrated_postgresql_url, valkey.url, REQUEST_DEADLINE=DEADLINE)
    site = Site(create_app(given))
    bob, ada = Held.signed_in(site, "bob"), Held.signed_in(site, "ada")
    Held.signed_in(site, "alice")
    alice = f"/admin/users/{site.user_id('alice')}"
    assert ada.get(f"{alice}/require").status_code == 200
    seen = site.live("bob")[0].last_seen_at
    with valkey.frozen():
        set_breakers(site, "closed")
        with clock_moved(120):
            assert bob.get("/login").location == "/"
        assert site.live("bob")[0].last_seen_at > seen
        set_breakers(site, "closed")
        required = ada.post(f"{alice}/require")
        set_breakers(site, "closed")
        form = {"csrf_token": bob.token}
        ours = {"Sec-Fetch-Site": "same-origin"}
        left = timed(lambda: bob.browser.client.post("/logout", data=form, headers=ours))
    assert (required.location, left.location) == (alice, "/login?signed_out=1")
    assert [site.live(name) for name in ("alice", "bob")] == [[], []]
    site.close()


unwritable = pytest.mark.parametrize("setting", ["min-replicas-to-write", "maxmemory"])
"""A Redis without its replicas refuses every write; a full one still deletes."""


@unwritable
@breakers
def test_a_redis_that_cannot_write_is_read_and_says_so(
    site: Site, valkey: RedisServer, alice: Held, ops: Held, setting: str, breaker: str
) -> None:
    with valkey.client() as client:
        client.config_set(setting, "1")
    set_breakers(site, "closed")
    assert alice.get("/account/sessions").status_code == 200
    with clock_moved(120):
        # Its time there cannot be extended now: the page is shown all the same.
        assert alice.get("/account/sessions").status_code == 200
    for ask in (
        lambda: alice.post("/", note="what I wrote"),
        lambda: sign_in(site.browser(CHROME), "alice"),
    ):
        set_breakers(site, breaker)
        assert_unavailable(ask(), of="Redis")
        alice.assert_kept()
    assert sign_in(site.browser(CHROME), "ops").status_code == 303
    assert len(site.live("alice")) == 1
    with valkey.client() as client:
        client.config_set(setting, "0")
    recovers(site, alice)
    assert alice.post("/", note="what I wrote").status_code == 303


@pytest.mark.admin
@unwritable
def test_sessions_end_though_their_redis_cannot_write(
    site: Site, valkey: RedisServer, alice: Held, ops: Held, setting: str
) -> None:
    bob = Held.signed_in(site, "bob")
    members = [*site.live("alice"), *site.live("bob")]
    with valkey.client() as client:
        client.config_set(setting, "1")
    assert bob.post("/logout").status_code == 303
    assert bob.browser.cookie is None
    review = ops.post("/admin/revocations", reference=members[0].reference).location
    assert ops.post(review, reason="lost_device").status_code == 303
    assert alice.get("/account/sessions").status_code == 303
    counts = ops.get(f"{review}?format=json").json
    gone = setting == "maxmemory"
    assert (counts["purged"], counts["purge_pending"]) == ((1, 0) if gone else (0, 1))
    assert ops.get("/admin/sessions?format=json").json["unavailable"] == []
    with valkey.client() as client:
        client.config_set(setting, "0")
    wait_until(lambda: not upkeep.run(site.system).purge_pending, RETURN)
    assert [site.payload(row) for row in members] == [None, None]


def test_a_redis_that_was_killed_comes_back_with_everybody_in_it(
    site: Site, valkey: RedisServer, alice: Held
) -> None:
    valkey.kill()
    assert_unavailable(alice.get("/account/sessions"), of="Redis")
    valkey.start()
    recovers(site, alice)


@pytest.mark.parametrize("fault", NETWORK)
@pytest.mark.parametrize("step", ["before the data", "before the save"])
def test_a_redis_that_fails_in_mid_request_is_a_503_and_writes_nothing(
    make_site: Callable[..., Site], proxy: Proxy, valkey: RedisServer, fault: str, step: str
) -> None:
    site = made_behind(proxy, make_site)
    broken = ExitStack()

    @requires(Permission.OWN)
    def view() -> str:
        if step == "before the data":
            broken.enter_context(failing(fault, proxy, valkey))
        session["note"] = "half a session"
        if step == "before the save":
            broken.enter_context(failing(fault, proxy, valkey))
        return "saved"

    site.app.add_url_rule("/t/break", view_func=view)
    held = Held.signed_in(site, "alice")
    browser = held.browser
    (row,) = site.live("alice")
    before = site.payload(row)
    with broken:
        assert_unavailable(timed(lambda: browser.get("/t/break")), of="Redis")
        held.assert_kept()
    recovers(site, held)
    # A frozen server has the save in its socket and may carry it out when it thaws: all or nothing.
    after = site.payload(row)
    assert after is not None
    assert after == before or b"half a session" in after


def test_a_redis_that_hangs_costs_the_next_request_nothing(
    site: Site, proxy: Proxy, alice: Held
) -> None:
    # However slow the machine is between the two.
    site.system.stores["redis"].breaker._open_for = 60.0  # type: ignore[attr-defined]
    proxy.switch(Mode.HANG)
    assert_unavailable(alice.get("/account/sessions"))
    began = watch.seconds()
    assert_unavailable(alice.get("/account/sessions"))
    assert watch.seconds() - began < 0.3
