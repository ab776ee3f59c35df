"""The console stays empty on every page, for everybody: see `people.Console` for what counts."""

import pytest

from app.people.models import Role
from tests.browser.pages import PageOfSite, furnish, pages_of, roles
from tests.browser.people import People
from tests.browser.serving import Served

pytestmark = pytest.mark.admin

PEOPLE = {"visitor": None, **roles()}


def expected_status(page: PageOfSite, role: str) -> set[int]:
    """What a role gets, after redirects: a visitor the sign-in page, the unpermitted a 403."""
    if role == "visitor" or page.rule is None or Role(role).may(page.rule):
        # Some changes are an administrator's alone; who is disabled can only be enabled.
        if page.endpoint == "admin.users.change":
            return {200, 403, 404}
        return {200, 404} if page.endpoint == "account.confirm_not_mine" else {200}
    return {403}


@pytest.mark.parametrize("role", PEOPLE)
def test_the_console_stays_empty_on_every_page(people: People, served: Served, role: str) -> None:
    values = furnish(served.site)
    name = PEOPLE[role]
    person = people.at_browser("") if name is None else people.signed_in(name)

    pages = pages_of(served.site.app, values)
    statuses = {page.path: (person.open(page.path).status, page) for page in pages}

    assert len(pages) >= 26
    wrong = {
        path: status
        for path, (status, page) in statuses.items()
        if status not in expected_status(page, role)
    }
    assert wrong == {}


def test_the_console_stays_empty_where_something_is_wrong(people: People) -> None:
    ops = people.signed_in("ops")

    statuses = {
        path: ops.open(path).status
        for path in (
            "/nothing/here",
            "/admin/sessions/0000000000",
            "/admin/sessions?ip=no.address",
            "/admin/sessions?colour=red",
            "/admin/users?role=king",
            "/admin/revocations/999999",
            "/logout",
        )
    }

    assert list(statuses.values()) == [404, 404, 400, 400, 400, 404, 405]


def test_a_script_that_the_page_does_not_serve_is_noticed(people: People) -> None:
    """Show that the watch on the console works: an inline script breaks the policy."""
    alice = people.signed_in("alice")

    with alice.page.expect_console_message(lambda said: said.text.startswith("CSP:")):
        alice.page.evaluate(
            "() => document.body.append(Object.assign(document.createElement('img'),"
            " {src: 'https://elsewhere.example/pixel.png'}))"
        )

    assert any("CSP: img-src" in finding for finding in people.console.findings)
    people.console.forget()
