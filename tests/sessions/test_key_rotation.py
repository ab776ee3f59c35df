"""A new SECRET_KEY signs nobody out, and with the old one as a fallback it spoils no form."""

from collections.abc import Callable

from flask import session

from tests.sessions.helpers import add_view, with_cookie
from tests.site import Site

OLD = "an-earlier-key-0123456789abcdef01234567"
MakeSite = Callable[..., Site]


def shelf(site: Site) -> Site:
    def put() -> str:
        session["fruit"] = "pear"
        return "kept"

    add_view(site, "/put", put)
    add_view(site, "/take", lambda: str(session.get("fruit")))
    return site


def test_a_session_does_not_depend_on_the_key(make_site: MakeSite) -> None:
    old, new = shelf(make_site(SECRET_KEY=OLD)), shelf(make_site())
    browser = old.signed_in("alice")
    browser.get("/put")
    moved = with_cookie(new, browser.cookie or "")
    assert moved.get("/take").text == "pear"
    assert moved.is_signed_in()


def test_a_visitors_data_is_read_with_the_fallback_and_written_with_the_new_key(
    make_site: MakeSite,
) -> None:
    old = shelf(make_site(SECRET_KEY=OLD))
    new = shelf(make_site(SECRET_KEY_FALLBACKS=(OLD,)))
    later = shelf(make_site())
    browser = old.browser()
    browser.get("/put")
    held = browser.client.get_cookie("visitor")
    assert held is not None
    assert with_cookie(new, held.value, "visitor").get("/take").text == "pear"
    assert with_cookie(later, held.value, "visitor").get("/take").text == "None"
    rewriting = with_cookie(new, held.value, "visitor")
    rewriting.get("/put")
    written = rewriting.client.get_cookie("visitor")
    assert written is not None
    assert with_cookie(later, written.value, "visitor").get("/take").text == "pear"


def test_a_form_of_the_old_key_is_taken_while_it_is_a_fallback(make_site: MakeSite) -> None:
    old, new = make_site(SECRET_KEY=OLD), make_site(SECRET_KEY_FALLBACKS=(OLD,))
    browser = old.signed_in("alice")
    token = browser.token("/account/password")
    moved = with_cookie(new, browser.cookie or "")
    values = {"csrf_token": token, "note": "milk"}
    assert moved.client.post("/", data=values).status_code == 303
    gone = with_cookie(make_site(), browser.cookie or "")
    assert gone.client.post("/", data=values).status_code == 400
