"""Two cookies, the same attributes on set and delete, set only by the response that made the id."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from flask import request, session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.servers import RedisServer
from tests.sessions.helpers import add_view, counted, with_cookie
from tests.site import PASSWORD, Site, clock_moved

PRODUCTION = {
    "ROLLCALL_ENV": "production",
    "SECRET_KEY": "w4Y8kq0zRr2nT6vB1xLm9pHsGd3fJ7cA",
}


def attributes(header: str) -> set[str]:
    """Return a Set-Cookie's attributes without name, value and age."""
    return {
        part.strip().lower()
        for part in header.split(";")[1:]
        if not part.strip().lower().startswith(("expires", "max-age"))
    }


def set_cookies(response: Any, name: str) -> list[str]:
    return [h for h in response.headers.getlist("Set-Cookie") if h.startswith(f"{name}=")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"httponly", "path=/", "samesite=lax"}),
        (
            {"SESSION_COOKIE_SAMESITE": "Strict", "SESSION_COOKIE_PATH": "/app"},
            {"httponly", "path=/app", "samesite=strict"},
        ),
        (
            {
                "SESSION_COOKIE_SECURE": True,
                "SESSION_COOKIE_PARTITIONED": True,
                "SESSION_COOKIE_SAMESITE": "None",
                "SESSION_COOKIE_NAME": "session",
                "VISITOR_COOKIE_NAME": "visitor",
                "SESSION_COOKIE_DOMAIN": "localhost",
            },
            {"httponly", "path=/", "samesite=none", "secure", "partitioned", "domain=localhost"},
        ),
        (PRODUCTION, {"httponly", "path=/", "samesite=lax", "secure"}),
    ],
    ids=["development", "strict below a path", "partitioned with a domain", "production"],
)
def test_a_cookie_is_deleted_with_the_attributes_that_it_was_set_with(
    make_site: Callable[..., Site], given: dict[str, object], expected: set[str]
) -> None:
    site = make_site(**given)
    name = site.app.config["SESSION_COOKIE_NAME"]
    prefix = str(given.get("SESSION_COOKIE_PATH", ""))
    base = "https://localhost" if site.app.config["SESSION_COOKIE_SECURE"] else "http://localhost"
    options = {"base_url": f"{base}{prefix}"}
    client = site.app.test_client()
    values = {"username": "alice", "password": PASSWORD, "csrf_token": token(client, options)}
    signed_in = client.post("/login", data=values, **options)
    assert signed_in.status_code == 303
    (made,) = set_cookies(signed_in, name)
    assert attributes(made) == expected
    values = {"csrf_token": token(client, options, "/account/sessions")}
    (gone,) = set_cookies(client.post("/logout", data=values, **options), name)
    assert attributes(gone) == expected
    assert gone.startswith(f"{name}=;")
    assert "expires=thu, 01 jan 1970" in gone.lower()
    assert client.get("/account/sessions", **options).status_code == 303


def token(client: Any, options: dict[str, str], path: str = "/login") -> str:
    text: str = client.get(path, **options).text
    return text.split('name="csrf_token"')[1].split('value="')[1].split('"', maxsplit=1)[0]


def test_in_production_both_cookies_are_bound_to_the_host(make_site: Callable[..., Site]) -> None:
    site = make_site(**PRODUCTION)

    def put() -> str:
        session["fruit"] = "pear"
        return "kept"

    add_view(site, "/put", put)
    response = site.app.test_client().get("/put", base_url="https://localhost")
    (made,) = response.headers.getlist("Set-Cookie")
    assert made.startswith("__Host-visitor=")
    assert attributes(made) == {"httponly", "path=/", "samesite=lax", "secure"}
    assert site.app.config["SESSION_COOKIE_NAME"] == "__Host-session"


def test_the_cookie_ends_with_the_browser_unless_the_session_is_permanent(site: Site) -> None:
    response = site.browser().sign_in("alice")
    (made,) = set_cookies(response, "session")
    assert "expires" not in made.lower()
    assert "max-age" not in made.lower()


def test_a_permanent_sessions_cookie_expires_at_the_absolute_deadline(site: Site) -> None:
    def keep() -> str:
        session.permanent = True
        return "permanent"

    add_view(site, "/permanent", keep)
    browser = site.browser()
    browser.get("/permanent")
    (made,) = set_cookies(browser.sign_in("alice"), "session")
    expires = next(p for p in made.split("; ") if p.lower().startswith("expires="))[8:]
    (row,) = site.live("alice")
    assert abs(parsedate_to_datetime(expires) - row.absolute_expires_at) < timedelta(seconds=1)
    with browser.client.session_transaction() as held:
        assert held.permanent


