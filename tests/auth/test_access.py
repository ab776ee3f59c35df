"""Who may open what: every route has a rule, and what the design's table does not give is refused."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from werkzeug.routing import Rule

from app.auth.access import rule_of
from app.people.models import Permission, Role
from tests.sessions.helpers import add_view
from tests.site import CAST, PASSWORD, Browser, Site, clock_moved

ROLE_OF = {name: role for name, role in CAST.items() if name != "bob"}

# What the design's section 8 says, by the path of the page; a longer prefix decides.
EVERYBODY = {"member", "viewer", "operator", "auditor", "admin"}
STAFF = EVERYBODY - {"member"}
REVOKERS = {"operator", "admin"}
TABLE = {
    "/": EVERYBODY,
    "/account": EVERYBODY,
    "/reauth": EVERYBODY,
    "/admin": STAFF,
    "/admin/audit": {"auditor", "admin"},
    "/admin/users/new": {"admin"},
    "POST /admin/revocations": REVOKERS,
    "/admin/users/2/disable": REVOKERS,
    "/admin/users/2/enable": {"admin"},
    "/admin/users/2/role": {"admin"},
    "/admin/users/2/password": {"admin"},
    "/admin/users/2/require": {"admin"},
    "POST /admin/stores/redis/drift": REVOKERS,
}
PUBLIC = {"/", "/login", "/logout", "/language", "/theme", "/healthz", "/readyz", "/metrics"}


def path_of(rule: Rule) -> list[str]:
    """Return paths of a rule with its arguments filled in."""
    path = rule.rule
    path = path.replace("<int(max=9223372036854775807):revocation_id>", "1")
    path = path.replace("<int(max=9223372036854775807):user_id>", "2")
    path = path.replace("<reference>", "aaaaaaaaaa").replace("<store>", "redis")
    if "<any(" in path:
        head = path.split("<any(")[0]
        return [head + action for action in ("role", "password", "require", "disable", "enable")]
    assert "<" not in path, f"fill in {path} here"
    return [path]


def routes(site: Site) -> list[tuple[str, str]]:
    """Return method and path of every route but the static files'."""
    found = []
    for rule in site.app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            found += [(method, path) for path in path_of(rule)]
    return found


def allowed(method: str, path: str) -> set[str]:
    keys = [key for key in TABLE if f"{method} {path}".startswith(key) or path.startswith(key)]
    return TABLE[max(keys, key=len)]


def ask(browser: Browser, method: str, path: str, **options: Any) -> int:
    with browser.client.open(path, method=method, **options) as response:
        return int(response.status_code)


def test_every_route_has_a_rule(site: Site) -> None:
    for rule in site.app.url_map.iter_rules():
        rule_of(site.app, rule.endpoint)


def test_only_these_routes_are_public(site: Site) -> None:
    public = {
        path
        for rule in site.app.url_map.iter_rules()
        if rule.endpoint != "static" and rule_of(site.app, rule.endpoint) is None
        for path in path_of(rule)
    }
    assert public <= PUBLIC


def test_a_route_without_a_rule_is_refused_to_everybody(site: Site) -> None:
    site.app.add_url_rule("/forgotten", "forgotten", lambda: "secret", methods=["GET", "POST"])
    with pytest.raises(LookupError, match="decorate it"):
        rule_of(site.app, "forgotten")
    for browser in (site.browser(), site.signed_in("ada")):
        response = browser.get("/forgotten")
        assert response.status_code == 403
        assert "secret" not in response.text


@pytest.mark.parametrize("name", ROLE_OF)
def test_a_role_may_open_what_the_table_gives_it_and_nothing_else(
    make_site: Callable[..., Site], name: str
) -> None:
    site = make_site(STEP_UP_AGE=12 * 3600, WTF_CSRF_ENABLED=False)
    browser = open_session(site, name)
    role = ROLE_OF[name]
    for method, path in routes(site):
        if path in ("/login", "/logout", "/account/password", "/reauth") and method == "POST":
            continue
        if path in PUBLIC - {"/"}:
            continue
        status = ask(browser, method, path)
        if role in allowed(method, path):
            assert status not in (401, 403), f"{role} is refused {method} {path}"
        else:
            assert status in (403, 404), f"{role} may {method} {path}: {status}"


def open_session(site: Site, name: str) -> Browser:
    """Sign in where forms need no token."""
    browser = site.browser()
    values = {"username": name, "password": PASSWORD}
    assert browser.client.post("/login", data=values).status_code == 303
    return browser


