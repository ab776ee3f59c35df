"""A change is made only by a form of this site, of this session: Origin, Sec-Fetch-Site and token."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.auth.test_access import routes, state
from tests.site import PASSWORD, Site

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost:8080"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
]
OWN = [
    {},
    {"Origin": "http://localhost"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
    {"Referer": "https://evil.example/"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_another_sites_form_is_refused_though_its_token_is_right(
    site: Site, headers: dict[str, str]
) -> None:
    browser = site.signed_in("alice")
    response = browser.post("/", {"note": "milk"}, headers=headers)
    assert response.status_code == 403
    with browser.client.session_transaction() as held:
        assert "note" not in held


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_ones_own_form_is_taken(site: Site, headers: dict[str, str]) -> None:
    browser = site.signed_in("alice")
    assert browser.post("/", {"note": "milk"}, headers=headers).status_code == 303


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_another_site_cannot_sign_anybody_in(site: Site, headers: dict[str, str]) -> None:
    browser = site.browser()
    values = {"username": "alice", "password": PASSWORD}
    assert browser.post("/login", values, headers=headers).status_code == 403
    assert site.rows() == []


def post_routes(site: Site) -> list[str]:
    return [path for method, path in routes(site) if method == "POST"]


@pytest.mark.parametrize(
    "how", ["missing", "wrong", "a visitor's", "another session's", "empty", "in the query"]
)
def test_no_post_changes_anything_without_this_sessions_token(
    make_site: Callable[..., Site], how: str
) -> None:
    site = make_site(STEP_UP_AGE=12 * 3600)
    visitors = site.browser().token("/login")
    alices = site.signed_in("alice").token("/account/password")
    ada = site.signed_in("ada")
    own = ada.token("/account/password")
    token = {"missing": None, "wrong": "IngifQ.aaaa.bbbb", "a visitor's": visitors,
             "another session's": alices, "empty": "", "in the query": None}[how]  # fmt: skip
    before = state(site)
    for path in post_routes(site):
        values = {"note": "milk", "password": PASSWORD, "current_password": PASSWORD,
                  "username": "eve", "role": "member", "reason": "incident",
                  "all_matching": "1"}  # fmt: skip
        if token is not None:
            values["csrf_token"] = token
        query = f"?csrf_token={own}" if how == "in the query" else ""
        response = ada.client.post(path + query, data=values)
        overtaken = path in ("/login", "/logout")
        assert response.status_code in ((303,) if overtaken else (400,)), path
    assert state(site) == before
    with ada.client.session_transaction() as held:
        assert "note" not in held


def test_a_visitors_token_is_good_until_sign_in(site: Site) -> None:
    browser = site.browser()
    first = browser.token("/login")
    values = {"username": "alice", "password": "wrong", "csrf_token": first}
    assert browser.client.post("/login", data=values).status_code == 422
    values["password"] = PASSWORD
    assert browser.client.post("/login", data=values).status_code == 303
    response = browser.client.post("/", data={"csrf_token": first, "note": "milk"})
    assert response.status_code == 400
    assert "no longer valid" in response.text


def test_a_visitors_forms_set_no_cookie(site: Site) -> None:
    response = site.browser().get("/login")
    assert "Set-Cookie" not in response.headers


def test_a_token_outlives_step_up_but_not_the_session(site: Site) -> None:
    browser = site.signed_in("alice")
    token = browser.token("/account/password")
    browser.post("/reauth", {"password": PASSWORD})
    assert browser.client.post("/", data={"csrf_token": token}).status_code == 303
    browser.sign_out()
    browser.sign_in("alice")
    assert browser.client.post("/", data={"csrf_token": token}).status_code == 400


def test_a_token_signed_with_an_earlier_key_is_taken(
    make_site: Callable[..., Site],
) -> None:
    old = make_site(SECRET_KEY="an-earlier-key-0123456789abcdef01234567")
    token = old.browser().token("/login")
    new = make_site(SECRET_KEY_FALLBACKS=("an-earlier-key-0123456789abcdef01234567",))
    values: dict[str, Any] = {"username": "alice", "password": PASSWORD, "csrf_token": token}
    assert new.browser().client.post("/login", data=values).status_code == 303
    without = make_site()
    assert without.browser().client.post("/login", data=values).status_code == 400
