"""The page of one user: the sign-ins of the last days, and the sessions against the limit."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.sessions.test_revocation import start
from tests.site import Site, clock_moved

DAY = 86400


@contextmanager
def at_noon(site: Site) -> Iterator[None]:
    """Let it be noon for the block: no day begins between a sign-in and the page."""
    now = site.system.ledger.now()
    with clock_moved(DAY / 2 - 3600 * now.hour - 60 * now.minute - now.second):
        yield


def by_day(page: str) -> list[str]:
    """Return what the table behind the chart has for each day, the oldest first."""
    table = page.partition("Show as table")[2].partition("</table>")[0]
    return re.findall(r'<td class="number">(?:<span[^>]*>)?([^<]*)<', table)


def test_a_user_s_sign_ins_of_thirty_days_are_drawn_with_a_table_behind(any_site: Site) -> None:
    site = any_site
    with at_noon(site):
        for days, name in ((-31, "alice"), (-29, "alice"), (-1, "alice"), (0, "alice"), (0, "bob")):
            with clock_moved(days * DAY):
                site.signed_in(name)
        site.browser().sign_in("alice", "a wrong password")
        site.signed_in("alice")
        page = site.signed_in("vera").get(f"/admin/users/{site.user_id('alice')}").text
    assert "Sign-ins, last 30 days" in page
    assert by_day(page) == ["1", *["0"] * 27, "1", "2"]
    assert re.search(r"<title>\d+ \w+, Sign-ins 2</title>", page)


def test_days_of_which_the_trail_keeps_no_more_are_not_zero(make_site: Callable[..., Site]) -> None:
    site = make_site(AUDIT_RETENTION_DAYS=7)
    with at_noon(site):
        page = site.signed_in("vera").get(f"/admin/users/{site.user_id('vera')}").text
    assert by_day(page) == [*["no sample"] * 23, *["0"] * 6, "1"]


def test_more_sessions_than_the_limit_allows_are_marked(make_site: Callable[..., Site]) -> None:
    start(make_site(SESSION_LIMIT=3), "alice", "alice", "bob")
    site = make_site()
    vera = site.signed_in("vera")
    marked = '<span class="status warning"><span>2 of 1 allowed'
    assert marked in vera.get(f"/admin/users/{site.user_id('alice')}").text
    assert "<dd>1 of 1 allowed</dd>" in vera.get(f"/admin/users/{site.user_id('bob')}").text
