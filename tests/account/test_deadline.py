"""The idle warning's server side: it says what is left, moves nothing, and one POST extends (S40)."""

from app.sessions.models import UserSession
from tests.site import Site, clock_moved, clock_stopped

JSON = {"Accept": "application/json"}


def left(person: object) -> dict[str, object]:
    return person.get("/account/deadline", headers={"X-Passive": "1"}).json  # type: ignore[attr-defined, no-any-return]


def test_asking_what_is_left_extends_nothing(site: Site) -> None:
    alice = site.signed_in("alice")
    (row,) = site.live("alice")
    with clock_moved(1000):
        body = left(alice)
        assert 790 <= body["left"] <= 800  # type: ignore[operator]
        assert body["last"] is False
        assert site.live("alice")[0].idle_expires_at == row.idle_expires_at


def test_staying_moves_the_deadline_and_says_so(site: Site) -> None:
    alice = site.signed_in("alice")
    with clock_moved(1700):
        form = {"csrf_token": alice.token("/account/password")}
    with clock_moved(1790):
        answer = alice.client.post(
            "/account/deadline", data=form, headers=JSON, follow_redirects=True
        )
        assert answer.json is not None
        assert answer.json["left"] > 1790


def test_a_session_at_its_longest_time_is_said_to_end_in_any_case(site: Site) -> None:
    alice = site.signed_in("alice")
    with site.system.ledger.transaction() as tx:
        row = site.live("alice")[0]
        tx.connection.execute(
            UserSession.__table__.update().values(absolute_expires_at=row.idle_expires_at)
        )
    assert left(alice)["last"] is True


def test_an_ended_session_is_told_so_and_keeps_its_cookie_for_the_page_with_the_reason(
    site: Site,
) -> None:
    alice = site.signed_in("alice")
    site.signed_in("alice")
    answer = alice.get("/account/deadline", headers={"X-Passive": "1"})
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (401, False)


def test_pages_of_people_who_are_signed_in_carry_the_warning_and_no_others(site: Site) -> None:
    with clock_stopped():
        page = site.signed_in("vera").get("/admin/").text
    assert 'data-left="900"' in page
    assert 'data-warn="120"' in page
    assert 'id="idle"' not in site.browser().get("/login").text
