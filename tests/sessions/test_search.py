"""Finding sessions: every field narrows, none is ignored, and a page costs the same however deep."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from app.audit.models import AuditEvent
from app.audit.trail import Actor
from app.columns import clock
from app.people.models import User
from app.sessions import upkeep
from app.sessions.filter import FilterError, SessionFilter
from app.sessions.freeze import NothingToRevoke, Targets, freeze
from app.sessions.models import Cutoff, RevocationTarget, UserSession
from app.sessions.revocation import revoke
from app.sessions.rows import get
from app.sessions.search import SORTS, find, ids_matching, of_user
from tests.servers import RedisServer
from tests.sessions.helpers import counted
from tests.sessions.test_revocation import commanding, start
from tests.site import CHROME, Site, clock_moved

MakeSite = Callable[..., Site]


@pytest.fixture
def crowd(any_site: Site) -> Site:
    """Alice from home in Firefox, bob from the office in Chrome, vera by IPv6; bob's first one ended."""
    for at, (name, agent, ip) in enumerate(
        [
            ("bob", CHROME, "10.31.4.7"),
            ("bob", CHROME, "10.31.4.8"),
            ("alice", "", "192.0.2.10"),
            ("vera", "", "2001:db8:1::7"),
        ]
    ):
        with clock_moved(at):
            any_site.signed_in(name, agent or CHROME, ip)
    return any_site


def names(site: Site, **query: str) -> list[str]:
    with commanding(site):
        return [row.user for row in find(SessionFilter.from_query(query)).rows]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["vera", "alice", "bob"]),
        ({"user": "ALICE"}, ["alice"]),
        ({"user": "ali"}, []),
        ({"ip": "10.31.4.8"}, ["bob"]),
        ({"ip": "10.31.4.7"}, []),
        ({"ip": "10.31.0.0/16"}, ["bob"]),
        ({"ip": "10.31.4.9/24"}, ["bob"]),
        ({"ip": "0.0.0.0/0"}, ["alice", "bob"]),
        ({"ip": "2001:db8::/32"}, ["vera"]),
        ({"ip": "::/0"}, ["vera", "alice", "bob"]),
        ({"store": "sql"}, ["vera"]),
        ({"store": "redis"}, ["alice", "bob"]),
        ({"role": "viewer"}, ["vera"]),
        ({"role": "member", "ip": "10.0.0.0/8"}, ["bob"]),
        ({"state": "ended"}, ["bob"]),
        ({"state": "ended", "user": "alice"}, []),
        ({"q": "al"}, ["alice"]),
        ({"q": "AL"}, ["alice"]),
        ({"q": "10.31.4.8"}, ["bob"]),
        ({"q": "%"}, []),
        ({"q": "_ob"}, []),
        ({"q": "' OR 1=1 --"}, []),
        ({"reference": "aaaaaaaaaa"}, []),
        ({"user": ""}, ["vera", "alice", "bob"]),
        ({"q": "user:alice"}, ["alice"]),
        ({"q": "ip:10.31.0.0/16 role:member"}, ["bob"]),
        ({"q": "bo 10.31.4.8"}, ["bob"]),
        ({"q": "al bo"}, []),
        ({"q": "role:member", "store": "redis"}, ["alice", "bob"]),
        ({"client": "chrome"}, ["vera", "alice", "bob"]),
        ({"client": "firefox"}, []),
        ({"client": "%"}, []),
        ({"idle": ">1h"}, []),
        ({"idle": "<1h"}, ["vera", "alice", "bob"]),
        ({"age": "<99999d"}, ["vera", "alice", "bob"]),
        ({"age": ">1d"}, []),
        ({"reason": "superseded"}, ["bob"]),
        ({"q": "reason:revoked"}, []),
        ({"q": "by:BOB"}, ["bob"]),
        ({"ended": "<1h"}, ["bob"]),
        ({"q": "ended:>1d"}, []),
        ({"q": "by:ada", "state": "ended"}, []),
    ],
)
def test_a_filter_finds_what_it_says(crowd: Site, query: dict[str, str], found: list[str]) -> None:
    assert names(crowd, **query) == found


