"""Guessing is slowed down, and the person whose password is guessed still gets in."""

from collections.abc import Callable

import pytest

from app.auth.throttle import Throttle, Throttled, network_of, throttle
from tests.servers import RedisServer
from tests.site import PASSWORD, Browser, Site

ATTACKER, HOME = "203.0.113.7", "192.0.2.10"


def fail(browser: Browser, name: str, times: int) -> int:
    status = 0
    token = browser.token("/login")
    values = {"username": name, "password": "wrong", "csrf_token": token}
    for _ in range(times):
        status = browser.client.post("/login", data=values).status_code
    return status


def failed(site: Site, name: str, ip: str, times: int, *, known: bool = False) -> None:
    with site.app.app_context():
        for _ in range(times):
            throttle().failed(name, ip, known=known)


def check(site: Site, name: str, ip: str, *, known: bool = False) -> bool:
    with site.app.app_context():
        try:
            throttle().check(name, ip, known=known)
        except Throttled as error:
            return error.retry_after < 1
        return True


def test_ten_failures_from_a_network_are_answered_429(site: Site) -> None:
    guesser = site.browser(ip=ATTACKER)
    assert fail(guesser, "alice", 10) == 422
    response = guesser.sign_in("alice")
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 15 * 60
    assert "Try again in" in response.text
    assert guesser.cookie is None


def test_the_right_password_is_not_looked_at_while_throttled(site: Site) -> None:
    failed(site, "alice", ATTACKER, 10)
    assert site.browser(ip=ATTACKER).sign_in("alice", PASSWORD).status_code == 429
    assert site.events("session.sign_in_failed") == []


def test_a_name_that_does_not_exist_is_throttled_alike(site: Site) -> None:
    guesser = site.browser(ip=ATTACKER)
    fail(guesser, "nobody", 10)
    assert guesser.sign_in("nobody").status_code == 429


def test_other_addresses_of_the_network_are_throttled_with_it(site: Site) -> None:
    failed(site, "alice", "203.0.113.7", 10)
    assert not check(site, "alice", "203.0.113.200")
    assert check(site, "alice", "203.0.114.7")
    failed(site, "alice", "2001:db8:1:2::1", 10)
    assert not check(site, "alice", "2001:db8:1:2:ffff::1")
    assert check(site, "alice", "2001:db8:1:3::1")


def test_another_name_from_that_network_may_still_be_tried(site: Site) -> None:
    failed(site, "alice", ATTACKER, 10)
    assert check(site, "bob", ATTACKER)


def test_a_hundred_failures_close_a_network_for_every_unknown_name(site: Site) -> None:
    for number in range(100):
        failed(site, f"name{number}", ATTACKER, 1)
    assert not check(site, "somebody else", ATTACKER)
    assert check(site, "somebody else", HOME)


def test_a_thousand_guesses_from_rotating_addresses_do_not_lock_the_victim_out(site: Site) -> None:
    victim = site.signed_in("alice", ip=HOME)
    victim.sign_out()
    for number in range(1000):
        failed(site, "alice", f"198.{18 + number // 250}.{number % 250}.1", 1)
    assert site.browser(ip=HOME).sign_in("alice").status_code == 303


def test_guesses_from_the_victims_own_network_do_not_lock_the_victim_out(site: Site) -> None:
    site.signed_in("alice", ip=HOME).sign_out()
    neighbour = "192.0.2.99"
    failed(site, "alice", neighbour, 20, known=True)
    assert site.browser(ip=HOME).sign_in("alice").status_code == 303


def test_from_a_known_network_fifty_failures_are_the_end(site: Site) -> None:
    failed(site, "alice", HOME, 50, known=True)
    assert not check(site, "alice", HOME, known=True)


def test_letter_case_does_not_give_more_tries(site: Site) -> None:
    guesser = site.browser(ip=ATTACKER)
    fail(guesser, "alice", 5)
    fail(guesser, "ALICE", 5)
    assert guesser.sign_in("Alice").status_code == 429


def test_counters_are_shared_between_processes(make_site: Callable[..., Site]) -> None:
    one, other = make_site(), make_site()
    failed(one, "alice", ATTACKER, 10)
    assert not check(other, "alice", ATTACKER)


def test_counters_expire_and_hold_no_password(site: Site, valkey: RedisServer) -> None:
    fail(site.browser(ip=ATTACKER), "alice", 1)
    with valkey.client() as client:
        keys = client.keys("*throttle*")
        assert keys
        assert all(0 < client.ttl(key) <= 16 * 60 for key in keys)
        assert not any(b"wrong" in key for key in keys)


def test_without_redis_failures_are_counted_in_the_process(site: Site, valkey: RedisServer) -> None:
    valkey.kill()
    failed(site, "ada", ATTACKER, 10)
    assert not check(site, "ada", ATTACKER)
    assert check(site, "ada", HOME)


def test_staff_sign_in_while_redis_is_down(site: Site, valkey: RedisServer) -> None:
    site.browser().get("/login")
    valkey.kill()
    assert site.browser(ip=HOME).sign_in("ada").status_code == 303


def test_the_password_asked_again_is_throttled_too(site: Site) -> None:
    browser = site.signed_in("alice", ip=HOME)
    failed(site, "alice", HOME, 50, known=True)
    assert browser.post("/reauth", {"password": PASSWORD}).status_code == 429
    values = {"current_password": PASSWORD, "password": "x" * 12, "repeat": "x" * 12}
    assert browser.post("/account/password", values).status_code == 429
    assert browser.is_signed_in()


def test_a_site_without_redis_counts_in_the_process() -> None:
    alone = Throttle(None, "prefix")
    for _ in range(10):
        alone.failed("alice", ATTACKER, known=False)
    with pytest.raises(Throttled):
        alone.check("alice", ATTACKER, known=False)


def test_a_network_is_a_24_or_a_64() -> None:
    assert network_of("192.0.2.10") == "192.0.2.0/24"
    assert network_of("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("::") == "::/64"