@pytest.mark.admin
def test_what_a_form_does_not_ask_for_is_not_set(site: Site) -> None:
    alice, ada = site.signed_in("alice"), site.signed_in("ada")
    more = {"role": "admin", "active": "0", "name": "root", "id": "1", "user_id": "1"}
    new = "a very uncommon sentence"
    values = {"current_password": PASSWORD, "password": new, "repeat": new}
    assert alice.post("/account/password", values | more).status_code == 303
    values = {"username": "eve", "role": "member", "password": new}
    more |= {"role": "member", "created_at": "x", "password_hash": "x", "permissions": "administer"}
    assert ada.post("/admin/users/new", values | more).status_code == 303
    rows = site.system.ledger.read(text("SELECT name, role, active FROM users ORDER BY id"))
    people = {row.name: (row.role, bool(row.active)) for row in rows}
    assert people == {
        **{name: (role, True) for name, role in CAST.items()},
        "eve": ("member", True),
    }


@pytest.mark.parametrize(
    "path",
    [
        "/login",
        "/reauth",
        "/account/password",
        pytest.param("/admin/users/new", marks=pytest.mark.admin),
    ],
)
def test_a_form_of_a_password_lets_a_manager_fill_it_in(site: Site, path: str) -> None:
    """ASVS 6.2.7, WCAG 3.3.8: told apart by autocomplete, nothing in the way of pasting, nothing cut."""
    browser = site.browser() if path == "/login" else site.signed_in("ada")
    fields = re.findall(r"<input[^>]*type=\"password\"[^>]*>", browser.get(path).text)
    assert fields
    for field in fields:
        assert re.search(r'autocomplete="(current|new)-password"', field), field
        assert not re.search(r"maxlength|onpaste|readonly|autocomplete=.off", field), field


@pytest.mark.admin
def test_a_visitor_is_led_to_the_sign_in_page_and_back(site: Site) -> None:
    visitor = site.browser()
    for method, path in routes(site):
        if path in PUBLIC or method != "GET":
            continue
        response = visitor.get(path)
        assert response.status_code == 303, path
        assert response.location.startswith("/login"), path
    led = visitor.get("/admin/sessions?user=alice&state=live").location
    assert "next=/admin/sessions?user%3Dalice%26state%3Dlive" in led


def test_a_visitor_who_posts_changes_nothing(site: Site) -> None:
    visitor = site.browser()
    for method, path in routes(site):
        if method != "POST" or path in ("/language", "/theme", "/logout"):
            continue
        assert ask(visitor, method, path) in (303, 400, 401, 403, 422), path
    assert site.events() == []


@pytest.mark.admin
def test_a_program_is_told_401_instead(site: Site) -> None:
    for headers in ({"Accept": "application/json"}, {"X-Passive": "1"}):
        response = site.browser().get("/admin/sessions", headers=headers)
        assert response.status_code == 401
        assert response.json is not None
        assert response.json["error"] == "signed_out"
    assert site.browser().get("/admin/sessions?format=json").status_code == 401


def test_a_nul_in_path_query_or_form_is_a_400_on_every_database(any_site: Site) -> None:
    """PostgreSQL refuses it in text, so it would be a fault of ours."""
    ada = any_site.signed_in("ada")
    for path in (
        "/admin/sessions/a%00b",
        "/admin/sessions?user=a%00b",
        "/admin/sessions?q=%00",
        "/admin/users?name=%00",
        "/admin/audit?%00=x",
        "/login?next=%00",
    ):
        assert ada.get(path).status_code == 400, path
    values = {"username": "alice\0", "password": "x"}
    assert any_site.browser().post("/login", values).status_code == 400
    assert any_site.events("session.sign_in_failed") == []


@pytest.mark.admin
def test_a_refusal_is_recorded_with_role_and_path(site: Site) -> None:
    assert site.signed_in("alice").get("/admin/sessions").status_code == 403
    (event,) = site.events("access.refused")
    assert (event.actor_name, event.actor_role, event.result) == ("alice", "member", "refused")
    assert "/admin/sessions" in event.details


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_lists_json_and_csv_follow_its_pages_role(site: Site, kind: str) -> None:
    for name in ("alice", "vera", "otto"):
        browser = site.signed_in(name)
        for path in ("/admin/sessions", "/admin/users", "/admin/revocations", "/admin/audit"):
            page = browser.get(path).status_code
            assert browser.get(f"{path}?format={kind}").status_code == page, (name, path)


def test_a_get_changes_nothing(site: Site) -> None:
    """But for what a person's own look does: a refusal or an export in the trail."""
    ada = site.signed_in("ada")
    alice = site.signed_in("alice")
    before = state(site)
    for browser in (ada, alice, site.browser()):
        for method, path in routes(site):
            if method == "GET":
                ask(browser, "GET", path)
                ask(browser, "GET", f"{path}?csrf_token=x&reference=aaaaaaaaaa&all_matching=1")
                ask(browser, "HEAD", path)
    assert state(site) == before


