"""A new password is required: sessions end, and the next sign-in leads to choosing one, nowhere else."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from app.auth.changes import ChangeRefused, require_new_password
from app.people.models import Permission
from app.sessions.freeze import Targets, freeze
from app.sessions.revocation import revoke
from tests.auth.test_password_change import change
from tests.browser.pages import pages_of
from tests.sessions.helpers import counted
from tests.sessions.test_revocation import CLI, commanding, start
from tests.site import PASSWORD, Browser, Site

NEW = "a very uncommon sentence"
PAGE = "/account/password"


def require(site: Site, *names: str) -> None:
    """Require a new password as the command does."""
    with commanding(site):
        for name in names:
            require_new_password(site.user_id(name), actor=CLI)


def required(site: Site) -> list[str]:
    """Return of whom a new password is required."""
    query = text("SELECT name FROM users WHERE new_password_required ORDER BY name")
    return [row.name for row in site.system.ledger.read(query)]


@pytest.mark.admin
def test_requiring_one_ends_all_sessions_and_is_recorded(site: Site) -> None:
    alice, ada = site.signed_in("alice"), site.signed_in("ada")
    user = f"/admin/users/{site.user_id('alice')}"
    assert ada.post(f"{user}/require").location == user
    assert "A new password is required." in ada.get(user).text
    assert required(site) == ["alice"]
    assert not alice.is_signed_in()
    (event,) = site.events("user.password_required")
    assert (event.actor_name, event.target_name) == ("ada", "alice")
    (ended,) = site.rows(text("end_reason = 'revoked'"))
    assert (ended.name, ended.ended_by) == ("alice", "ada")
    assert "New password required" in ada.get("/admin/").text
    assert ada.get(f"{user}/require").status_code == 404
    with commanding(site), pytest.raises(ChangeRefused, match="already"):
        require_new_password(site.user_id("alice"), actor=CLI)


@pytest.mark.admin
def test_every_page_leads_to_the_new_password_until_it_is_chosen(site: Site) -> None:
    require(site, "ada")
    ada = site.browser()
    assert ada.post("/login", {"username": "ada", "password": PASSWORD}).status_code == 303
    values: dict[str, list[object]] = {
        "reference": ["7k3m9q2xva"], "user_id": [1], "revocation_id": [1], "action": ["role"], "store": ["sql"]
    }  # fmt: skip
    pages = [page.path for page in pages_of(site.app, values) if page.rule is not None]
    assert len(pages) > 10
    for path in {*pages, "/"} - {PAGE}:
        assert ada.get(path).location == PAGE, path
    token = ada.token(PAGE)
    for path in ("/", "/reauth", "/admin/revocations", "/account/sessions/end-others"):
        answer = ada.client.post(path, data={"csrf_token": token, "password": PASSWORD})
        assert answer.location == PAGE, path
    page = ada.get(PAGE).text
    assert "An administrator requires a new password of you." in page
    assert "/admin/" not in page
    assert change(ada, new=NEW).location == "/account/sessions"
    assert ada.get("/admin/").status_code == 200
    assert required(site) == []
    assert "requires a new password" not in ada.get(PAGE).text


def test_every_rule_of_the_site_is_held_but_for_the_pages_that_are_needed(site: Site) -> None:
    """A view that somebody adds is closed unless it says otherwise."""
    views = site.app.view_functions
    opened = {name for name, view in views.items() if hasattr(view, "before_new_password")}
    assert opened == {
        "account.password", "account.change_password", "account.deadline", "account.stay"
    }  # fmt: skip
    assert all(views[name].rule is Permission.OWN for name in opened)  # type: ignore[attr-defined]


@pytest.mark.admin
def test_a_program_is_told_in_json(site: Site) -> None:
    require(site, "ada")
    ada = site.browser()
    ada.sign_in("ada")
    for path in ("/admin/sessions?format=json", "/account/sessions?format=json"):
        answer = ada.get(path)
        assert answer.status_code == 403
        assert answer.json is not None
        assert answer.json["error"] == "new_password_required"


def test_signing_out_and_staying_signed_in_work_meanwhile(site: Site) -> None:
    require(site, "alice")
    alice = site.browser()
    alice.sign_in("alice")
    assert alice.get("/account/deadline").json is not None
    assert alice.post("/account/deadline", form=PAGE).location == "/account/deadline?format=json"
    assert alice.post("/logout", form=PAGE).location == "/login?signed_out=1"
    assert site.live("alice") == []
    assert required(site) == ["alice"]


def test_the_old_password_is_no_new_one(site: Site) -> None:
    require(site, "alice")
    alice = site.browser()
    alice.sign_in("alice")
    refused = change(alice, new=PASSWORD)
    assert refused.status_code == 422
    assert "This is your current password." in refused.text
    assert required(site) == ["alice"]


def test_a_session_that_began_meanwhile_is_held_too(site: Site) -> None:
    """The requirement is read at every request, not kept in the session."""
    alice = site.signed_in("alice")
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(text("UPDATE users SET new_password_required = 1"))
    assert alice.get("/").location == PAGE


def test_who_is_signed_in_still_takes_one_statement(site: Site) -> None:
    alice = site.signed_in("alice")
    alice.get("/account/sessions")
    with counted(site) as calls:
        alice.get("/account/deadline")
    assert len(calls.ledger) == 1
    assert "new_password_required" in calls.ledger[0]


@pytest.mark.admin
def test_a_reset_by_an_administrator_does_not_lift_it(site: Site) -> None:
    require(site, "alice")
    ada = site.signed_in("ada")
    ada.post(f"/admin/users/{site.user_id('alice')}/password", {"password": NEW})
    assert required(site) == ["alice"]


def review(site: Site, ada: Browser, *names: str) -> str:
    """Freeze these people's sessions and return the review's address."""
    chosen = [row.reference for name in names for row in site.live(name)]
    frozen = ada.post("/admin/revocations", {"reference": chosen}, form="/account/password")
    assert frozen.location is not None
    return frozen.location


@pytest.mark.admin
def test_a_revocation_with_the_box_requires_one_of_everybody_in_it_but_oneself(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_LIMIT=2, SESSION_LIMIT_BY_ROLE={"admin": 2})
    start(site, "alice", "bob", "ada")
    ada = site.signed_in("ada")
    page = review(site, ada, "alice", "bob", "ada")
    values = {"reason": "incident", "count": "3", "new_password": "y"}
    assert ada.post(page, values).status_code == 303
    assert required(site) == ["alice", "bob"]
    assert "required of these users" in ada.get(page).text
    events = site.events("user.password_required")
    assert {(event.actor_name, event.revocation_id) for event in events} == {("ada", 1)}


@pytest.mark.admin
def test_without_the_box_no_password_is_required(site: Site) -> None:
    start(site, "alice")
    ada = site.signed_in("ada")
    ada.post(review(site, ada, "alice"), {"reason": "incident"})
    assert site.live("alice") == []
    assert required(site) == []


@pytest.mark.admin
def test_the_box_is_an_administrators(site: Site) -> None:
    start(site, "alice")
    ops = site.signed_in("ops")
    page = review(site, ops, "alice")
    assert "new_password" not in ops.get(page).text
    assert ops.post(page, {"reason": "incident", "new_password": "y"}).status_code == 403
    assert len(site.live("alice")) == 1
    assert required(site) == []


def test_of_everyone_it_is_required_batch_by_batch(any_site: Site) -> None:
    start(any_site, "alice", "bob", "vera")
    with commanding(any_site):
        frozen = freeze(Targets(everyone=True), actor=CLI)
        revoke(frozen, actor=CLI, reason="incident", new_password=True)
    assert required(any_site) == ["alice", "bob", "vera"]


def test_the_command_requires_one_and_asks_for_none(site: Site) -> None:
    start(site, "alice")
    runner = site.app.test_cli_runner()
    done = runner.invoke(args=["users", "password", "alice", "--require"])
    assert (done.exit_code, done.output) == (
        0, "alice has to choose a new password. Sessions ended: 1.\n"
    )  # fmt: skip
    assert required(site) == ["alice"]
    both = runner.invoke(args=["users", "password", "alice", "--require", "--password-stdin"])
    assert both.exit_code == 2


def test_the_command_that_revokes_requires_one_too(site: Site) -> None:
    references = start(site, "alice", "bob")
    revoking = ["sessions", "revoke", references[0], "--reason", "incident", "--new-password"]
    assert site.app.test_cli_runner().invoke(args=revoking).exit_code == 0
    assert required(site) == ["alice"]


def test_without_its_event_nothing_is_required(site: Site) -> None:
    start(site, "alice")
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    with commanding(site), pytest.raises(Exception, match="audit_events"):
        require_new_password(site.user_id("alice"), actor=CLI)
    assert required(site) == []
    assert len(site.live("alice")) == 1
