"""The staff site by its pages: lists and their formats, refusals in words, who is offered what."""

import csv
import io
import re
from collections.abc import Callable

import pytest

from app.audit.trail import Actor
from app.auth import changes
from app.listing import safe_cell
from app.sessions.search import SORTS
from tests.servers import RedisServer
from tests.sessions.test_revocation import start
from tests.site import PASSWORD, SECRET, Site, clock_moved

KEYS = {
    "reference",
    "user",
    "role",
    "store",
    "state",
    "started_at",
    "last_seen_at",
    "idle_expires_at",
    "absolute_expires_at",
    "ip",
    "client",
    "user_agent",
    "ended_at",
    "end_reason",
    "ended_by",
    "note",
    "present",
}


def test_the_sessions_list_serves_json_as_promised(site: Site) -> None:
    site.signed_in("alice")
    body = site.signed_in("ada").get("/admin/sessions?format=json").json
    assert body is not None
    assert set(body) == {"sessions", "total", "next", "unavailable"}
    assert (body["total"], body["next"], body["unavailable"]) == (2, None, [])
    assert all(set(row) == KEYS for row in body["sessions"])
    first = body["sessions"][0]
    assert (first["user"], first["state"], first["present"]) == ("ada", "live", True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["started_at"])


def test_json_and_csv_follow_the_filters_of_the_page(site: Site) -> None:
    site.signed_in("alice", ip="10.31.4.7")
    ada = site.signed_in("ada")
    for query in ("user=alice", "ip=10.31.0.0/16", "store=redis", "role=member", "q=ali"):
        page = ada.get(f"/admin/sessions?{query}").text
        assert "10.31.4.7" in page
        assert "badge own" not in page
        body = ada.get(f"/admin/sessions?{query}&format=json").json
        assert body is not None
        assert [row["user"] for row in body["sessions"]] == ["alice"]
        lines = list(
            csv.DictReader(io.StringIO(ada.get(f"/admin/sessions?{query}&format=csv").text))
        )
        assert [line["user"] for line in lines] == ["alice"]
    assert len(site.events("data.exported")) == 10


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_cell_that_looks_like_a_formula_is_made_text(value: str) -> None:
    assert safe_cell(value) == "'" + value


def test_a_hostile_user_agent_is_text_on_the_page_and_in_csv(site: Site) -> None:
    site.signed_in("alice", "=cmd|'/c calc'!A1<script>alert(1)</script>")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    assert "<script>alert" not in ada.get(f"/admin/sessions/{row.reference}").text
    assert "\"'=cmd" in ada.get("/admin/sessions?user=alice&format=csv").text or (
        ",'=cmd" in ada.get("/admin/sessions?user=alice&format=csv").text
    )


@pytest.mark.parametrize(
    ("query", "beside"),
    [
        ("ip=nonsense", 'aria-describedby="f-ip-error"'),
        ("store=floppy", 'aria-describedby="f-store-error"'),
        ("role=king", 'aria-describedby="f-role-error"'),
        ("state=gone", 'aria-describedby="f-state-error"'),
        ("colour=red", "There is no filter"),
        ("after=garbage", "damaged"),
        ("format=xml", "Use json or csv"),
    ],
)
def test_a_bad_filter_is_refused_beside_its_field(site: Site, query: str, beside: str) -> None:
    response = site.signed_in("vera").get(f"/admin/sessions?{query}")
    assert response.status_code == 400
    assert beside in response.text


def test_no_list_ignores_what_it_is_asked(site: Site) -> None:
    ada = site.signed_in("ada")
    for path in (
        "/admin/sessions?user=alice&user=bob",
        "/admin/users?role=admin&role=member",
        "/admin/audit?who=ada&who=ops",
        "/admin/audit?after=abc",
        "/admin/revocations?who=ada",
        "/admin/revocations?after=abc",
        "/admin/revocations?after=99999999999999999999",
        "/admin/stores?store=redis",
        "/admin/policy?name=LOG_LEVEL",
        "/account/sessions?state=ended",
    ):
        assert ada.get(path).status_code == 400, path
    twice = {"all_matching": "1", "user": ["alice", "bob"]}
    assert ada.post("/admin/revocations", twice, form="/admin/sessions").status_code == 400


