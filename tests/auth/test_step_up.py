"""The password again before what is grave: a new id, and nothing happens without it."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from app.audit.trail import Actor
from app.sessions.revocation import revoke
from tests.sessions.helpers import reference_of, with_cookie
from tests.sessions.test_revocation import start
from tests.site import PASSWORD, Browser, Site, clock_moved, clock_stopped

LATER = 601


def step_up(browser: Browser, password: str = PASSWORD, **more: str) -> int:
    return browser.post("/reauth", {"password": password, **more}).status_code


@pytest.mark.admin
def test_a_fresh_sign_in_counts_as_a_step_up(site: Site) -> None:
    ada = site.signed_in("ada")
    assert ada.get("/admin/users/new").status_code == 200


@pytest.mark.admin
def test_step_up_holds_for_ten_minutes(site: Site) -> None:
    with clock_stopped():
        ada = site.signed_in("ada")
        with clock_moved(599):
            assert ada.get("/admin/users/new").status_code == 200
    with clock_moved(LATER):
        response = ada.get("/admin/users/new")
        assert (response.status_code, response.location) == (303, "/reauth?next=/admin/users/new")
        assert step_up(ada) == 303
        assert ada.get("/admin/users/new").status_code == 200
    with clock_moved(LATER + 590):
        assert ada.get("/admin/users/new").status_code == 200


@pytest.mark.admin
def test_step_up_leads_back_to_what_asked_for_it(site: Site) -> None:
    ada = site.signed_in("ada")
    with clock_moved(LATER):
        led = ada.get("/admin/users/2/role").location
        response = ada.post(led, {"password": PASSWORD, "next": "/admin/users/2/role"})
        assert response.location == "/admin/users/2/role"


@pytest.mark.parametrize(
    "url", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_step_up_never_leads_to_another_site(site: Site, url: str) -> None:
    alice = site.signed_in("alice")
    assert alice.post("/reauth", {"password": PASSWORD, "next": url}).location == "/"


def test_step_up_makes_a_new_id_and_keeps_the_data_and_the_deadline(any_site: Site) -> None:
    alice = any_site.signed_in("alice")
    alice.post("/", {"note": "milk"})
    (before,) = any_site.live("alice")
    old = alice.cookie
    assert step_up(alice) == 303
    (after,) = any_site.live("alice")
    assert alice.cookie != old
    assert after.stepped_up_at > before.stepped_up_at
    assert after.absolute_expires_at == before.absolute_expires_at
    assert "milk" in alice.get("/").text
    assert not with_cookie(any_site, old or "").is_signed_in()
    (event,) = any_site.events("session.stepped_up")
    assert (event.actor_name, event.reference) == ("alice", before.reference)


@pytest.mark.admin
def test_a_wrong_password_steps_nobody_up_and_is_recorded(site: Site) -> None:
    ada = site.signed_in("ada")
    old = ada.cookie
    with clock_moved(LATER):
        response = ada.post("/reauth", {"password": "wrong"})
        assert response.status_code == 422
        assert "The password is wrong" in response.text
        assert ada.cookie == old
        assert ada.get("/admin/users/new").status_code == 303
    (event,) = site.events("session.step_up_failed")
    assert (event.actor_name, event.target_name, event.result) == ("ada", "ada", "failed")


def test_nobody_steps_up_with_another_persons_password(site: Site) -> None:
    from app.auth.changes import reset_password
    from tests.sessions.test_revocation import CLI, commanding

    with commanding(site):
        reset_password(site.user_id("bob"), "a very uncommon sentence", actor=CLI)
    alice = site.signed_in("alice")
    assert step_up(alice, "a very uncommon sentence") == 422


def test_a_visitor_is_asked_to_sign_in_instead(site: Site) -> None:
    assert site.browser().get("/reauth").location.startswith("/login")


def grave(site: Site, browser: Browser) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the grave changes of section 8: where they are posted, and what."""
    user = site.user_id("alice")
    return {
        "creating people": (
            "/admin/users/new",
            {"username": "eve", "role": "member", "password": "a very uncommon sentence"},
        ),
        "a role": (f"/admin/users/{user}/role", {"role": "viewer"}),
        "disabling": (f"/admin/users/{user}/disable", {}),
        "enabling": (f"/admin/users/{site.user_id('bob')}/enable", {}),
        "resetting a password": (
            f"/admin/users/{user}/password",
            {"password": "a very uncommon sentence"},
        ),
        "requiring a password": (f"/admin/users/{user}/require", {}),
        "one's own other sessions": ("/account/sessions/end-others", {}),
        "one of one's own sessions": (
            f"/account/sessions/{reference_of(site, 'alice')}/end",
            {},
        ),
    }


