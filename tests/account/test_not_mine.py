"""A session that its user does not recognise: one action ends it and leads on to a new password."""

from collections.abc import Callable

from tests.site import PASSWORD, Site, clock_moved


def test_what_one_does_not_recognise_is_signed_out_and_leads_to_a_new_password(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_LIMIT=2)
    thief = site.signed_in("alice", ip="192.0.2.66")
    (stolen,) = site.live("alice")
    alice = site.signed_in("alice")
    path = f"/account/sessions/{stolen.reference}/not-mine"
    assert f'href="{path}"' in alice.get("/account/sessions").text
    with clock_moved(601):
        led = alice.get(path)
        assert led.location == f"/reauth?next={path}"
        assert alice.post(path, form="/account/sessions").location == f"/reauth?next={path}"
        assert len(site.live("alice")) == 2
        alice.post(led.location, {"password": PASSWORD, "next": path})
        asked = alice.get(path).text
        assert "192.0.2.66" in asked
        assert "Then you choose a new password, which signs out all your other sessions." in asked
        assert alice.post(path).location == "/account/password"
        assert "That session is signed out. Now change your password." in (
            alice.get("/account/password").text
        )
        assert not thief.is_signed_in()
        assert alice.is_signed_in()
        ended = alice.get(path).text
        assert "It has ended already. Choose a new password" in ended
        assert "Sign it out" not in ended


def test_only_one_s_own_other_sessions_can_be_not_mine(site: Site) -> None:
    site.signed_in("bob")
    alice = site.signed_in("alice")
    for name in ("alice", "bob"):
        (row,) = site.live(name)
        path = f"/account/sessions/{row.reference}/not-mine"
        assert alice.get(path).status_code == 404
        assert alice.post(path, form="/account/sessions").status_code == 404
        assert len(site.live(name)) == 1