def test_a_page_that_is_no_list_says_that_it_has_no_csv(site: Site) -> None:
    site.signed_in("alice")
    ada = site.signed_in("ada")
    (row,) = site.live("alice")
    frozen = ada.post("/admin/revocations", {"reference": row.reference}, form="/admin/sessions")
    for path in (
        "/admin/",
        f"/admin/sessions/{row.reference}",
        f"/admin/users/{row.user_id}",
        "/admin/stores/redis/drift",
        frozen.location,
    ):
        refused = ada.get(f"{path}?format=csv")
        assert refused.status_code == 400, path
        assert "There is no CSV of this page." in refused.text, path
        told = ada.get(f"{path}?format=json").status_code
        assert told == (400 if path == frozen.location else 200), path


def test_the_page_about_a_bad_filter_leads_back_to_the_whole_list(site: Site) -> None:
    response = site.signed_in("ada").get("/admin/audit?verb=nonsense")
    assert response.status_code == 400
    assert "There is no action “nonsense”" in response.text
    assert '<a class="button" href="/admin/audit">Without these filters</a>' in response.text


def test_the_trail_tells_its_details_in_words(site: Site) -> None:
    site.browser().sign_in("bob", "a wrong password")
    site.signed_in("alice")
    page = site.signed_in("ada").get("/admin/audit").text
    assert "Firefox 140 on Linux, Redis" in page
    assert "wrong password" in page
    assert "why wrong" not in page


def test_the_trail_names_the_result_and_the_request(site: Site) -> None:
    site.browser().sign_in("bob", "a wrong password")
    page = site.signed_in("ada").get("/admin/audit").text
    (failed,) = site.events("session.sign_in_failed")
    assert failed.request_id
    assert f'<span class="mono" title="{failed.request_id}">{failed.request_id[:7]}…</span>' in page
    assert '<td class="wide">failed</td>' in page
    assert '<td class="wide">done</td>' in page


def test_who_may_end_none_of_the_rows_is_offered_no_button(site: Site) -> None:
    site.signed_in("ada")
    ops = site.signed_in("ops")
    assert "Revoke the ticked" not in ops.get("/admin/sessions?role=admin").text
    assert "Revoke the ticked" not in ops.get("/admin/sessions?user=ops").text
    site.signed_in("alice")
    assert "Revoke the ticked" in ops.get("/admin/sessions").text


def test_a_session_says_how_it_was_signed_in(site: Site) -> None:
    site.signed_in("alice", ip="10.31.4.7")
    (row,) = site.live("alice")
    page = site.signed_in("vera").get(f"/admin/sessions/{row.reference}").text
    how = "with the password, from 10.31.4.7, Firefox 140 on Linux"
    assert f"<dt>How signed in</dt><dd>{how}</dd>" in page


def test_the_timeline_says_a_cause_once(site: Site) -> None:
    site.signed_in("alice")
    site.signed_in("alice")
    ended = site.rows()[0].reference
    timeline = site.signed_in("vera").get(f"/admin/sessions/{ended}").text.partition("Timeline")[2]
    assert timeline.count("Superseded") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/admin/sessions/aaaaaaaaaa",
        "/admin/sessions/x",
        "/admin/users/999999",
        "/admin/users/99999999999999999999999",
        "/admin/revocations/999999",
        "/admin/revocations/99999999999999999999999",
    ],
)
def test_what_does_not_exist_is_a_404_page(site: Site, path: str) -> None:
    response = site.signed_in("ada").get(path)
    assert response.status_code == 404
    assert "Nothing is here" in response.text