def state(site: Site) -> list[Any]:
    tables = ("user_sessions", "users", "revocations", "revocation_targets", "cutoff")
    return [
        [tuple(row) for row in site.system.ledger.read(text(f"SELECT * FROM {table}"))]
        for table in tables
    ]


def test_options_and_unknown_methods_open_nothing(site: Site) -> None:
    visitor = site.browser()
    for _method, path in routes(site):
        assert ask(visitor, "OPTIONS", path) == 200
        assert ask(visitor, "DELETE", path) in (403, 405)


def test_a_post_from_a_page_whose_session_has_ended_is_told_the_reason(site: Site) -> None:
    browser = site.signed_in("alice")
    token = browser.token("/account/password")
    with clock_moved(3600):
        response = browser.client.post("/", data={"csrf_token": token, "note": "milk"})
    assert response.status_code == 401
    assert site.rows()[0].reference in response.text
    assert browser.cookie is None


def test_a_program_that_posts_into_an_ended_session_is_told_401(site: Site) -> None:
    browser = site.signed_in("alice")
    with clock_moved(3600):
        response = browser.client.post("/", headers={"Accept": "application/json"})
    assert response.status_code == 401
    assert response.json is not None
    assert "Set-Cookie" not in response.headers


def test_a_sign_in_form_that_another_tab_overtook_is_a_303(site: Site) -> None:
    browser = site.browser()
    token = browser.token("/login")
    browser.sign_in("alice")
    cookie = browser.cookie
    values = {"username": "bob", "password": "whatever", "csrf_token": token}
    response = browser.client.post("/login", data=values)
    assert (response.status_code, response.location) == (303, "/")
    assert "Set-Cookie" not in response.headers
    assert browser.cookie == cookie
    assert site.live("bob") == []


def test_a_sign_out_form_that_another_tab_overtook_is_a_303_and_signs_nobody_out(
    site: Site,
) -> None:
    browser = site.signed_in("alice")
    token = browser.token("/account/sessions")
    browser.sign_out()
    browser.sign_in("bob")
    response = browser.client.post("/logout", data={"csrf_token": token})
    assert response.status_code == 303
    assert browser.is_signed_in()


def test_the_roles_permissions_are_the_tables() -> None:
    assert {role for role in Role if role.may(Permission.OWN)} == set(Role)
    assert {role for role in Role if role.may(Permission.STAFF)} == STAFF
    assert {role for role in Role if role.may(Permission.REVOKE)} == REVOKERS
    assert {role for role in Role if role.may(Permission.DISABLE_MEMBERS)} == REVOKERS
    assert {role for role in Role if role.may(Permission.AUDIT)} == {"auditor", "admin"}
    assert {role for role in Role if role.may(Permission.ADMINISTER)} == {"admin"}


HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def check_headers(response: Any, path: str) -> None:
    for name, value in HEADERS.items():
        assert response.headers[name] == value, (path, name)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_every_answer_has_the_security_headers_and_is_not_cached(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(PROPAGATE_EXCEPTIONS=False)

    def fault() -> str:
        raise ZeroDivisionError

    add_view(site, "/fault", fault)
    ada = site.signed_in("ada")
    seen = set()
    for browser in (ada, site.browser()):
        for method, path in [*routes(site), ("GET", "/nowhere"), ("POST", "/nowhere")]:
            if (method, path) == ("POST", "/logout"):
                continue
            with browser.client.open(path, method=method) as response:
                check_headers(response, f"{method} {path}")
                seen.add(response.status_code // 100)
    assert seen == {2, 3, 4, 5}


def test_what_depends_on_the_session_says_so_and_each_page_offers_to_sign_out(site: Site) -> None:
    browser = site.signed_in("ada")
    pages = 0
    for method, path in [*routes(site), ("GET", "/nowhere")]:
        if method != "GET" or path in ("/healthz", "/readyz", "/metrics"):
            continue
        with browser.get(path) as response:
            assert "Cookie" in response.vary, path
            if response.mimetype == "text/html" and response.status_code != 303:
                assert '<form method="post" action="/logout">' in response.text, path
                pages += 1
    assert pages >= 5


def test_a_static_file_may_be_cached_and_sets_no_cookie(site: Site) -> None:
    browser = site.signed_in("alice")
    with browser.get("/static/css/base.css") as response:
        assert response.headers["Cache-Control"].startswith("public")
        assert "Set-Cookie" not in response.headers
        assert "Cookie" not in response.vary


def test_in_production_transport_security_is_strict(make_site: Callable[..., Site]) -> None:
    site = make_site(ROLLCALL_ENV="production", SECRET_KEY="w4Y8kq0zRr2nT6vB1xLm9pHsGd3fJ7cA")
    response = site.app.test_client().get("/login", base_url="https://localhost")
    assert "max-age=63072000" in response.headers["Strict-Transport-Security"]