def test_a_session_that_becomes_permanent_later_gets_no_other_cookie(site: Site) -> None:
    """Only the response that makes an id sets the cookie: the next one is that of a step-up."""
    add_view(site, "/permanent", lambda: str(setattr(session, "permanent", True)))
    browser = site.signed_in("alice")
    assert set_cookies(browser.get("/permanent"), "session") == []
    assert set_cookies(browser.get("/account/sessions"), "session") == []
    (made,) = set_cookies(browser.post("/reauth", {"password": PASSWORD}), "session")
    assert "expires=" in made.lower()


def age(header: str) -> timedelta:
    """Return how long a cookie lasts from now, by its Expires."""
    (until,) = [part[8:] for part in header.split("; ") if part.lower().startswith("expires=")]
    return parsedate_to_datetime(until) - datetime.now(UTC)


def test_a_visitors_permanent_cookie_lasts_the_lifetime_and_is_kept_alive_as_in_flask(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(PERMANENT_SESSION_LIFETIME=1000)

    def keep() -> str:
        session["fruit"] = "pear"
        session.permanent = "permanent" in request.args
        return "kept"

    add_view(site, "/keep", keep)
    add_view(site, "/take", lambda: str(session.get("fruit")))
    add_view(site, "/idle", lambda: "idle")
    browser = site.browser()
    (plain,) = set_cookies(browser.get("/keep"), "visitor")
    assert "expires" not in plain.lower()
    assert set_cookies(browser.get("/take"), "visitor") == []

    (permanent,) = set_cookies(browser.get("/keep?permanent"), "visitor")
    assert timedelta(seconds=990) < age(permanent) <= timedelta(seconds=1000)
    (again,) = set_cookies(browser.get("/take"), "visitor")
    assert timedelta(seconds=990) < age(again) <= timedelta(seconds=1000)
    assert set_cookies(browser.get("/idle"), "visitor") == []

    site.app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    assert set_cookies(browser.get("/take"), "visitor") == []
    assert browser.get("/take").text == "pear"


def test_a_visitors_data_is_not_read_after_the_lifetime(make_site: Callable[..., Site]) -> None:
    site = make_site(PERMANENT_SESSION_LIFETIME=1000)
    serializer = site.app.session_interface.visitors.get_signing_serializer(site.app)  # type: ignore[attr-defined]
    add_view(site, "/take", lambda: str(session.get("fruit")))
    for seconds, read in ((990, "pear"), (1010, "None")):
        signer = serializer.make_signer(serializer.salt)
        at = int(time.time()) - seconds
        signer.get_timestamp = lambda at=at: at
        kept = signer.sign(serializer.dump_payload({"fruit": "pear"})).decode()
        assert with_cookie(site, kept, "visitor").get("/take").text == read


def test_emptying_a_visitors_session_deletes_its_cookie_as_in_flask(site: Site) -> None:
    def put() -> str:
        session["fruit"] = "pear"
        return "kept"

    add_view(site, "/put", put)
    add_view(site, "/clear", lambda: str(session.clear()))
    add_view(site, "/pop", lambda: str(session.pop("fruit")))
    browser = site.browser()
    for path in ("/clear", "/pop"):
        (made,) = set_cookies(browser.get("/put"), "visitor")
        (gone,) = set_cookies(browser.get(path), "visitor")
        assert gone.startswith("visitor=;")
        assert attributes(gone) == attributes(made)
        assert browser.client.get_cookie("visitor") is None


def test_the_applications_root_does_not_narrow_the_cookies_as_it_does_in_flask(
    make_site: Callable[..., Site],
) -> None:
    """The prefix `__Host-` wants the path /; only SESSION_COOKIE_PATH says otherwise, for both cookies."""
    for chosen, path in ({}, "path=/"), ({"SESSION_COOKIE_PATH": "/app/deep"}, "path=/app/deep"):
        site = make_site(APPLICATION_ROOT="/app", **chosen)
        add_view(site, "/put", lambda: str(session.update(fruit="pear")))
        (visitors,) = set_cookies(site.browser().get("/put"), "visitor")
        (made,) = set_cookies(site.browser().sign_in("alice"), "session")
        assert path in attributes(visitors)
        assert attributes(visitors) == attributes(made)


def test_under_another_name_nobody_is_signed_in_by_the_old_cookie(
    make_site: Callable[..., Site],
) -> None:
    before = make_site()
    browser = before.signed_in("alice")
    renamed = make_site(SESSION_COOKIE_NAME="rollcall", VISITOR_COOKIE_NAME="guest")
    assert not with_cookie(renamed, browser.cookie or "", "session").is_signed_in()
    assert with_cookie(renamed, browser.cookie or "", "rollcall").is_signed_in()
    (made,) = set_cookies(renamed.browser().sign_in("bob"), "rollcall")
    assert attributes(made) == {"httponly", "path=/", "samesite=lax"}


def test_signing_in_lets_the_visitors_cookie_go(site: Site) -> None:
    def put() -> str:
        session["fruit"] = "pear"
        return "kept"

    add_view(site, "/put", put)
    browser = site.browser()
    browser.get("/put")
    (gone,) = set_cookies(browser.sign_in("alice"), "visitor")
    assert gone.startswith("visitor=;")
    assert browser.client.get_cookie("visitor") is None


def test_only_the_response_that_made_the_id_sets_the_cookie(site: Site) -> None:
    browser = site.signed_in("alice")
    for path in ("/", "/account/sessions", "/account/password", "/healthz", "/nowhere"):
        with clock_moved(120):
            assert set_cookies(browser.get(path), "session") == []
    saved = browser.post("/", {"note": "milk"})
    assert saved.status_code == 303
    assert set_cookies(saved, "session") == []


def test_a_response_that_made_an_id_sets_it_though_a_503_replaces_it(
    site: Site, valkey: RedisServer
) -> None:
    def step() -> str:
        session.regenerate()  # type: ignore[attr-defined]
        session["fruit"] = "pear"
        with valkey.client() as client:
            client.flushall()
        return "new"

    add_view(site, "/step", step)
    browser = site.signed_in("alice")
    old = browser.cookie
    response = browser.get("/step")
    assert response.status_code == 503
    assert len(set_cookies(response, "session")) == 1
    assert browser.cookie != old
    assert not with_cookie(site, old or "").is_signed_in()
    assert browser.get("/account/sessions?format=json").status_code == 200


def test_a_page_that_tells_the_reason_deletes_the_cookie_once(site: Site) -> None:
    browser = site.signed_in("alice")
    with clock_moved(3600):
        led = browser.get("/account/sessions")
        assert set_cookies(led, "session") == []
        told = browser.get(led.location)
        assert len(set_cookies(told, "session")) == 1
        assert browser.cookie is None


@pytest.mark.parametrize(
    "headers", [{"X-Passive": "1"}, {"Accept": "application/json"}], ids=["passive", "JSON"]
)
def test_a_passive_or_json_request_of_an_ended_session_is_a_401_and_leaves_the_cookie(
    site: Site, headers: dict[str, str]
) -> None:
    browser = site.signed_in("alice")
    with clock_moved(3600):
        response = browser.get("/account/sessions", headers=headers)
        assert response.status_code == 401
        assert response.json is not None
        assert "Set-Cookie" not in response.headers
        assert site.rows()[0].reference in browser.get("/login").text


def test_a_late_response_neither_brings_an_old_id_back_nor_deletes_a_new_one(site: Site) -> None:
    browser = site.browser()

    def slow() -> str:
        session["fruit"] = "pear"
        browser.sign_in("alice")
        return "late"

    add_view(site, "/slow", slow)
    other = site.signed_in("alice")
    late = other.get("/slow")
    assert set_cookies(late, "session") == []
    assert browser.is_signed_in()


def fingerprint(site: Site, valkey: RedisServer) -> tuple[Any, ...]:
    """Return what the servers hold but for counters of guessing, to see whether anything was written."""
    tables = ("user_sessions", "session_payloads", "audit_events", "user_agents", "users")
    counts = [site.system.ledger.read(text(f"SELECT count(*) FROM {t}"))[0][0] for t in tables]
    with valkey.client() as client:
        keys = sorted(k for k in client.keys("*") if not k.startswith(b"rollcall:throttle"))
    return (*counts, *keys)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    value=st.one_of(
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=';,"\\')),
        st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60),
    )
)
def test_no_invented_cookie_is_anybody_sets_anything_or_writes_anything(
    site: Site, valkey: RedisServer, value: str
) -> None:
    # Guesses of all examples together would be what is recorded: fifty different ids from one client.
    valkey.reset()
    before = fingerprint(site, valkey)
    for path, status in (("/account/sessions", 303), ("/login", 200), ("/", 200)):
        response = site.app.test_client(use_cookies=False).get(
            path, headers={"Cookie": f"session={value}".encode().decode("latin-1")}
        )
        assert response.status_code == status
        assert "Set-Cookie" not in response.headers
    assert fingerprint(site, valkey) == before