def test_each_role_is_offered_what_it_may_do(site: Site) -> None:
    site.signed_in("alice")
    (row,) = site.live("alice")
    offered = {}
    for name in ("vera", "ops", "otto", "ada"):
        browser = site.signed_in(name)
        listed = browser.get("/admin/sessions").text
        shown = browser.get(f"/admin/sessions/{row.reference}").text
        user = browser.get(f"/admin/users/{site.user_id('alice')}").text
        offered[name] = {
            "tick": 'type="checkbox" name="reference"' in listed,
            "revoke": "Revoke this session" in shown,
            "values": "Values are never shown" in shown,
            "audit": 'href="/admin/audit"' in listed,
            "disable": "Disable…" in user,
            "role": "Change the role…" in user,
        }
    nothing = dict.fromkeys(offered["vera"], False)
    assert offered["vera"] == nothing
    assert offered["ops"] == nothing | {"tick": True, "revoke": True, "disable": True}
    assert offered["otto"] == nothing | {"values": True, "audit": True}
    assert offered["ada"] == dict.fromkeys(nothing, True)


def test_an_operator_gets_no_box_for_an_administrator_or_for_oneself(site: Site) -> None:
    site.signed_in("ada")
    site.signed_in("alice")
    page = site.signed_in("ops").get("/admin/sessions").text
    (alice,) = site.live("alice")
    assert re.findall(r'name="reference" value="(\w+)"', page) == [alice.reference]


def test_a_review_asks_for_a_reason_and_for_the_count_where_staff_are_hit(site: Site) -> None:
    site.signed_in("vera")
    ada = site.signed_in("ada")
    (row,) = site.live("vera")
    review = ada.post(
        "/admin/revocations", {"reference": row.reference}, form="/admin/sessions"
    ).location
    refused = ada.post(review, {"reason": "", "count": "7", "note": "keep me"})
    assert refused.status_code == 422
    assert "Choose a reason." in refused.text
    assert "Type the number of sessions in the list: 1." in refused.text
    assert "keep me" in refused.text
    assert len(site.live("vera")) == 1
    assert ada.post(review, {"reason": "policy", "count": "1"}).status_code == 303
    assert site.live("vera") == []
    assert "1 of 1 gone." in ada.get(review).text


def test_a_review_that_is_too_old_ends_nothing_and_says_so(site: Site) -> None:
    site.signed_in("alice")
    ops = site.signed_in("ops")
    (row,) = site.live("alice")
    review = ops.post(
        "/admin/revocations", {"reference": row.reference}, form="/admin/sessions"
    ).location
    with clock_moved(301):
        assert "This list is no longer valid." in ops.get(review).text
        assert ops.post(review, {"reason": "incident"}).status_code == 409
    assert len(site.live("alice")) == 1


def test_another_person_does_not_see_a_review(site: Site) -> None:
    site.signed_in("alice")
    ops, ada = site.signed_in("ops"), site.signed_in("ada")
    (row,) = site.live("alice")
    review = ops.post(
        "/admin/revocations", {"reference": row.reference}, form="/admin/sessions"
    ).location
    assert ada.get(review).status_code == 404


def test_one_s_own_session_is_held_back_and_the_page_says_why(site: Site) -> None:
    ada = site.signed_in("ada")
    (row,) = site.live("ada")
    response = ada.post("/admin/revocations", {"reference": row.reference}, form="/admin/sessions")
    assert response.location == "/admin/sessions"
    assert "This is your own session." in ada.get("/admin/sessions").text


def test_all_that_match_are_frozen_with_the_query_s_filter(site: Site) -> None:
    for name in ("alice", "bob", "vera"):
        site.signed_in(name)
    ops = site.signed_in("ops")
    freeze = "/admin/revocations?role=member"
    review = ops.post(freeze, {"all_matching": "1"}, form="/admin/sessions").location
    assert "Revoke 2 sessions?" in ops.get(review).text
    # They are all that Redis holds, so the count is asked for as for a whole store.
    assert ops.post(review, {"reason": "incident"}).status_code == 422
    ops.post(review, {"reason": "incident", "count": "2"})
    assert site.live("alice") == site.live("bob") == []
    assert len(site.live("vera")) == 1


