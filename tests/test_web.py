"""What holds for every response: headers, caching, error pages, health, theme."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Response

from app.sessions.store import StoreUnavailable
from tests import servers
from tests.sessions.helpers import add_view
from tests.site import Site

ROOT = Path(__file__).parent.parent
STAFF_PAGES = [
    "/admin/",
    "/admin/sessions",
    "/admin/sessions?state=ended",
    "/admin/revocations",
    "/admin/users",
    "/admin/users/1",
    "/admin/users/new",
    "/admin/users/1/disable",
    "/admin/audit",
    "/admin/stores",
    "/admin/stores/redis/drift",
    "/admin/statistics",
    "/admin/policy",
    "/admin/patterns",
]
PAGES = [
    *(pytest.param(path, marks=pytest.mark.admin) for path in STAFF_PAGES),
    "/account/sessions",
    "/account/password",
    "/reauth",
]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/login", 200),
        ("/account/sessions", 303),
        ("/nowhere", 404),
        ("/logout", 405),
        ("/static/css/base.css", 200),
        ("/static/nothing.css", 404),
        ("/healthz", 200),
        ("/readyz", 200),
    ],
)
def test_every_answer_carries_the_security_headers(site: Site, path: str, status: int) -> None:
    response = site.browser().get(path, buffered=True)
    assert response.status_code == status
    headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in headers


@pytest.mark.parametrize("path", PAGES)
def test_signed_in_pages_are_not_kept_and_offer_to_sign_out(site: Site, path: str) -> None:
    response = site.signed_in("ada").get(path)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.headers["Vary"]
    assert re.search(r'<form method="post" action="/logout">', response.text)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_an_inline_script_style_or_handler(site: Site, path: str) -> None:
    page = site.signed_in("ada").get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert "<style" not in page
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", page)


def test_a_static_file_is_kept_long_under_its_hash_and_sets_no_cookie(site: Site) -> None:
    browser = site.signed_in("alice")
    (url,) = re.findall(r'href="(/static/css/base\.css\?v=[0-9a-f]+)"', browser.get("/").text)
    response = browser.get(url, buffered=True)
    assert "immutable" in response.headers["Cache-Control"]
    assert "Set-Cookie" not in response.headers
    assert "Cookie" not in response.headers.get("Vary", "")


def test_a_view_may_widen_its_own_policy_and_never_its_caching(site: Site) -> None:
    def view() -> Response:
        headers = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "public"}
        return Response("", headers=headers)

    add_view(site, "/wide", view)
    headers = site.browser().get("/wide").headers
    assert headers.getlist("Content-Security-Policy") == ["default-src 'self'"]
    assert headers.getlist("Cache-Control") == ["no-store"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_outside_development_https_is_demanded(make_site: Callable[..., Site]) -> None:
    site = make_site(ROLLCALL_ENV="production")
    response = site.browser().get("/login")
    assert "max-age=63072000" in response.headers["Strict-Transport-Security"]
    assert 'class="badge environment production"' in response.text


def test_the_request_is_named_by_the_trusted_proxy_only(make_site: Callable[..., Site]) -> None:
    sent = {"X-Request-ID": "from-the-proxy-1"}
    direct = make_site().browser().get("/login", headers=sent)
    assert direct.headers["X-Request-ID"] != "from-the-proxy-1"
    proxied = make_site(TRUSTED_PROXIES=1).browser().get("/login", headers=sent)
    assert proxied.headers["X-Request-ID"] == "from-the-proxy-1"


def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
    make_site: Callable[..., Site],
) -> None:
    for hops, expected in ((0, "127.0.0.1"), (1, "10.1.2.3")):
        site = make_site(TRUSTED_PROXIES=hops)
        browser = site.browser()
        browser.client.environ_base["HTTP_X_FORWARDED_FOR"] = "10.1.2.3"
        browser.sign_in("bob")
        (row,) = site.live("bob")
        assert row.ip == expected


def test_the_theme_is_a_cookie_that_the_page_obeys(site: Site) -> None:
    browser = site.signed_in("alice")
    response = browser.post("/theme", {"theme": "dark", "next": "/account/sessions"}, form="/")
    assert (response.status_code, response.location) == (303, "/account/sessions")
    assert 'data-theme="dark"' in browser.get("/").text
    browser.post("/theme", {"theme": '"><script>', "next": "//evil.example"}, form="/")
    assert 'data-theme="system"' in browser.get("/").text


@pytest.mark.admin
def test_those_who_ask_for_json_get_their_errors_in_json(site: Site) -> None:
    browser = site.signed_in("vera")
    for path, status in (("/nowhere?format=json", 404), ("/admin/audit?format=json", 403)):
        response = browser.get(path)
        assert response.status_code == status
        assert response.json is not None
        assert {"error", "message"} <= set(response.json)


def test_a_form_without_its_token_is_refused_in_words(site: Site) -> None:
    browser = site.signed_in("alice")
    response = browser.client.post("/", data={"note": "no token"})
    assert response.status_code == 400
    assert "This form is no longer valid" in response.text


def test_a_foreign_host_is_refused_without_a_page(make_site: Callable[..., Site]) -> None:
    site = make_site(TRUSTED_HOSTS="localhost")
    response = site.browser().get("/login", headers={"Host": "evil.example"})
    assert (response.status_code, response.mimetype) == (400, "text/plain")
    assert "evil.example" not in response.text
    assert "Content-Security-Policy" in response.headers


def test_more_than_the_site_accepts_is_a_413_page(make_site: Callable[..., Site]) -> None:
    site = make_site(MAX_CONTENT_LENGTH=2000)
    response = site.browser().client.post("/login", data={"username": "a" * 5000})
    assert response.status_code == 413
    assert "Too much was sent" in response.text


@pytest.mark.admin
def test_a_silent_store_is_named_and_signs_nobody_out(
    site: Site, valkey: servers.RedisServer
) -> None:
    alice, ada = site.signed_in("alice"), site.signed_in("ada")
    valkey.kill()
    response = alice.get("/")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "Redis does not answer" in response.text
    assert "Nobody was signed out by this" in response.text
    assert "Set-Cookie" not in response.headers
    assert alice.get("/nowhere").status_code == 404
    page = ada.get("/admin/sessions")
    assert page.status_code == 200
    assert "Redis did not answer." in page.text
    rows = ada.get("/admin/sessions?format=json").json
    assert rows is not None
    assert rows["unavailable"] == ["redis"]
    assert {row["user"]: row["present"] for row in rows["sessions"]} == {"alice": None, "ada": True}


@pytest.mark.admin
@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ("", "Redis does not answer"),
        ("timed out", "Redis does not answer"),
        ("not reachable; not asked again yet", "Redis does not answer"),
        ("still starting", "Redis does not answer yet: it is starting"),
        ("read-only", "Redis cannot store anything at the moment (read-only)"),
        ("out of memory or disk space; not asked again yet", "(out of memory or disk space)"),
        ("refused our credentials", "Redis does not let this site in"),
        ("other requests kept changing this session", "Redis could not do what was asked"),
    ],
)
def test_a_server_that_answers_but_cannot_work_is_not_called_silent(
    site: Site, monkeypatch: pytest.MonkeyPatch, detail: str, said: str
) -> None:
    browser = site.signed_in("ada")

    def fail(*_: object) -> None:
        raise StoreUnavailable("redis", detail)

    monkeypatch.setattr("app.admin.counts.live_counts", fail)
    response = browser.get("/admin/")
    assert response.status_code == 503
    assert f"{said}</h1>" in response.text
    assert "/logout" not in response.text


def test_a_redis_out_of_memory_says_so(site: Site, valkey: servers.RedisServer) -> None:
    alice = site.signed_in("alice")
    token = alice.token("/")
    with valkey.client() as client:
        client.config_set("maxmemory", "1")
        response = alice.client.post("/", data={"csrf_token": token, "note": "full"})
    assert response.status_code == 503
    assert "Redis cannot store anything at the moment (out of memory" in response.text


def test_missing_data_is_a_page_of_its_own_with_a_way_out(
    site: Site, valkey: servers.RedisServer
) -> None:
    alice = site.signed_in("alice")
    valkey.reset()
    response = alice.get("/")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "The data of your session is missing" in response.text
    assert "You are still signed in. Redis answers" in response.text
    assert "does not answer" not in response.text
    assert '<form method="post" action="/logout">' in response.text
    assert "Set-Cookie" not in response.headers
    left = alice.client.post("/logout", headers={"Origin": "http://localhost"})
    assert (left.status_code, left.location) == (303, "/login?signed_out=1")
    assert site.live("alice") == []
    assert alice.cookie is None


def test_nobody_but_this_site_can_sign_out_whose_data_is_missing(
    site: Site, valkey: servers.RedisServer
) -> None:
    alice = site.signed_in("alice")
    valkey.reset()
    evil = {"Origin": "https://evil.example"}
    assert alice.client.post("/logout", headers=evil).status_code == 403
    assert alice.client.post("/logout").status_code == 503
    assert len(site.live("alice")) == 1


def test_missing_data_is_json_for_those_who_asked_for_json(
    site: Site, valkey: servers.RedisServer
) -> None:
    alice = site.signed_in("alice")
    valkey.reset()
    response = alice.get("/", headers={"Accept": "application/json"})
    assert response.status_code == 503
    assert response.json is not None
    assert response.json["title"] == "The data of your session is missing"
    assert "What you sent" not in response.json["message"]
    response = alice.client.post("/", data={"csrf_token": "x"})
    assert response.status_code == 503
    assert "What you sent may not have been carried out." in response.text


def test_readyz_names_the_silent_server_and_healthz_looks_at_none(
    site: Site, valkey: servers.RedisServer
) -> None:
    browser = site.browser()
    assert browser.get("/readyz").status_code == 200
    valkey.kill()
    response = browser.get("/readyz")
    assert response.status_code == 503
    assert response.json is not None
    states = {name: each["ok"] for name, each in response.json["dependencies"].items()}
    assert states == {"database": True, "redis": False, "sql": True}
    assert browser.get("/healthz").status_code == 200


@pytest.mark.admin
def test_a_fault_of_ours_is_a_page_that_touches_nothing(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(TESTING=False)
    browser = site.signed_in("ada")

    def fail(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("app.admin.counts.live_counts", fail)
    response = browser.get("/admin/")
    assert response.status_code == 500
    assert "Something went wrong on our side" in response.text
    assert "secret detail" not in response.text
    assert "csrf_token" not in response.text


@pytest.mark.admin
def test_a_fault_reaches_flask_s_debugger_in_debug_mode(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(TESTING=False, FLASK_DEBUG=True)
    browser = site.signed_in("ada")

    def fail(*_: object) -> None:
        raise RuntimeError("for its author")

    monkeypatch.setattr("app.admin.counts.live_counts", fail)
    with pytest.raises(RuntimeError, match="for its author"):
        browser.get("/admin/")
    assert browser.get("/nowhere").status_code == 404


def test_a_view_without_a_rule_tells_its_author_what_to_write(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    site.app.add_url_rule("/fresh", "fresh", lambda: "never shown")
    response = site.signed_in("ada").get("/fresh")
    assert response.status_code == 403
    assert "fresh has no rule: decorate it with @public or @requires(...)" in response.text
    site = make_site(ROLLCALL_ENV="production")
    site.app.add_url_rule("/fresh", "fresh", lambda: "never shown")
    response = site.browser().get("/fresh")
    assert response.status_code == 403
    assert "decorate" not in response.text


@pytest.mark.admin
def test_a_silent_database_is_a_503_also_where_nothing_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = site.signed_in("ada")

    def silent(*_: object) -> None:
        raise StoreUnavailable("database")

    monkeypatch.setattr(type(site.system.ledger), "open", silent)
    assert browser.get("/nowhere").status_code == 404
    response = browser.get("/admin/")
    assert response.status_code == 503
    assert "The database does not answer" in response.text


def test_the_pages_keep_their_budgets() -> None:
    css = sum(path.stat().st_size for path in (ROOT / "static" / "css").glob("*.css"))
    js = sum(path.stat().st_size for path in (ROOT / "static" / "js").glob("*.js"))
    assert css <= 24 * 1024
    assert js <= 12 * 1024


def test_colours_are_written_in_one_file_only() -> None:
    colour = re.compile(r"#[0-9a-fA-F]{3,8}\b|\b(?:rgba?|hsla?|oklch)\(")
    for path in (ROOT / "static" / "css").glob("*.css"):
        if path.name != "tokens.css":
            assert not colour.search(path.read_text()), path.name


def test_the_sites_name_is_on_pages_of_visitors_and_of_people(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SITE_NAME="Tea & Milk")
    for page in (site.browser().get("/"), site.signed_in("ada").get("/account/sessions")):
        assert '<a class="brand" href="/">Tea &amp; Milk</a>' in page.text
        assert " · Tea &amp; Milk</title>" in page.text
        assert "Rollcall" not in page.text
