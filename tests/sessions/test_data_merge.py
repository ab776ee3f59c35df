"""Two requests of one session at a time: what either of them changed is there afterwards."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import flash, get_flashed_messages, session

from app.sessions.store import Saved
from tests.faults.answers import patient
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, counted
from tests.site import Browser, Site

Change = Callable[[], Any]


@pytest.fixture(params=["alice", "ada"], ids=["in Redis", "in SQL"])
def overlapping(request: pytest.FixtureRequest, site: Site) -> Callable[..., dict[str, Any]]:
    """Run a change while another request makes one, and return the data that is left."""
    changes: dict[str, Change] = {}
    browser: list[Browser] = []

    def first() -> str:
        session.get("anything")
        changes["mine"]()
        assert browser[0].get("/second").text == "done"
        return "done"

    def second() -> str:
        changes["theirs"]()
        return "done"

    def begin() -> str:
        session.update(changes["begin"]())
        return "done"

    add_view(site, "/begin", begin)
    add_view(site, "/first", first)
    add_view(site, "/second", second)

    def run(begin: dict[str, Any], mine: Change, theirs: Change) -> dict[str, Any]:
        changes.update(begin=lambda: begin, mine=mine, theirs=theirs)
        browser.append(site.signed_in(request.param))
        browser[0].get("/begin")
        assert browser[0].get("/first").text == "done"
        with browser[0].client.session_transaction() as held:
            return {k: v for k, v in dict(held).items() if k != "csrf_token"}

    return run


Overlapping = Callable[[dict[str, Any], Change, Change], dict[str, Any]]


def put(**values: Any) -> Change:
    return lambda: session.update(values)


def drop(key: str) -> Change:
    return lambda: session.pop(key)


def empty() -> None:
    session.clear()


def test_two_requests_that_change_different_keys_both_survive(overlapping: Overlapping) -> None:
    assert overlapping({"a": 0, "b": 0}, put(a=1), put(b=2)) == {"a": 1, "b": 2}


def test_of_the_same_key_the_later_save_wins(overlapping: Overlapping) -> None:
    assert overlapping({"a": 0}, put(a="later"), put(a="earlier")) == {"a": "later"}


def test_a_delete_survives_another_requests_write(overlapping: Overlapping) -> None:
    assert overlapping({"a": 0, "b": 0}, drop("a"), put(b=2)) == {"b": 2}


def test_a_write_does_not_bring_back_what_another_request_deleted(overlapping: Overlapping) -> None:
    assert overlapping({"a": 0, "b": 0}, put(b=2), drop("a")) == {"b": 2}


def test_clearing_keeps_what_another_request_added(overlapping: Overlapping) -> None:
    assert overlapping({"a": 0}, empty, put(b=2)) == {"b": 2}


def test_messages_of_both_requests_are_shown(overlapping: Overlapping) -> None:
    left = overlapping({}, lambda: flash("mine"), lambda: flash("theirs"))
    assert sorted(message for _, message in left["_flashes"]) == ["mine", "theirs"]


def test_a_message_that_one_request_showed_is_not_shown_again(overlapping: Overlapping) -> None:
    shown = {"_flashes": [("message", "old")]}
    left = overlapping(shown, get_flashed_messages, lambda: flash("new"))
    assert left == {"_flashes": [("message", "new")]}


def test_a_request_that_only_reads_does_not_undo_another_ones_write(
    overlapping: Overlapping,
) -> None:
    assert overlapping({"a": 0}, lambda: session.get("a"), put(a=1)) == {"a": 1}


def test_three_requests_that_overlap_all_survive(site: Site) -> None:
    depth = 3

    def nest(level: int) -> str:
        session[f"level {level}"] = True
        if level < depth:
            browser.get(f"/nest/{level + 1}")
        return "done"

    add_view(site, "/nest/<int:level>", nest)
    browser = site.signed_in("alice")
    browser.get("/nest/1")
    with browser.client.session_transaction() as held:
        assert {key for key in held if key.startswith("level")} == {"level 1", "level 2", "level 3"}


def test_a_save_without_a_conflict_is_one_command(site: Site, valkey: RedisServer) -> None:
    def change() -> str:
        session["n"] = session.get("n", 0) + 1
        return "done"

    add_view(site, "/change", change)
    browser = site.signed_in("alice")
    browser.get("/change")
    with counted(site, valkey) as calls:
        browser.get("/change")
    assert calls.redis["get"] == 1
    # The script's own commands are counted beside it.
    assert calls.redis["evalsha"] + calls.redis["eval"] == 1
    assert len(calls.ledger) == 1


def test_conflicts_that_do_not_end_are_a_503_and_never_silent(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(REQUEST_DEADLINE=0.2)

    def change() -> str:
        session["a"] = 1
        return "done"

    add_view(site, "/change", change)
    with patient(site):
        browser = site.signed_in("alice")
    store = site.system.stores["redis"]
    kind = type(store)

    class Contended(kind):  # type: ignore[misc, valid-type]
        """A real store whose every payload somebody else changes just before it is saved."""

        def save(self, key: Any, payload: bytes, version: Any, ttl: Any) -> Saved:
            held = super().load(key)
            assert held is not None
            super().save(key, held.payload, held.version, None)
            return Saved(super().save(key, payload, version, ttl))

    store.__class__ = Contended
    response = browser.get("/change")
    store.__class__ = kind
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    with browser.client.session_transaction() as held:
        assert "a" not in held