def test_a_person_is_made_disabled_and_enabled_by_the_pages(site: Site) -> None:
    ada = site.signed_in("ada")
    short = {"username": "carol", "role": "viewer", "password": "short"}
    refused = ada.post("/admin/users/new", short)
    assert refused.status_code == 422
    assert 'aria-describedby="password-hint password-error"' in refused.text
    assert 'value="carol"' in refused.text
    assert "short" not in re.findall(r'name="password"[^>]*value="([^"]*)"', refused.text)
    made = ada.post("/admin/users/new", {**short, "password": PASSWORD})
    assert made.status_code == 303
    carol = site.signed_in("carol")
    assert ada.post(f"{made.location}/disable").status_code == 303
    assert not carol.is_signed_in()
    assert site.browser().sign_in("carol").status_code == 422
    assert ada.post(f"{made.location}/enable").status_code == 303
    assert site.browser().sign_in("carol").status_code == 303


def test_the_password_is_asked_again_before_a_person_is_changed(site: Site) -> None:
    ada = site.signed_in("ada")
    page = f"/admin/users/{site.user_id('alice')}/disable"
    with clock_moved(601):
        led = ada.get(page)
        assert led.location == f"/reauth?next={page}"
        wrong = ada.post(led.location, {"password": "wrong"})
        assert wrong.status_code == 422
        back = ada.post(led.location, {"password": PASSWORD, "next": page})
        assert back.location == page
        assert ada.get(page).status_code == 200


def test_the_last_administrator_stays(site: Site) -> None:
    with site.app.test_request_context():
        changes.create_user("eve", "admin", PASSWORD, actor=Actor.cli("test"))
    eve = site.signed_in("eve")
    assert eve.post(f"/admin/users/{site.user_id('ada')}/disable").status_code == 303
    own = f"/admin/users/{site.user_id('eve')}/disable"
    assert eve.get(own).status_code == 403
    assert eve.post(own, form="/account/sessions").status_code == 403
    assert eve.is_signed_in()


def test_an_address_says_how_a_list_is_sorted_and_how_long_its_pages_are(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_LIMIT=200)
    vera = site.signed_in("vera")
    start(site, *["alice"] * 110)
    with clock_moved(120):
        vera.get("/admin/policy")
        listed = {sort: vera.get(f"/admin/sessions?format=json&sort={sort}").json for sort in SORTS}
        by_csv = vera.get("/admin/sessions?format=csv&sort=signed_in").text
    assert listed["seen"]["sessions"][0]["user"] == "vera"
    assert listed["signed_in"]["sessions"][0]["user"] == "alice"
    assert by_csv.rstrip().splitlines()[-1].split(",")[1] == "vera"
    path, found = "/admin/sessions?format=json&sort=signed_in&rows=100", []
    while path:
        body = vera.get(path).json
        found.append(len(body["sessions"]))
        path = body["next"]
    assert found == [100, 11]
    page = vera.get("/admin/sessions?sort=signed_in&rows=100&role=member").text
    assert (
        'aria-sort="descending"><a href="/admin/sessions?role=member&amp;sort=signed_in&amp;rows=100"'
        in page
    )
    assert 'href="/admin/sessions?role=member&amp;rows=100">Last seen</a>' in page
    assert (
        'href="/admin/sessions?role=member&amp;sort=signed_in&amp;rows=100&amp;store=redis"' in page
    )
    for bad in ("sort=name", "rows=7"):
        refused = vera.get(f"/admin/sessions?{bad}")
        assert refused.status_code == 400
        assert f"{bad.partition('=')[0]} can be: " in refused.text
    refused = vera.get("/admin/sessions?sort=signed_in&ip=nonsense")
    assert '<option value="signed_in" selected>' in refused.text