NAMES = (
    "session",
    "visitor",
    "theme",
    "remember_token",
    "__Host-session",
    "SESSION",
    "",
    "session[]",
)
ODD = st.sampled_from(
    [
        "\x00",
        "\x00id",
        "x" * 8192,
        "%00",
        "%s",
        '"',
        '""',
        '"\\000"',
        "=",
        "==",
        "a=b",
        "é",
        "日本",
        "\ud83d",
    ]
)


@pytest.fixture
def session_id(site: Site) -> str:
    """The id of a live session."""
    return site.signed_in("alice").cookie or ""


@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_of_any_cookies_only_the_id_as_it_was_given_is_somebody(
    site: Site, valkey: RedisServer, session_id: str, data: st.DataObject
) -> None:
    """Several of one name, a visitor's cookie for a session's, ids that are cut, quoted, encoded or glued."""
    near = st.sampled_from(
        [
            session_id,
            session_id[:-1],
            session_id + "A",
            session_id.swapcase(),
            f"{session_id}.{session_id}",
            f'"{session_id}"',
            f" {session_id} ",
            "".join(f"%{ord(each):02x}" for each in session_id),
            session_id[:20] + "\x00" + session_id[21:],
        ]
    )
    pairs = data.draw(
        st.lists(st.tuples(st.sampled_from(NAMES), near | ODD | st.text(max_size=50)), max_size=4)
    )
    separator = data.draw(st.sampled_from(["; ", ";", ";;", " ; ", ", "]))
    header = separator.join(f"{name}={value}" for name, value in pairs)
    sent = header.encode("utf-8", "surrogatepass").decode("latin-1")
    with site.app.test_request_context("/", environ_overrides={"HTTP_COOKIE": sent}):
        parsed = request.cookies.getlist("session")
    before = fingerprint(site, valkey)
    client = site.app.test_client(use_cookies=False)
    answer = client.get("/account/sessions?format=json", environ_overrides={"HTTP_COOKIE": sent})
    assert answer.status_code == (200 if parsed[:1] == [session_id] else 401)
    for path in ("/login", "/nowhere"):
        other = client.get(path, environ_overrides={"HTTP_COOKIE": sent})
        assert other.status_code in (200, 303, 404)
        assert "Set-Cookie" not in other.headers
    assert "Set-Cookie" not in answer.headers
    assert fingerprint(site, valkey) == before


