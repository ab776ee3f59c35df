"""The session where Flask lets it be used: streams, hooks, handlers, threads, other contexts, tests, no key."""

import logging
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from flask import (
    Response,
    abort,
    copy_current_request_context,
    flash,
    g,
    get_flashed_messages,
    request,
    session,
    stream_with_context,
)
from flask_login import current_user
from werkzeug.exceptions import HTTPException

from app.auth.sign_in import sign_in
from tests.processes.served import verified
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, counted
from tests.site import Site, clock_moved

MakeSite = Callable[..., Site]
TOO_LATE = "session_changed_after_response"


def who() -> str:
    return current_user.name if current_user.is_authenticated else "nobody"


def take() -> str:
    return str(session.get("fruit"))


@pytest.fixture
def shelf(site: Site) -> Site:
    """A site that shows who is signed in and what fruit their session holds."""

    def put(value: str) -> str:
        session["fruit"] = value
        return "kept"

    add_view(site, "/who", who)
    add_view(site, "/take", take)
    add_view(site, "/put/<value>", put)
    return site


# Streams


def streamed(site: Site, chunks: Callable[[], Iterator[str]], before: Callable[[], Any]) -> None:
    def view() -> Response:
        before()
        return site.app.response_class(stream_with_context(chunks()))

    add_view(site, "/stream", view)


def test_a_stream_reads_what_the_session_held_when_it_began(
    shelf: Site, valkey: RedisServer
) -> None:
    def chunks() -> Iterator[str]:
        yield f"{who()} "
        yield take()

    def begin() -> None:
        session["fruit"] = "pear"

    streamed(shelf, chunks, begin)
    for name in ("alice", "ada"):
        browser = shelf.signed_in(name)
        with counted(shelf, valkey) as calls, browser.get("/stream") as response:
            assert response.text == f"{name} pear"
        assert len(calls.ledger) == 1
        assert browser.get("/take").text == "pear"
    assert shelf.browser().get("/stream").text == "nobody pear"


@pytest.mark.parametrize("name", ["alice", "ada", None], ids=["in Redis", "in SQL", "a visitor"])
@pytest.mark.parametrize("looked", [True, False], ids=["looked at before", "first look"])
def test_what_a_stream_writes_after_the_headers_is_lost_as_in_flask_and_logged_once(
    shelf: Site, caplog: pytest.LogCaptureFixture, name: str | None, *, looked: bool
) -> None:
    def chunks() -> Iterator[str]:
        yield "begun "
        session["fruit"] = "late"
        session["more"] = "late"
        yield take()

    streamed(shelf, chunks, take if looked else lambda: None)
    browser = shelf.browser() if name is None else shelf.signed_in(name)
    browser.get("/put/pear")
    caplog.clear()
    with browser.get("/stream") as response:
        assert response.text == "begun late"
        assert "Set-Cookie" not in response.headers
        assert ("Cookie" in response.vary) == looked
        assert response.headers["Cache-Control"] == "no-store"
    assert [r.getMessage() for r in caplog.records].count(f"{TOO_LATE} path='/stream'") == 1
    assert browser.get("/take").text == "pear"
    assert caplog.text.count(TOO_LATE) == 1


