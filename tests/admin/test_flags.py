"""What needs a look: each flag says what was seen, and is not raised for less."""

from collections.abc import Callable

import pytest
from sqlalchemy import insert, update

from app.columns import clock
from app.sessions.clients import ip_key
from app.sessions.filter import FilterError, SessionFilter
from app.sessions.models import Cutoff, UserSession
from app.sessions.search import find
from app.sessions.store import DataKey
from tests.sessions.test_revocation import commanding, start
from tests.site import CHROME, FIREFOX, Browser, Site, clock_moved

pytestmark = pytest.mark.admin

LATER = 61


def flagged(site: Site, flag: str = "any") -> list[str]:
    """Return whose live sessions have a flag."""
    with commanding(site):
        return sorted(row.user for row in find(SessionFilter(flag=flag)).rows)


def seen(site: Site, name: str, staff: Browser | None = None) -> str:
    """Return the page of somebody's session."""
    (row,) = site.live(name)
    return (staff or site.signed_in("ada")).get(f"/admin/sessions/{row.reference}").text


def move(site: Site, browser: Browser, *, ip: str = "", user_agent: str = "") -> None:
    """Use a session from elsewhere, after the time at which activity is recorded again."""
    new = {"REMOTE_ADDR": ip, "HTTP_USER_AGENT": user_agent}
    base = browser.client.environ_base
    browser.client.environ_base = {**base, **{name: v for name, v in new.items() if v}}
    with clock_moved(LATER):
        assert browser.is_signed_in()


def test_another_client_within_a_session_is_flagged_with_both(site: Site) -> None:
    alice = site.signed_in("alice", FIREFOX)
    bob = site.signed_in("bob", FIREFOX)
    move(site, bob, user_agent=FIREFOX.replace("X11", "Wayland"))
    assert flagged(site) == [], "the same browser in other words is no other client"
    move(site, alice, user_agent=CHROME)
    assert flagged(site) == flagged(site, "client") == ["alice"]
    ada = site.signed_in("ada")
    page = seen(site, "alice", ada)
    assert "Client changed." in page
    assert "It began with Firefox 140 on Linux and now has Chrome 149 on Windows." in page
    assert "Client changed<" in ada.get("/admin/sessions").text
    assert "Client changed." not in seen(site, "bob", ada)


def test_another_network_is_flagged_and_another_address_of_it_is_not(any_site: Site) -> None:
    start(any_site, "alice")
    for first, last, is_flagged in (
        ("10.31.4.7", "10.31.200.9", False),
        ("10.31.4.7", "10.32.4.7", True),
        ("2001:db8:1::7", "2001:db8:2::9", False),
        ("2001:db8:1::7", "2001:db9:1::7", True),
        ("10.31.4.7", "2001:db8:1::7", False),
    ):
        values = {"first_ip": first, "first_ip_key": ip_key(first), "moved": True}
        values |= {"ip": last, "ip_key": ip_key(last)}
        with any_site.system.ledger.transaction() as tx:
            tx.connection.execute(update(UserSession).values(values))
        expected = ["alice"] if is_flagged else []
        assert flagged(any_site) == flagged(any_site, "network") == expected, (first, last)


def test_the_flag_of_a_network_names_both_addresses(site: Site) -> None:
    move(site, site.signed_in("alice", ip="10.31.4.7"), ip="192.0.2.10")
    assert "It began at 10.31.4.7 and is now used from 192.0.2.10" in seen(site, "alice")


def test_what_was_not_recorded_is_no_flag(site: Site) -> None:
    """A session that began before its first network was kept."""
    move(site, site.signed_in("alice", ip="10.31.4.7"), ip="192.0.2.10")
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(UserSession).values(first_ip_key=None))
    assert flagged(site) == []


def fail(site: Site, times: int, ip: str = "203.0.113.9") -> None:
    for _ in range(times):
        response = site.browser(ip=ip).post("/login", {"username": "alice", "password": "wrong"})
        assert response.status_code == 422


