"""The sign-in page tells a person why the session ended, once; what is no person does not use that up."""

import pytest

from tests.site import Site

HTML = {"Accept": "text/html"}


def test_the_page_that_tells_the_reason_deletes_the_cookie(site: Site) -> None:
    old = site.signed_in("alice")
    site.signed_in("alice")
    page = old.get("/login", headers=HTML)
    assert "You signed in from" in page.text
    assert "If that was not you" in page.text
    assert old.cookie is None
    assert "You signed in from" not in old.get("/login", headers=HTML).text


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", HTML),
        ("GET", {**HTML, "X-Passive": "1"}),
        ("GET", {"Accept": "application/json"}),
        ("POST", {**HTML, "X-Passive": "1"}),
        ("POST", {"Accept": "application/json"}),
    ],
)
def test_what_no_person_sees_leaves_the_cookie_and_its_reason(
    site: Site, method: str, headers: dict[str, str]
) -> None:
    old = site.signed_in("alice")
    site.signed_in("alice")
    form = {"csrf_token": site.browser().token("/login")} if method == "POST" else None
    response = old.client.open("/login", method=method, headers=headers, data=form)
    assert "Set-Cookie" not in response.headers
    assert "You signed in from" in old.get("/login", headers=HTML).text