@pytest.mark.parametrize("value", ["x" * 4000, "eyJhIjoxfQ.aaaa.bbbb", "\x00", "é", "=;=", ""])
def test_a_forged_visitors_cookie_is_nobodys_data(site: Site, value: str) -> None:
    add_view(site, "/dump", lambda: str(dict(session)))
    response = site.app.test_client(use_cookies=False).get(
        "/dump", headers={"Cookie": f"visitor={value}".encode().decode("latin-1")}
    )
    assert response.text == "{}"
    assert "Set-Cookie" not in response.headers


def test_a_planted_id_is_never_adopted(site: Site) -> None:
    planted = "P" * 43
    browser = with_cookie(site, planted)
    assert browser.sign_in("alice").status_code == 303
    assert browser.cookie != planted
    assert not with_cookie(site, planted).is_signed_in()


def test_a_remember_cookie_is_neither_read_nor_written(site: Site, valkey: RedisServer) -> None:
    browser = site.browser()
    browser.client.set_cookie("remember_token", "1|forged")
    with counted(site, valkey) as calls:
        assert not browser.is_signed_in()
    assert calls.none
    response = browser.sign_in("alice")
    assert set_cookies(response, "remember_token") == []
    assert set_cookies(browser.sign_out(), "remember_token") == []