def test_a_teardown_that_writes_is_told_that_it_is_too_late(
    shelf: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def late(_error: BaseException | None) -> None:
        if request.path == "/who":
            session["fruit"] = "late"

    shelf.app.teardown_request(late)
    browser = shelf.signed_in("alice")
    browser.get("/put/pear")
    assert TOO_LATE not in caplog.text
    browser.get("/who")
    assert TOO_LATE in caplog.text
    assert browser.get("/take").text == "pear"


def test_an_ordinary_request_is_not_told_that_it_is_too_late(
    shelf: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    browser = shelf.signed_in("alice")
    browser.get("/put/pear")
    with browser.client.session_transaction() as held:
        held["fruit"] = "apple"
    browser.post("/", {"note": "milk"})
    browser.sign_out()
    assert TOO_LATE not in caplog.text


# Hooks and error handlers


def test_what_hooks_before_and_after_a_view_write_is_kept(site: Site) -> None:
    def before() -> None:
        session["seen"] = [*session.get("seen", []), "before"]

    def after(response: Response) -> Response:
        session["seen"] = [*session["seen"], "after"]
        return response

    add_view(site, "/seen", lambda: " ".join(session["seen"]))
    site.app.before_request(before)
    site.app.after_request(after)
    browser = site.browser()
    assert browser.get("/seen").text == "before"
    assert browser.get("/seen").text == "before after before"


def test_an_error_handler_sees_who_is_signed_in_and_keeps_what_it_writes(shelf: Site) -> None:
    codes = (400, 401, 403, 404, 410, 500, 503)

    def handled(error: HTTPException) -> tuple[str, int]:
        session["fruit"] = f"{who()} met {error.code}"
        return f"{who()} met {error.code}", error.code or 500

    def before() -> None:
        if request.path == "/early":
            abort(request.args.get("code", 0, int))

    for code in codes:
        shelf.app.register_error_handler(code, handled)
    shelf.app.before_request(before)
    for path in ("/early", "/late"):
        add_view(shelf, path, lambda: abort(request.args.get("code", 0, int)))
    for name in ("alice", "ada", "nobody"):
        browser = shelf.browser() if name == "nobody" else shelf.signed_in(name)
        for code in codes:
            for path in ("/early", "/late"):
                response = browser.get(f"{path}?code={code}")
                assert (response.status_code, response.text) == (code, f"{name} met {code}")
                assert browser.get("/take").text == f"{name} met {code}"


def test_a_handler_of_every_exception_sees_who_is_signed_in(shelf: Site) -> None:
    def fail() -> str:
        session["fruit"] = "written before the fault"
        raise LookupError

    shelf.app.register_error_handler(LookupError, lambda _: (who(), 418))
    add_view(shelf, "/fail", fail)
    browser = shelf.signed_in("alice")
    assert browser.get("/fail").text == "alice"
    assert browser.get("/take").text == "written before the fault"
    assert browser.get("/nowhere").status_code == 404
    assert "alice" in browser.get("/nowhere").text


def test_each_kind_of_session_keeps_a_flash_until_it_is_shown_once(site: Site) -> None:
    add_view(site, "/say", lambda: str(flash("hello", "warm")))
    add_view(site, "/hear", lambda: str(get_flashed_messages(with_categories=True)))
    for browser in (site.browser(), site.signed_in("alice"), site.signed_in("ada")):
        browser.get("/say")
        assert browser.get("/hear").text == "[('warm', 'hello')]"
        assert browser.get("/hear").text == "[]"


# Threads and contexts


def test_a_thread_with_a_copy_of_the_context_sees_the_same_session(shelf: Site) -> None:
    def view() -> str:
        session["fruit"] = "pear"
        seen: list[str] = []

        @copy_current_request_context
        def work() -> None:
            seen.append(f"{who()} {take()}")
            session["fruit"] = "from the thread"

        thread = Thread(target=work)
        thread.start()
        thread.join()
        return seen[0]

    add_view(shelf, "/thread", view)
    for name in ("alice", "ada"):
        browser = shelf.signed_in(name)
        assert browser.get("/thread").text == f"{name} pear"
        assert browser.get("/take").text == "from the thread"


def test_a_nested_application_context_asks_nobody_again(shelf: Site, valkey: RedisServer) -> None:
    def view() -> str:
        outside = who()
        with shelf.app.app_context():
            assert "_login_user" not in g
            return f"{outside} {who()} {take()}"

    add_view(shelf, "/nested", view)
    browser = shelf.signed_in("alice")
    browser.get("/put/pear")
    with counted(shelf, valkey) as calls:
        assert browser.get("/nested").text == "alice alice pear"
    assert len(calls.ledger) == 1


def test_another_request_inside_a_request_has_a_session_of_its_own(shelf: Site) -> None:
    bob = shelf.browser()
    add_view(shelf, "/inner", lambda: f"{who()} {bob.get('/take').text} {take()} {who()}")
    alice = shelf.signed_in("alice")
    bob.sign_in("bob")
    alice.get("/put/pear")
    bob.get("/put/plum")
    assert alice.get("/inner").text == "alice plum pear alice"


def test_a_request_context_of_a_test_has_the_session_of_its_cookie(shelf: Site) -> None:
    alice = shelf.signed_in("alice")
    alice.get("/put/pear")
    with shelf.app.test_request_context("/who"):
        assert (who(), take()) == ("nobody", "None")
        session["fruit"] = "apple"
        assert take() == "apple"
    with shelf.app.test_request_context("/who", headers={"Cookie": f"session={alice.cookie}"}):
        assert (who(), take()) == ("alice", "pear")
        session["fruit"] = "never saved: nobody answers"
    assert alice.get("/take").text == "pear"


def test_a_client_that_is_kept_open_shows_the_session_of_the_last_request(shelf: Site) -> None:
    alice = shelf.signed_in("alice")
    with alice.client:
        alice.get("/put/pear")
        assert (who(), take()) == ("alice", "pear")


# session_transaction


def test_a_transaction_adds_to_what_requests_have_written_and_loses_nothing(shelf: Site) -> None:
    for browser in (shelf.browser(), shelf.signed_in("alice"), shelf.signed_in("ada")):
        browser.get("/put/pear")
        with browser.client.session_transaction() as held:
            assert held["fruit"] == "pear"
            held["more"] = [1]
            held.setdefault("list", []).append(2)
        browser.get("/put/apple")
        with browser.client.session_transaction() as held:
            assert (held["fruit"], held["more"], held["list"]) == ("apple", [1], [2])
            del held["more"]
        with browser.client.session_transaction() as held:
            assert sorted(set(held) - {"csrf_token"}) == ["fruit", "list"]


def test_a_transaction_of_one_client_leaves_the_others_alone(shelf: Site) -> None:
    browsers = [shelf.browser(), shelf.browser(), shelf.signed_in("alice"), shelf.signed_in("bob")]
    for number, browser in enumerate(browsers):
        with browser.client.session_transaction() as held:
            held["fruit"] = f"pear {number}"
    assert [browser.get("/take").text for browser in browsers] == [
        "pear 0", "pear 1", "pear 2", "pear 3",
    ]  # fmt: skip
    assert [browser.get("/who").text for browser in browsers] == [
        "nobody", "nobody", "alice", "bob",
    ]  # fmt: skip


def test_a_transaction_that_only_reads_writes_nothing(shelf: Site, valkey: RedisServer) -> None:
    alice = shelf.signed_in("alice")
    with counted(shelf, valkey) as calls, alice.client.session_transaction() as held:
        assert "fruit" not in held
    assert calls.redis == {"get": 1}


def test_a_transaction_after_sign_out_or_the_end_is_a_visitors(shelf: Site) -> None:
    alice, bob = shelf.signed_in("alice"), shelf.signed_in("bob")
    alice.sign_out()
    with clock_moved(3600):
        for browser in (alice, bob):
            with browser.client.session_transaction() as held:
                assert held.principal is None  # type: ignore[attr-defined]
                assert "csrf_token" not in dict(held)
                held["fruit"] = "pear"
            assert (browser.get("/who").text, browser.get("/take").text) == ("nobody", "pear")
    assert shelf.payload(shelf.rows()[0]) is None


def test_a_transaction_against_a_dead_store_raises(shelf: Site, valkey: RedisServer) -> None:
    from app.sessions.store import StoreUnavailable

    alice = shelf.signed_in("alice")
    valkey.kill()
    with pytest.raises(StoreUnavailable), alice.client.session_transaction() as held:
        held["fruit"] = "pear"


# What a visitor's cookie cannot hold; no key


def test_what_a_visitors_cookie_cannot_hold_is_one_500_and_not_two_answers(
    make_site: MakeSite,
) -> None:
    site = make_site(PROPAGATE_EXCEPTIONS=False)
    answered: list[int] = []

    def note(response: Response) -> Response:
        answered.append(response.status_code)
        return response

    def break_it() -> str:
        session["opener"] = object()
        return "kept"

    site.app.after_request(note)
    add_view(site, "/break", break_it)
    response = site.browser().get("/break")
    assert response.status_code == 500
    assert "Set-Cookie" not in response.headers
    assert answered == [200]


def test_without_a_key_everybody_is_a_visitor_and_writing_raises_flasks_words(site: Site) -> None:
    site.app.secret_key = None
    site.app.config["PROPAGATE_EXCEPTIONS"] = False
    add_view(site, "/who", who)
    add_view(site, "/take", take)
    response = site.browser().get("/who")
    assert (response.status_code, response.text) == (200, "nobody")
    assert "Set-Cookie" not in response.headers
    assert site.browser().get("/take").text == "None"
    assert site.browser().get("/nowhere").status_code == 404
    assert site.browser().get("/account/sessions").status_code == 303
    writes: list[Callable[[], Any]] = [
        lambda: session.update(a=1),
        lambda: session.pop("a", None),
        lambda: session.setdefault("a", 1),
        lambda: (session.clear(), "cleared"),
        lambda: setattr(session, "permanent", True),
        lambda: sign_in(alice),
    ]
    with site.app.test_request_context("/who"):
        alice = verified("alice")
        assert (len(session), "a" in session, session.permanent) == (0, False, False)
        for write in writes:
            with pytest.raises(RuntimeError, match="no secret key was set"):
                write()