def test_a_name_is_found_without_case_in_any_script(crowd: Site) -> None:
    with crowd.system.ledger.transaction() as tx:
        named = update(User).where(User.name == "bob").values(name="Zoë", name_key="zoë")
        tx.connection.execute(named)
        ended = UserSession.ended_at.is_not(None)
        tx.connection.execute(update(UserSession).where(ended).values(ended_by="Zoë"))
        tx.connection.execute(update(AuditEvent).values(actor_name="Zoë", target_name="Zoë"))
    assert names(crowd, by="ZOË") == ["Zoë"]
    reference = crowd.live("alice")[0].reference
    ada = crowd.signed_in("ada")
    for query in ("who=ZOË", "whom=ZOE\u0308", f"who=zoë&reference={reference.upper()}"):
        body: Any = ada.get(f"/admin/audit?format=json&{query}").json
        assert body["events"], query
    body = ada.get("/admin/audit?format=json&who=zo").json
    assert body["events"] == []


def test_a_session_is_found_by_its_reference(crowd: Site) -> None:
    reference = crowd.live("alice")[0].reference
    assert names(crowd, reference=reference.upper()) == ["alice"]
    assert names(crowd, q=reference) == ["alice"]
    with commanding(crowd):
        row = get(reference)
        assert row is not None
        assert (row.user, row.state, row.present) == ("alice", "live", True)
        assert get("aaaaaaaaaa") is None