def test_four_kinds_of_nothing_say_four_different_things(site: Site, valkey: RedisServer) -> None:
    """None exist, none match, not permitted, a store that does not answer."""
    alice, ada = site.signed_in("alice"), site.signed_in("ada")
    for path, nothing in (
        ("/admin/sessions?state=ended", "No session has ended yet"),
        ("/admin/revocations", "Nothing has been revoked yet"),
        ("/account/sessions", "None has ended yet"),
    ):
        page = ada.get(path).text
        assert nothing in page
        assert "Clear filters</a></p>" not in page
    for path, nothing in (
        ("/admin/sessions?user=nobody", "No session matches"),
        ("/admin/users?name=nobody", "No user matches"),
        ("/admin/audit?who=nobody", "No event matches"),
    ):
        page = ada.get(path).text
        assert nothing in page
        assert "Clear filters</a></p>" in page
    refused = alice.get("/admin/sessions")
    assert refused.status_code == 403
    assert "Your role, member, may not open this page." in refused.text
    valkey.kill()
    page = ada.get("/admin/sessions").text
    assert "Redis did not answer." in page
    assert "Its 1 session on this page is shown as the ledger has it" in page
    assert "2 signed-in sessions of 2 users." in page
    assert "No session matches" in ada.get("/admin/sessions?store=redis&user=nobody").text


@pytest.mark.parametrize(
    "path", ["sessions", "users", "audit", "revocations", "stores", "statistics", "policy"]
)
def test_every_list_serves_json_and_csv(site: Site, path: str) -> None:
    ada = site.signed_in("ada")
    assert ada.get(f"/admin/{path}?format=json").is_json
    response = ada.get(f"/admin/{path}?format=csv")
    assert response.mimetype == "text/csv"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["Cache-Control"] == "no-store"


def test_a_denied_sign_in_says_what_to_do(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_LIMIT_POLICY="deny")
    site.signed_in("alice")
    response = site.browser().sign_in("alice")
    assert response.status_code == 409
    assert "You are already signed in with 1 session" in response.text


def test_a_throttled_sign_in_says_when_to_try_again(site: Site) -> None:
    browser = site.browser()
    answers = [browser.sign_in("alice", "wrong guess") for _ in range(40)]
    last = answers[-1]
    assert answers[0].status_code == 422
    assert last.status_code == 429
    assert int(last.headers["Retry-After"]) > 0
    assert "Too many attempts. Try again in" in last.text


def test_the_search_box_takes_tokens_and_shows_what_is_filtered(site: Site) -> None:
    site.signed_in("alice")
    vera = site.signed_in("vera")
    page = vera.get("/admin/sessions", query_string={"q": "role:member store:redis"}).text
    assert 'value="store:redis role:member"' in page
    assert "1 signed-in session of 1 user." in page
    assert (
        'value="user:alice idle:&lt;1h"' in vera.get("/admin/sessions?user=alice&idle=%3C1h").text
    )
    refused = vera.get("/admin/sessions", query_string={"q": "usr:alice"})
    assert refused.status_code == 400
    assert 'aria-describedby="q-error"' in refused.text
    assert "There is no “usr:”. There are user: ip: store:" in refused.text
    assert 'value="usr:alice"' in refused.text


def test_the_filters_are_open_for_whoever_used_them_alone(site: Site) -> None:
    vera = site.signed_in("vera")
    form = "user=&ip=10.31.0.0/16&reference=&store=&role=&state=live&sort=seen"
    for query, opened in (
        ("q=ip:10.31.0.0/16", False),
        ("ip=10.31.0.0/16&sort=signed_in", False),
        ("q=usr:alice", False),
        (form, True),
        ("ip=nonsense", True),
        ("colour=red", True),
    ):
        page = vera.get(f"/admin/sessions?{query}").text
        assert ('<details class="filters" open>' in page) is opened, query


def test_the_patterns_are_there_in_development_only(make_site: Callable[..., Site]) -> None:
    page = make_site().signed_in("vera").get("/admin/patterns")
    assert page.status_code == 200
    assert "Type the number of sessions in the list: 40." in page.text
    for word in ("Ending: 12 sessions so far.", "Data missing", "#7", "Are you still there?"):
        assert word in page.text
    production = make_site(ROLLCALL_ENV="production", SECRET_KEY=SECRET)
    vera = production.browser()
    vera.client.environ_base["wsgi.url_scheme"] = "https"
    assert vera.sign_in("vera").status_code == 303
    assert vera.get("/admin/").status_code == 200
    assert vera.get("/admin/patterns").status_code == 404
