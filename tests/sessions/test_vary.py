"""`Vary: Cookie` on every response for which somebody looked at the session, and on no other (S19)."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import (
    Response,
    abort,
    flash,
    g,
    get_flashed_messages,
    redirect,
    render_template_string,
    request,
    session,
)
from flask_login import current_user
from flask_wtf.csrf import generate_csrf

from app.sessions.interface import session as ours
from tests.sessions.helpers import add_view
from tests.site import Site

LOOKS: dict[str, Callable[[], Any]] = {
    "in": lambda: "fruit" in session,
    "not in": lambda: "fruit" not in session,
    "len": lambda: len(session),
    "bool": lambda: bool(session),
    "iteration": lambda: list(session),
    "keys": lambda: list(session.keys()),
    "values": lambda: list(session.values()),
    "items": lambda: list(session.items()),
    "get": lambda: session.get("fruit"),
    "pop a default": lambda: session.pop("fruit", None),
    "==": lambda: session == {},
    "copy": lambda: dict(session),
    "[]=": lambda: session.__setitem__("fruit", "pear"),
    "setdefault": lambda: session.setdefault("fruit", "pear"),
    "update": lambda: session.update(fruit="pear"),
    "clear": lambda: (session.clear(), "cleared"),
    "modified": lambda: setattr(session, "modified", True),
    "permanent": lambda: session.permanent,
    "sid": lambda: ours.sid,
    "principal": lambda: ours.principal,
    "ended": lambda: ours.ended,
    "current_user": lambda: current_user.is_authenticated,
    "a form's token": generate_csrf,
    "flash": lambda: flash("hello"),
    "flashed": get_flashed_messages,
    "a template's current_user": lambda: render_template_string(
        "{{ current_user.is_authenticated }}"
    ),
    "a template's session": lambda: render_template_string("{{ session.get('fruit') }}"),
    "a template's session, by in": lambda: render_template_string("{{ 'fruit' in session }}"),
    "a template's token": lambda: render_template_string("{{ csrf_token() }}"),
}
IDLE: dict[str, Callable[[], Any]] = {
    "text": lambda: "text",
    "a template": lambda: render_template_string("{{ 1 + 1 }}"),
    "json": lambda: {"a": 1},
    "a redirect": lambda: redirect("/elsewhere"),
    "g": lambda: str(g.get("anything")),
    "a cookie of one's own": lambda: str(request.cookies.get("theme")),
}


def varies(response: Response) -> bool:
    """Say whether a cache is told of the cookie, which it must be once."""
    assert response.headers.getlist("Vary").count("Cookie") <= 1
    return "Cookie" in response.vary


@pytest.fixture
def looking(site: Site) -> Site:
    """A site with a view for each way to look, and for each that is none."""
    for number, look in enumerate([*LOOKS.values(), *IDLE.values()]):

        def view(look: Callable[[], Any] = look, answers: bool = number >= len(LOOKS)) -> Any:
            found = look()
            return found if answers else "looked"

        add_view(site, f"/look/{number}", view)
    add_view(site, "/abort/<int:code>", abort)
    return site


def test_whoever_looks_at_the_session_varies_and_who_does_not_does_not(looking: Site) -> None:
    visitor, alice = looking.browser(), looking.signed_in("alice")
    for number, name in enumerate(LOOKS):
        assert varies(visitor.get(f"/look/{number}")), name
        assert varies(alice.get(f"/look/{number}")), name
    for number, name in enumerate(IDLE, start=len(LOOKS)):
        assert not varies(visitor.get(f"/look/{number}")), name
        assert not varies(alice.get(f"/look/{number}")), name


def test_an_error_page_that_shows_who_is_signed_in_varies(looking: Site) -> None:
    for browser in (looking.browser(), looking.signed_in("alice")):
        for code in (400, 403, 404, 405, 410, 418):
            response = browser.get(f"/abort/{code}")
            assert response.status_code == code
            assert varies(response), code


def test_a_page_of_a_fault_looks_at_no_session(looking: Site) -> None:
    looking.app.config["PROPAGATE_EXCEPTIONS"] = False
    alice = looking.signed_in("alice")
    for code in (500, 503):
        response = alice.get(f"/abort/{code}")
        assert response.status_code == code
        assert not varies(response), code
        assert "alice" not in response.text


def test_what_is_the_same_for_everybody_does_not_vary(site: Site) -> None:
    for browser in (site.browser(), site.signed_in("alice")):
        for path in ("/healthz", "/readyz", "/static/css/base.css"):
            with browser.get(path) as response:
                assert response.status_code == 200
            assert not varies(response), path
            assert "Set-Cookie" not in response.headers


def test_a_look_in_a_hook_varies(site: Site) -> None:
    hooks = iter(("before", "after", "handler"))

    def before() -> None:
        if request.path == "/before":
            session.get("fruit")

    def after(response: Response) -> Response:
        if request.path == "/after":
            assert "fruit" not in session
        return response

    def handled(_error: KeyError) -> tuple[str, int]:
        return str(current_user.is_authenticated), 418

    def fail() -> str:
        raise KeyError

    site.app.before_request(before)
    site.app.after_request(after)
    site.app.register_error_handler(KeyError, handled)
    for path in ("/before", "/after", "/neither"):
        add_view(site, path, lambda: "idle")
    add_view(site, "/handler", fail)
    browser = site.signed_in("alice")
    assert [varies(browser.get(f"/{path}")) for path in hooks] == [True, True, True]
    assert not varies(browser.get("/neither"))


def test_a_header_that_the_view_set_stays_beside_ours(site: Site) -> None:
    def view() -> Response:
        response = site.app.make_response(str(current_user.is_authenticated))
        response.vary.add("Accept-Language")
        return response

    add_view(site, "/both", view)
    assert set(site.browser().get("/both").vary) == {"Accept-Language", "Cookie"}
