"""The chips above the list: each number is that of the list to which its chip leads."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from urllib.parse import parse_qsl, urlsplit

import pytest

from app.admin.chips import Chip, chips
from app.sessions.facets import facets
from app.sessions.filter import SessionFilter
from app.sessions.search import count_of, find
from tests.sessions.test_revocation import commanding
from tests.site import CHROME, FIREFOX, Site, clock_moved

QUERIES = [
    {**store, **role, **more}
    for store, role, more in product(
        ({}, {"store": "redis"}),
        ({}, {"role": "member"}),
        (
            {}, {"status": "active"}, {"status": "idle", "client": "Firefox"}, {"state": "ended"},
            {"ip": "10.31.0.0/16", "client": "linux"},
        ),
    )
]  # fmt: skip


def gathered(site: Site) -> Iterator[Site]:
    """Bob about to expire, alice idle, vera and ada active; alice's first session was superseded."""
    for at, name, agent, ip in (
        (0, "bob", FIREFOX, "10.31.4.7"),
        (300, "alice", CHROME, "192.0.2.10"),
        (600, "alice", FIREFOX, "10.31.4.9"),
        (1600, "vera", "curl/8.5.0", "2001:db8::7"),
        (1700, "ada", CHROME, "203.0.113.1"),
    ):
        with clock_moved(at):
            site.signed_in(name, agent, ip)
    with clock_moved(1750):
        yield site


@pytest.fixture
def crowd(site: Site) -> Iterator[Site]:
    yield from gathered(site)


@pytest.fixture
def any_crowd(any_site: Site) -> Iterator[Site]:
    yield from gathered(any_site)


def shown(query: dict[str, str]) -> list[Chip]:
    where = SessionFilter.from_query(query)
    total = count_of(where)[0]
    return [chip for group in chips(where, total, facets(where, total)) for chip in group.chips]


def query_of(chip: Chip) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(chip.href).query))


def test_a_chip_s_number_is_that_of_its_list(
    any_crowd: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = 0
    counted = cache(lambda query: count_of(SessionFilter.from_query(dict(query)))[0])
    with commanding(any_crowd):
        for most, query in product((10_000, 0), QUERIES):
            monkeypatch.setattr("app.sessions.facets.MOST_COUNTED", most)
            for chip in shown(query):
                if chip.count is None:
                    continue
                numbers += 1
                leads_to = query_of(chip) | (query if chip.removes else {})
                assert chip.count == counted(frozenset(leads_to.items())), (query, chip)
    assert numbers > 80


def test_a_status_in_the_filter_is_the_one_that_the_row_shows(any_crowd: Site) -> None:
    with commanding(any_crowd):
        rows = find(SessionFilter()).rows
        found = {
            status: {row.user for row in find(SessionFilter(status=status)).rows}
            for status in ("active", "idle", "expiring")
        }
    assert found == {"active": {"vera", "ada"}, "idle": {"alice"}, "expiring": {"bob"}}
    assert {row.user: row.status for row in rows} == {
        name: status for status, names in found.items() for name in names
    }


def test_a_chip_adds_its_token_to_the_search_and_the_chosen_one_takes_it_out(crowd: Site) -> None:
    with commanding(crowd):
        found = {chip.label: chip for chip in shown({"role": "member", "q": "al"})}
        assert query_of(found["Redis"]) == {"role": "member", "q": "al", "store": "redis"}
        assert query_of(found["member"]) == {"q": "al"}
        assert found["member"].removes
        assert "auditor" not in found
        of_ended = {chip.label: chip for chip in shown({"state": "ended", "reason": "superseded"})}
        led = {
            chip.label: chip
            for group in chips(SessionFilter(), 0, {}, {"sort": "signed_in"})
            for chip in group.chips
        }
    assert query_of(led["Ended"]) == {"state": "ended"}
    assert query_of(of_ended["Signed in now"]) == {}
    assert "Active" not in of_ended


def test_of_very_many_sessions_only_the_status_is_counted_and_the_page_says_so(
    crowd: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    vera = crowd.signed_in("vera")
    said = "Stores, roles and clients are counted up to"
    assert said not in vera.get("/admin/sessions").text
    monkeypatch.setattr("app.sessions.facets.MOST_COUNTED", 1)
    page = vera.get("/admin/sessions").text
    assert said in page
    assert ">member</a>" in page
    assert "Active <span>2</span></a>" in page