@pytest.mark.parametrize(
    "query",
    [
        {"state": "alive"}, {"store": "tape"}, {"role": "boss"}, {"ip": "nonsense"},
        {"ip": "10.0.0.0/99"}, {"ip": "300.1.1.1"}, {"idle": "soon"}, {"age": ">8"},
        {"idle": "999999d"}, {"reason": "spite"}, {"reason": "revoked", "state": "live"},
        {"ended": "soon"}, {"by": "ada", "state": "live"}, {"q": "role:boss"}, {"q": "usr:alice"},
        {"q": "10.0.0.0/99"}, {"q": "user:alice", "user": "bob"}, {"q": "idle:soon"},
        {"q": "state:live by:ada"}, {"q": "a " * 21},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_refused_and_named(
    site: Site, query: dict[str, str]
) -> None:
    with commanding(site), pytest.raises(FilterError) as refused:
        SessionFilter.from_query(query)
    assert refused.value.field == next(iter(query))


def test_a_filter_and_its_query_string_are_one(site: Site) -> None:
    query = {"state": "ended", "user": "alice", "ip": "10.0.0.0/8", "store": "sql", "role": "admin"}
    with commanding(site):
        assert SessionFilter.from_query(query).to_query() == query
        assert SessionFilter.from_query({}).to_query() == {}


def test_a_filter_is_shown_as_one_would_type_it(site: Site) -> None:
    typed = 'user:alice client:"chrome on windows" state:ended age:>8h smith'
    with commanding(site):
        where = SessionFilter.from_query({"q": typed})
        assert where.to_text() == typed
        assert SessionFilter.from_query(where.to_query()) == where


def test_idle_and_age_are_measured_by_the_databases_clock(any_site: Site) -> None:
    start(any_site, "alice")
    with clock_moved(1200):
        start(any_site, "bob")
        assert names(any_site, idle=">19m") == names(any_site, age="19m") == ["alice"]
        assert names(any_site, idle="<19m") == names(any_site, age="<19m") == ["bob"]
        assert names(any_site, idle=">21m") == []


@pytest.mark.parametrize("name", ["usr", "after", "user_id", "all_matching"])
def test_a_filter_that_does_not_exist_is_refused_not_ignored(site: Site, name: str) -> None:
    with commanding(site), pytest.raises(FilterError, match="There is no filter"):
        SessionFilter.from_query({name: "alice"})


@pytest.mark.parametrize("sort", SORTS)
def test_pages_follow_each_other_without_gap_or_double(make_site: MakeSite, sort: str) -> None:
    site = make_site(SESSION_LIMIT=100)
    references = start(site, *["alice"] * 25)
    seen: list[str] = []
    after = None
    with commanding(site):
        for _ in range(10):
            page = find(SessionFilter(), limit=10, after=after, sort=sort)
            seen += [row.reference for row in page.rows]
            assert (page.total, page.users) == (25, 1)
            after = page.next
            if after is None:
                break
    assert seen == references[::-1]


def test_pages_hold_together_while_people_sign_in(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT=100)
    old = start(site, *["alice"] * 10)
    with commanding(site):
        first = find(SessionFilter(), limit=5)
    start(site, *["bob"] * 5)
    with commanding(site):
        second = find(SessionFilter(), limit=5, after=first.next)
    assert {row.reference for row in (*first.rows, *second.rows)} == set(old)


@pytest.mark.parametrize("cursor", ["x", "!!!", "MjAyNg", "", "é", "a" * 1000])
def test_a_damaged_cursor_is_refused(site: Site, cursor: str) -> None:
    with commanding(site), pytest.raises(FilterError, match="damaged"):
        find(SessionFilter(), after=cursor)


@given(cursor=st.text(max_size=60))
def test_no_cursor_is_a_fault(cursor: str) -> None:
    from flask import Flask
    from flask_babel import Babel

    from app.sessions.search import _from_cursor

    app = Flask(__name__)
    Babel(app)
    with app.test_request_context():
        try:
            _from_cursor(cursor)
        except FilterError:
            return


def test_a_page_takes_two_statements_and_one_look_into_each_store(
    make_site: MakeSite, valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=100)
    start(site, *["alice"] * 20, *["vera"] * 20)
    with commanding(site), counted(site, valkey) as calls:
        page = find(SessionFilter())
    assert len(page.rows) == 40
    assert (len(calls.ledger), len(calls.sql_store)) == (2, 1)
    assert calls.redis == {"pttl": 20}


def test_data_that_its_store_has_lost_is_shown_as_lost(site: Site, valkey: RedisServer) -> None:
    start(site, "alice", "vera")
    with valkey.client() as client:
        client.flushall()
    with commanding(site):
        rows = {row.user: row for row in find(SessionFilter()).rows}
    assert (rows["alice"].present, rows["vera"].present) == (False, True)
    assert rows["alice"].ttl is None
    assert rows["vera"].ttl is not None
    assert rows["vera"].ttl > timedelta(minutes=14)


def test_a_silent_store_is_named_and_says_nothing_about_its_rows(
    site: Site, valkey: RedisServer
) -> None:
    start(site, "alice", "vera")
    valkey.kill()
    with commanding(site):
        page = find(SessionFilter())
    assert page.unavailable == ("redis",)
    assert {row.user: row.present for row in page.rows} == {"alice": None, "vera": True}


def test_a_users_sessions_are_the_live_ones_and_the_last_that_ended(any_site: Site) -> None:
    start(any_site, "alice", "alice", "alice", "bob")
    with commanding(any_site):
        live, ended = of_user(any_site.user_id("alice"), ended=1)
    assert len(live) == len(ended) == 1
    assert (live[0].state, ended[0].state) == ("live", "ended")
    assert ended[0].end_reason == "superseded"


def test_an_expired_session_is_not_live_before_the_worker_has_recorded_it(any_site: Site) -> None:
    start(any_site, "alice")
    reference = any_site.rows()[0].reference
    with clock_moved(1801):
        assert names(any_site) == []
        with commanding(any_site):
            row = get(reference)
    assert row is not None
    assert (row.state, row.ended_at) == ("ended", None)


def test_what_is_past_a_deadline_is_listed_as_overdue_until_a_worker_records_it(
    any_site: Site,
) -> None:
    start(any_site, "alice", "vera")
    vera = any_site.live("vera")[0].reference

    def overdue() -> list[str]:
        with commanding(any_site):
            page = find(SessionFilter(state="overdue"))
        assert page.total == len(page.rows)
        assert {row.state for row in page.rows} <= {"ended"}
        return [row.reference for row in page.rows]

    with clock_moved(1000):
        start(any_site, "bob")
        assert overdue() == [], "the worker has two minutes"
    with clock_moved(1021):
        assert overdue() == [vera], "a viewer's session ends after 900 seconds"
        with any_site.app.app_context():
            upkeep.run(any_site.system)
        assert overdue() == []


def test_what_is_overdue_cannot_be_revoked_for_it_is_not_live(any_site: Site) -> None:
    start(any_site, "alice")
    where = SessionFilter.from_query({"q": "state:overdue"})
    with clock_moved(1921), commanding(any_site):
        assert find(where).total == 1
        with pytest.raises(NothingToRevoke):
            freeze(Targets(matching=where), actor=Actor.cli("root"))


def test_a_count_leaves_out_what_is_past_a_deadline_or_denied_by_the_cutoff(
    any_site: Site,
) -> None:
    def totals() -> tuple[int, int]:
        with commanding(any_site):
            active = SessionFilter(status="active")
            found = [find(SessionFilter()), find(SessionFilter(store="redis")), find(active)]
        assert [page.total for page in found] == [len(page.rows) for page in found]
        return found[0].total, found[1].total

    start(any_site, "alice", "vera")
    assert totals() == (2, 1)
    with clock_moved(1000):
        start(any_site, "bob")
        assert totals() == (2, 2), "a viewer's session ends after 900 seconds"
    with clock_moved(1801):
        assert totals() == (1, 1)
        start(any_site, "alice")
        assert totals() == (2, 2)
        bob = any_site.live("bob")[0]
        with any_site.system.ledger.transaction() as tx:
            tx.connection.execute(insert(Cutoff).values(id=1, at=clock(), spared_id=bob.id))
    with clock_moved(1810):
        start(any_site, "ada")
        assert totals() == (2, 1)
        with any_site.system.ledger.transaction() as tx:
            tx.connection.execute(update(Cutoff).values(spared_id=None))
        assert totals() == (1, 0)


def test_an_ended_session_shows_who_ended_it_and_why(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    with commanding(any_site):
        revoke([alice], actor=Actor.cli("root"), reason="policy", note="why")
        row = get(alice)
    assert row is not None
    assert (row.end_reason, row.ended_by, row.reason_code, row.note, row.present) == (
        "revoked", "root", "policy", "why", False,
    )  # fmt: skip


_PEOPLE = ("alice", "bob", "vera")
_queries = st.fixed_dictionaries(
    {},
    optional={
        "user": st.sampled_from(_PEOPLE),
        "ip": st.sampled_from(["10.31.0.0/16", "10.31.4.8", "2001:db8::/32", "0.0.0.0/0"]),
        "store": st.sampled_from(["redis", "sql"]),
        "role": st.sampled_from(["member", "viewer"]),
        "client": st.sampled_from(["chrome", "linux", "opera"]),
        "idle": st.sampled_from([">1m", "<1m", ">1h"]),
        "age": st.sampled_from([">2m", "<2m"]),
        "flag": st.sampled_from(["any", "client", "network", "guessed", "lost", "limit"]),
        "q": st.sampled_from(
            ["al", "b 10.31.4.8", "role:member", "state:live", "store:sql idle:>1m"]
        ),
    },
)


@pytest.fixture
def long_day(any_site: Site) -> Site:
    for at, name, ip in (
        (0, "bob", "10.31.4.7"), (90, "alice", "192.0.2.10"), (100, "bob", "10.31.4.8"),
        (170, "vera", "2001:db8:1::7"),
    ):  # fmt: skip
        with clock_moved(at):
            any_site.signed_in(name, CHROME, ip)
    with clock_moved(180):
        any_site.signed_in("ada", CHROME, "203.0.113.1")
    return any_site


def test_list_count_export_and_revocation_mean_the_same_sessions(long_day: Site) -> None:
    """Every way to ask goes through the one predicate, whatever the filter."""

    @settings(max_examples=40)
    @given(query=_queries)
    def agree(query: dict[str, str]) -> None:
        with clock_moved(200), commanding(long_day):
            try:
                where = SessionFilter.from_query(query)
            except FilterError:
                return
            page = find(where)
            listed = {row.reference for row in page.rows}
            ids = {row.id for row in page.rows}
            assert page.total == len(listed)
            assert {row[0] for row in long_day.system.ledger.read(ids_matching(where))} == ids
            if where.narrows and ids:
                frozen = freeze(Targets(matching=where), actor=Actor.cli("root"))
                targets = long_day.system.ledger.read(
                    select(RevocationTarget.row_id).where(
                        RevocationTarget.revocation_id == frozen.id
                    )
                )
                assert {row.row_id for row in targets} == ids
                assert frozen.size == len(ids)

    agree()


def test_of_very_many_sessions_a_list_does_not_say_how_many_users_they_are(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = any_site.signed_in("ada")
    start(any_site, "alice", "bob")
    monkeypatch.setattr("app.sessions.search.MOST_OF_USERS", 2)
    monkeypatch.setattr("app.sessions.freeze.MOST_OF_USERS", 2)
    with commanding(any_site):
        page = find(SessionFilter())
        few = find(SessionFilter(store="redis"))
    assert (page.total, page.users) == (3, None)
    assert (few.total, few.users) == (2, 2)
    assert "3 signed-in sessions.<" in ada.get("/admin/sessions").text
    assert "2 signed-in sessions of 2 users." in ada.get("/admin/sessions?store=redis").text
    assert ada.get("/admin/sessions?format=json").json["total"] == 3  # type: ignore[index]