@pytest.mark.admin
@pytest.mark.parametrize(
    "change",
    [
        "creating people",
        "a role",
        "disabling",
        "enabling",
        "resetting a password",
        "requiring a password",
        "one's own other sessions",
        "one of one's own sessions",
    ],
)
def test_a_grave_change_with_a_stale_step_up_has_no_effect_and_is_recorded(
    make_site: Callable[..., Site], change: str
) -> None:
    from app.auth.changes import disable_user
    from tests.sessions.test_revocation import CLI, commanding

    site = make_site(SESSION_LIMIT=5)
    with commanding(site):
        disable_user(site.user_id("bob"), actor=CLI)
    start(site, "alice")
    ada = site.signed_in("ada")
    path, values = grave(site, ada)[change]
    before = people_and_sessions(site)
    with clock_moved(LATER):
        values["csrf_token"] = ada.token("/account/password")
        response = ada.client.post(path, data=values)
    assert response.status_code == 303
    assert response.location.startswith("/reauth")
    assert people_and_sessions(site) == before
    (event,) = site.events("session.step_up_required")
    assert (event.actor_name, event.result) == ("ada", "refused")


def people_and_sessions(site: Site) -> list[object]:
    return [
        [tuple(row) for row in site.system.ledger.read(text(statement))]
        for statement in (
            "SELECT id, name, role, active, password_hash FROM users ORDER BY id",
            "SELECT id, ended_at FROM user_sessions ORDER BY id",
        )
    ]


@pytest.mark.admin
def test_confirming_a_grave_revocation_with_a_stale_step_up_ends_nobody(site: Site) -> None:
    ada, vera = site.signed_in("ada"), site.signed_in("vera")
    reference = reference_of(site, "vera")
    with clock_moved(500):
        page = f"/admin/sessions/{reference}"
        review = ada.post("/admin/revocations", {"reference": reference}, form=page).location
        token = ada.token(review)
    with clock_moved(700):
        values = {"csrf_token": token, "reason": "incident", "count": "1"}
        response = ada.client.post(review, data=values)
        assert response.location.startswith("/reauth")
        assert vera.is_signed_in()
        assert step_up(ada) == 303
        assert ada.post(review, {"reason": "incident", "count": "1"}).status_code == 303
        assert not vera.is_signed_in()


@pytest.mark.admin
def test_a_program_is_told_to_step_up(site: Site) -> None:
    ada = site.signed_in("ada")
    with clock_moved(LATER):
        response = ada.get("/admin/users/new", headers={"Accept": "application/json"})
    assert response.status_code == 403
    assert response.json is not None
    assert response.json["error"] == "step_up"


def test_without_its_event_there_is_no_step_up(any_site: Site) -> None:
    alice = any_site.signed_in("alice")
    token = alice.token("/reauth")
    (before,) = any_site.live("alice")
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    with pytest.raises(Exception, match="audit_events"):
        alice.client.post("/reauth", data={"csrf_token": token, "password": PASSWORD})
    (after,) = any_site.live("alice")
    assert (after.handle, after.stepped_up_at) == (before.handle, before.stepped_up_at)
    assert alice.is_signed_in()


def test_an_id_that_was_regenerated_meanwhile_cannot_take_the_session_over(site: Site) -> None:
    """Two browsers hold one id; the owner's step-up ends between the thief's check and update."""
    owner = site.signed_in("ada")
    thief = with_cookie(site, owner.cookie)
    token = thief.token("/reauth")

    def steps_up_first(*_: object) -> bool:
        assert step_up(owner) == 303
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.auth.sign_in.verify_password", _once(steps_up_first))
        answer = thief.client.post("/reauth", data={"csrf_token": token, "password": PASSWORD})
    assert answer.status_code == 303
    assert "session=" not in " ".join(answer.headers.getlist("Set-Cookie"))
    assert not thief.is_signed_in()
    assert owner.is_signed_in()


def test_a_revocation_while_the_password_is_checked_is_told_not_a_fault(any_site: Site) -> None:
    vera = any_site.signed_in("vera")
    token = vera.token("/reauth")

    def is_revoked_first(*_: object) -> bool:
        revoke([reference_of(any_site, "vera")], actor=Actor.cli("root"), reason="incident")
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.auth.sign_in.verify_password", _once(is_revoked_first))
        answer = vera.client.post("/reauth", data={"csrf_token": token, "password": PASSWORD})
    assert answer.status_code == 401
    assert "An administrator ended this session" in answer.text


def _once(first: Callable[..., bool]) -> Callable[..., bool]:
    """Do something during the first check of a password; later ones are right without more ado."""
    calls: list[bool] = []

    def verify(*args: object) -> bool:
        calls.append(True)
        return first(*args) if len(calls) == 1 else True

    return verify
