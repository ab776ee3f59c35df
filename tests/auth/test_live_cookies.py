"""Attack 14: who is disabled, demoted or reset is nobody at the next request, of whatever kind it is."""

from collections.abc import Callable, Iterator

import pytest
from flask import session, stream_with_context
from flask_login import current_user
from werkzeug.test import TestResponse

from app.sessions import passive
from tests.auth.test_changes import CHANGES
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, with_cookie
from tests.sessions.test_revocation import commanding
from tests.site import PASSWORD, Browser, Site

JSON = {"Accept": "application/json"}
Ask = Callable[[Browser, str], TestResponse]

KINDS: dict[str, tuple[Ask, int]] = {
    "a page": (lambda b, _: b.get("/account/sessions"), 303),
    "HEAD": (lambda b, _: b.client.head("/account/sessions"), 303),
    "JSON": (lambda b, _: b.get("/account/sessions", headers=JSON), 401),
    "CSV": (lambda b, _: b.get("/account/sessions?format=csv"), 303),
    "a passive request": (lambda b, _: b.get("/account/sessions", headers={"X-Passive": "1"}), 401),
    "a passive view": (lambda b, _: b.get("/tick"), 303),
    "POST": (lambda b, t: b.client.post("/", data={"csrf_token": t, "note": "late"}), 401),
    "POST of JSON": (
        lambda b, t: b.client.post("/", data={"csrf_token": t, "note": "late"}, headers=JSON), 401,
    ),
    "POST without a token": (lambda b, _: b.client.post("/", data={"note": "late"}), 401),
    "step-up": (
        lambda b, t: b.client.post("/reauth", data={"csrf_token": t, "password": PASSWORD}), 401,
    ),
    "a change of password": (
        lambda b, t: b.client.post("/account/password", data={
            "csrf_token": t, "current_password": PASSWORD,
            "password": "a very uncommon sentence", "again": "a very uncommon sentence",
        }), 401,
    ),
    "a stream": (lambda b, _: b.get("/stream"), 303),
    "a public page that looks": (lambda b, _: b.get("/who"), 200),
    "a page that is not there": (lambda b, _: b.get("/nowhere"), 404),
}  # fmt: skip


@pytest.fixture
def streaming(site: Site) -> Site:
    """A site with a stream, a passive view and a page for everybody."""

    def stream() -> object:
        def chunks() -> Iterator[str]:
            yield "streamed to "
            yield str(current_user.name)

        return site.app.response_class(stream_with_context(chunks()))  # type: ignore[arg-type]

    def who() -> str:
        return current_user.name if current_user.is_authenticated else str(session.get("note"))

    add_view(site, "/stream", stream, signed_in=True)
    add_view(site, "/tick", passive(lambda: str(current_user.name)), signed_in=True)
    add_view(site, "/who", who)
    return site


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["alice", "otto"], ids=["in Redis", "in SQL"])
def test_the_next_request_of_every_kind_is_nobodys(
    streaming: Site, valkey: RedisServer, change: str, name: str
) -> None:
    browser = streaming.signed_in(name)
    token = browser.token("/account/password")
    cookie = browser.cookie or ""
    with commanding(streaming):
        CHANGES[change][0](streaming.user_id(name))
    (row,) = streaming.rows()
    trail = len(streaming.events())
    for kind, (ask, status) in KINDS.items():
        each = with_cookie(streaming, cookie)
        # The remember cookie that Flask-Login would take: neither read nor made.
        each.client.set_cookie("remember_token", f"{streaming.user_id(name)}|{'0' * 128}")
        response = ask(each, token)
        assert response.status_code == status, kind
        # Only the page that tells the reason says whose session it was.
        assert name not in response.text or row.reference in response.text, kind
        made = [h for h in response.headers.getlist("Set-Cookie") if not h.startswith("session=;")]
        assert made == [], kind
    assert len(streaming.rows()) == 1
    assert len(streaming.events()) == trail
    assert streaming.payload(row) is None
    with valkey.client() as client:
        assert not client.keys("rollcall:session:*")


def test_a_stream_that_runs_while_its_person_is_disabled_ends_and_no_other_begins(
    site: Site,
) -> None:
    def stream() -> object:
        session.get("note")

        def chunks() -> Iterator[str]:
            yield f"{current_user.name} "
            CHANGES["disabling"][0](site.user_id("alice"))
            yield "heard the end"
            session["late"] = "written"

        return site.app.response_class(stream_with_context(chunks()))  # type: ignore[arg-type]

    add_view(site, "/stream", stream, signed_in=True)
    alice = site.signed_in("alice")
    with alice.get("/stream") as response:
        assert response.text == "alice heard the end"
    assert alice.get("/stream").status_code == 303
    assert site.payload(site.rows()[0]) is None


def test_no_cookie_of_before_the_change_works_after_it_is_taken_back(site: Site) -> None:
    from app.auth.changes import change_role, enable_user
    from tests.auth.test_changes import CLI

    for change, back in (
        ("disabling", lambda i: enable_user(i, actor=CLI)),
        ("a new role", lambda i: change_role(i, "member", actor=CLI)),
    ):
        browser = site.signed_in("alice")
        with commanding(site):
            CHANGES[change][0](site.user_id("alice"))
            back(site.user_id("alice"))
        assert browser.get("/account/sessions", headers=JSON).status_code == 401, change