def test_many_failed_sign_ins_just_before_are_flagged_with_their_number(site: Site) -> None:
    with clock_moved(-16 * 60):
        fail(site, 3)
    fail(site, 4)
    alice = site.signed_in("alice")
    assert flagged(site) == [], "four are not many, and three were too long before"
    alice.sign_out()
    fail(site, 1, "198.51.100.9")
    site.signed_in("alice")
    assert flagged(site) == flagged(site, "guessed") == ["alice"]
    ada = site.signed_in("ada")
    assert "5 sign-ins of this user failed in the 15 minutes before" in seen(site, "alice", ada)
    assert "5 failed before" in ada.get("/admin/sessions?q=flag:guessed").text
    assert site.live("ada")[0].failed_before == 0


def test_what_its_store_has_lost_is_flagged_with_the_time_of_the_look(site: Site) -> None:
    start(site, "alice", "bob")
    with site.system.ledger.transaction() as tx:
        of = UserSession.user_id == site.user_id("alice")
        tx.connection.execute(update(UserSession).where(of).values(missing_since=clock()))
    assert flagged(site) == flagged(site, "lost") == ["alice"]
    ada = site.signed_in("ada")
    assert "Redis did not have its data when the worker looked at" in seen(site, "alice", ada)
    assert "badge look" in ada.get("/admin/sessions?user=alice").text
    (row,) = site.live("alice")
    site.system.stores[row.store].delete([DataKey(row.data_key)])
    listed = ada.get("/admin/sessions?user=alice").text
    assert "status lost" in listed
    assert "badge look" not in listed, "the status says it already"


def test_several_flags_are_one_badge(site: Site) -> None:
    move(site, site.signed_in("alice"), ip="192.0.2.10", user_agent=CHROME)
    listed = site.signed_in("ada").get("/admin/sessions?user=alice").text
    assert listed.count("badge look") == 1
    assert "<span>Client changed · Network changed</span>" in listed


def test_sessions_over_a_lowered_limit_are_flagged_with_both_numbers(
    make_site: Callable[..., Site],
) -> None:
    start(make_site(SESSION_LIMIT=3), "alice", "alice", "alice", "bob")
    site = make_site()
    assert flagged(site, "limit") == ["alice"] * 3
    assert flagged(site) == []
    ada = site.signed_in("ada")
    page = ada.get(f"/admin/sessions/{site.live('alice')[0].reference}").text
    assert "alice has 3 live sessions, and the limit is 1: it was lowered." in page
    assert "3 sessions of 1" in ada.get("/admin/sessions").text
    assert 'href="/admin/sessions?flag=limit"' in ada.get("/admin/").text


def test_one_past_its_deadline_that_nobody_recorded_is_told_on_its_page(site: Site) -> None:
    start(site, "alice")
    with clock_moved(1801):
        assert "no worker has recorded it" not in seen(site, "alice"), "the worker has two minutes"
    with clock_moved(1921):
        assert "no worker has recorded it" in seen(site, "alice")
        assert flagged(site) == []


def test_one_that_everyone_s_revocation_denies_before_its_row_ends_is_not_past_its_deadline(
    site: Site,
) -> None:
    site.signed_in("alice")
    (row,) = site.live("alice")
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(insert(Cutoff).values(id=1, at=clock()))
    page = site.signed_in("ada").get(f"/admin/sessions/{row.reference}").text
    assert "Not signed in any more: everyone was signed out." in page
    assert "Signed out with everyone" in page
    assert "past its deadline" not in page.casefold()
    assert "<dt>When</dt>" not in page


def test_the_overviews_figure_is_the_length_of_the_list_that_it_leads_to(site: Site) -> None:
    move(site, site.signed_in("alice"), user_agent=CHROME)
    move(site, site.signed_in("bob"), ip="192.0.2.10")
    ada = site.signed_in("ada")
    page = ada.get("/admin/").text
    assert "2 sessions need a look." in page
    assert 'href="/admin/sessions?flag=any"' in page
    body, listed = (
        ada.get("/admin/?format=json").json,
        ada.get("/admin/sessions?flag=any&format=json"),
    )
    assert body is not None
    assert listed.json is not None
    assert body["need_a_look"] == listed.json["total"] == 2


def test_ended_sessions_have_no_flags_and_an_unknown_flag_is_refused(site: Site) -> None:
    alice = site.signed_in("alice")
    move(site, alice, user_agent=CHROME)
    alice.sign_out()
    assert flagged(site) == []
    with commanding(site):
        for query in ({"flag": "odd"}, {"flag": "any", "state": "ended"}):
            with pytest.raises(FilterError) as error:
                SessionFilter.from_query(query)
            assert error.value.field == "flag"
