"""S41: guessing of session ids is noticed, once, and costs nobody anything."""

from collections.abc import Callable

import pytest

from app.auth import guessing
from app.sessions.handles import new_session_id
from tests.servers import RedisServer
from tests.site import Site
from tests.test_metrics import Scrapes

ATTACKER, OTHER = "203.0.113.7", "203.0.113.8"
MakeSite = Callable[..., Site]


def send(site: Site, ip: str, *ids: str) -> None:
    """Send requests with these session ids from one address."""
    browser = site.browser(ip=ip)
    for each in ids:
        browser.client.set_cookie(site.app.config["SESSION_COOKIE_NAME"], each)
        assert browser.get("/account/sessions").status_code == 303


def guesses(number: int) -> list[str]:
    return [new_session_id() for _ in range(number)]


def test_fifty_unknown_ids_from_one_address_are_one_event(site: Site) -> None:
    ids = guesses(guessing.IDS)
    send(site, ATTACKER, *ids[:-1])
    assert site.events() == []
    send(site, ATTACKER, ids[-1])
    (event,) = site.events()
    assert (event.verb, event.ip, event.result) == ("session.ids_guessed", ATTACKER, "alarm")
    assert event.actor_kind == "visitor"
    assert event.request_id
    assert ATTACKER in event.details
    assert not any(each in str(tuple(event)) for each in ids)


def test_five_hundred_are_still_one(site: Site) -> None:
    send(site, ATTACKER, *guesses(500))
    assert len(site.events("session.ids_guessed")) == 1


def test_addresses_are_counted_apart(site: Site) -> None:
    send(site, ATTACKER, *guesses(30))
    send(site, OTHER, *guesses(30))
    assert site.events() == []
    send(site, OTHER, *guesses(20))
    assert [event.ip for event in site.events()] == [OTHER]


def test_a_client_with_a_network_of_ipv6_is_one_client(site: Site) -> None:
    for number in range(guessing.IDS):
        send(site, f"2001:db8:1:{number:x}::1", *guesses(1))
    send(site, "2001:db8:2::1", *guesses(1))
    (event,) = site.events()
    assert "2001:db8:1::/48" in event.details


def test_of_many_clients_that_guess_the_first_are_recorded_and_the_last_event_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "IDS", 2)
    for number in range(guessing.EVENTS + 3):
        send(site, f"198.51.100.{number}", *guesses(2))
    notes = [event.note for event in site.events("session.ids_guessed")]
    assert notes == [None] * (guessing.EVENTS - 1) + ["More are not recorded"]


def test_many_clients_together_take_up_no_more_than_is_allowed_to_all(
    site: Site, valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a network of IPv6 that has more addresses than the server has bytes."""
    monkeypatch.setattr(guessing, "IDS_OF_ALL", 30)
    for number in range(40):
        send(site, f"2001:db8:{number:x}::1", *guesses(1))
    with valkey.client() as client:
        assert len(client.keys("*:id/*")) == len(client.keys("*:ids/*")) == 30
        assert client.dbsize() == 61
    (event,) = site.events()
    assert (event.ip, event.result) == ("2001:db8:1d::1", "alarm")
    assert event.note == "No more are told apart until the time is over"


def test_processes_count_together(make_site: MakeSite) -> None:
    one, other = make_site(), make_site()
    send(one, ATTACKER, *guesses(25))
    send(other, ATTACKER, *guesses(25))
    assert len(one.events("session.ids_guessed")) == 1


def test_one_unknown_id_sent_often_is_a_browser_and_no_guessing(site: Site) -> None:
    send(site, ATTACKER, *guesses(1) * 100)
    assert site.events() == []


def test_an_id_whose_session_has_ended_is_not_unknown(site: Site, valkey: RedisServer) -> None:
    ended: list[str] = []
    for _ in range(3):
        browser = site.signed_in("alice", ip=ATTACKER)
        ended.append(browser.cookie or "")
        browser.sign_out()
    send(site, ATTACKER, *ended)
    with valkey.client() as client:
        assert client.keys("*ids/*") == []


def test_what_has_not_the_form_of_an_id_is_not_counted(site: Site, valkey: RedisServer) -> None:
    send(site, ATTACKER, *(f"short-{number}" for number in range(60)))
    with valkey.client() as client:
        assert client.keys("*ids/*") == []


def test_the_counters_hold_no_id_expire_and_do_not_grow(site: Site, valkey: RedisServer) -> None:
    ids = guesses(200)
    send(site, ATTACKER, *ids)
    with valkey.client() as client:
        keys = client.keys("*")
        assert len(keys) == guessing.IDS + len(["of the client", "of all", "events"])
        assert all(key.startswith(b"rollcall:throttle") for key in keys)
        assert all(0 < client.ttl(key) <= guessing.WINDOW for key in keys)
    assert not any(each.encode() in key for each in ids for key in keys)


def test_a_silent_redis_costs_an_unknown_id_little_and_the_process_counts(
    site: Site, valkey: RedisServer
) -> None:
    scrapes = Scrapes(site)
    with valkey.frozen():
        send(site, ATTACKER, *guesses(guessing.IDS))

    def failures(kind: str) -> float:
        return scrapes.more("rollcall_store_failures_total", store="throttle", kind=kind)

    # Waited for once, or a few times where the ids take seconds.
    assert 1 <= failures("timed_out") < guessing.IDS / 10
    assert failures("timed_out") + failures("not_asked") == guessing.IDS
    assert len(site.events("session.ids_guessed")) == 1


def test_a_database_that_refuses_the_event_fails_no_request(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise guessing.StoreUnavailable("database", "read-only")

    monkeypatch.setattr(type(site.system.ledger), "transaction", refused)
    send(site, ATTACKER, *guesses(guessing.IDS))
    assert f"ids_guessed_not_recorded client={ATTACKER} detail=read-only" in caplog.text
