"""Attack 7: an id, a session or a visitor's cookie that an attacker planted is worth nothing afterwards."""

from collections.abc import Callable

import pytest
from flask import current_app, session

from app.auth.sign_in import sign_in, step_up
from app.sessions.interface import session as ours
from tests.processes.served import verified
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, with_cookie
from tests.site import PASSWORD, Browser, Site


def regenerate() -> None:
    """Call it as code written for Flask-Session does."""
    interface = current_app.session_interface
    interface.regenerate(session._get_current_object())  # type: ignore[attr-defined]


STEPS: dict[str, Callable[[], object]] = {
    "clear": lambda: session.clear(),  # noqa: PLW0108 - the proxy has nothing behind it yet
    "regenerate": regenerate,
    "step up": lambda: step_up(PASSWORD),
    "sign in": lambda: sign_in(verified("alice")),
}
ACTS = (
    "clear, regenerate",
    "regenerate, clear",
    "clear, step up",
    "step up, clear",
    "clear, sign in",
    "sign in, clear",
    "regenerate, regenerate",
)
KEEPS_DATA = ACTS[-1]


def name_of(browser: Browser) -> str:
    return browser.get("/who").text


@pytest.fixture
def acting(site: Site) -> Site:
    """A site with a view for each act, and one that shows whose session it is and what it holds."""

    def act(number: int) -> str:
        session["planted"] = "by the attacker"
        for step in ACTS[number].split(", "):
            STEPS[step]()
        session["fruit"] = "pear"
        return "done"

    def who() -> str:
        return "nobody" if ours.principal is None else ours.principal.name

    add_view(site, "/act/<int:number>", act)
    add_view(site, "/who", who)
    add_view(site, "/held", lambda: " ".join(sorted(set(session) - {"csrf_token"})))
    return site


@pytest.mark.parametrize("name", ["alice", "ada"], ids=["in Redis", "in SQL"])
def test_in_either_order_the_id_and_the_token_that_were_known_before_are_worth_nothing(
    acting: Site, name: str
) -> None:
    for number, act in enumerate(ACTS):
        victim = acting.signed_in(name)
        known, token = victim.cookie or "", victim.token("/account/password")
        assert victim.get(f"/act/{number}").text == "done", act
        assert victim.cookie not in (None, known), act
        attacker = with_cookie(acting, known)
        assert name_of(attacker) == "nobody", act
        assert attacker.get("/held").text == "", act
        assert name_of(victim) == ("alice" if "sign in" in act else name), act
        held = victim.get("/held").text.split()
        assert "fruit" in held, act
        assert ("planted" in held) == (act == KEEPS_DATA), act
        stale = victim.client.post("/", data={"csrf_token": token, "note": "milk"})
        assert stale.status_code == (303 if act == KEEPS_DATA else 400), act
        assert victim.post("/", {"note": "milk"}, form="/account/password").status_code == 303, act


def test_an_id_that_was_never_given_out_is_never_adopted_by_any_act(
    acting: Site, valkey: RedisServer
) -> None:
    planted = "P" * 43
    for number, act in enumerate(ACTS):
        if "step up" in act:
            continue
        victim = with_cookie(acting, planted)
        response = victim.get(f"/act/{number}")
        assert response.status_code == 200
        assert (victim.cookie != planted) == ("sign in" in act), act
        assert name_of(with_cookie(acting, planted)) == "nobody", act
    with valkey.client() as client:
        assert not [key for key in client.keys("*") if planted.encode() in key]


def test_a_session_of_the_attackers_own_ends_when_its_victim_signs_in(acting: Site) -> None:
    attacker = acting.signed_in("bob")
    with attacker.client.session_transaction() as held:
        held["planted"] = "by the attacker"
    (row,) = acting.live("bob")
    victim = with_cookie(acting, attacker.cookie or "")
    in_between = victim.client.post(
        "/login", data={"username": "alice", "password": PASSWORD, "csrf_token": "x"}
    )
    assert in_between.status_code == 303  # bob's session: the form was overtaken, nothing happened
    assert acting.live("alice") == []
    assert victim.get(f"/act/{ACTS.index('clear, sign in')}").text == "done"
    assert (name_of(victim), victim.get("/held").text) == ("alice", "fruit")
    assert name_of(attacker) == "nobody"
    assert acting.payload(row) is None


def test_of_a_planted_visitors_cookie_only_what_is_named_is_carried_over(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_CARRY_OVER=("basket",))

    def plant() -> str:
        session.update(basket="tea", role="admin", csrf_token="known")
        return "planted"

    add_view(site, "/plant", plant)
    add_view(site, "/held", lambda: " ".join(sorted(session)))
    attacker, victim = site.browser(), site.browser()
    attacker.get("/plant")
    planted = attacker.client.get_cookie("visitor")
    assert planted is not None
    victim.client.set_cookie("visitor", planted.value)
    assert victim.sign_in("alice").status_code == 303
    assert victim.get("/held").text == "basket csrf_token"
    with victim.client.session_transaction() as held:
        assert held["csrf_token"] != "known"
    assert victim.client.get_cookie("visitor") is None
    assert attacker.get("/held").text == "basket csrf_token role"


def test_a_session_id_in_the_visitors_cookie_and_the_other_way_round_is_nobody(
    acting: Site,
) -> None:
    alice = acting.signed_in("alice")
    visitor = acting.browser()
    visitor.get("/act/0")
    signed = visitor.client.get_cookie("visitor")
    assert signed is not None
    for name, value in (
        ("visitor", alice.cookie or ""),
        ("session", signed.value),
        ("remember_token", alice.cookie or ""),
        ("__Host-session", alice.cookie or ""),
        ("SESSION", alice.cookie or ""),
        ("session ", alice.cookie or ""),
        ("session[]", alice.cookie or ""),
    ):
        client = acting.app.test_client(use_cookies=False)
        asked = client.get("/who", headers={"Cookie": f"{name}={value}"})
        if name == "session ":
            # Spaces around a name are no part of it (RFC 6265, 5.2).
            assert asked.text == "alice"
        else:
            assert asked.text == "nobody", name
        assert "Set-Cookie" not in asked.headers
