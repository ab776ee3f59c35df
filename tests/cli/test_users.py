"""`flask users`: what it prints, how it ends, and the way back in for a locked-out administrator."""

import pytest
from click.testing import Result

from tests.servers import RedisServer
from tests.site import Site

NEW = "a very uncommon sentence"


def run(site: Site, *arguments: str, text: str = "") -> Result:
    return site.app.test_cli_runner().invoke(args=["users", *arguments], input=text)


def test_a_user_is_created_with_a_password_from_standard_input(any_site: Site) -> None:
    done = run(any_site, "create", "eve", "--role", "operator", "--password-stdin", text=f"{NEW}\n")
    assert (done.exit_code, done.output) == (0, "Created eve as operator.\n")
    assert any_site.browser().sign_in("eve", NEW).status_code == 303
    (event,) = any_site.events("user.created")
    assert (event.actor_kind, event.target_name) == ("cli", "eve")


def test_a_user_is_a_member_unless_it_is_said(site: Site) -> None:
    assert run(site, "create", "eve", "--password-stdin", text=NEW).output == (
        "Created eve as member.\n"
    )


def test_the_password_is_asked_twice_and_never_shown(site: Site) -> None:
    done = run(site, "create", "eve", text=f"{NEW}\n{NEW}\n")
    assert done.exit_code == 0
    assert NEW not in done.output
    assert site.browser().sign_in("eve", NEW).status_code == 303


def test_the_spaces_of_a_password_belong_to_it(site: Site) -> None:
    run(site, "create", "eve", "--password-stdin", text=f" {NEW} \r\n")
    assert site.browser().sign_in("eve", f" {NEW} ").status_code == 303


@pytest.mark.parametrize(
    ("arguments", "password", "said"),
    [
        (["create", "alice"], NEW, "taken"),
        (["create", "a b"], NEW, "letters, digits"),
        (["create", "eve"], "short", "at least 12 characters"),
        (["create", "eve", "--role", "boss"], NEW, "boss"),
        (["disable", "nobody"], "", "There is no user 'nobody'"),
        (["enable", "alice"], "", "not disabled"),
        (["role", "alice", "member"], "", "that role already"),
        (["password", "alice"], "short", "at least 12 characters"),
        (["disable", "ada"], "", "last active administrator"),
        (["role", "ada", "member"], "", "last active administrator"),
    ],
)
def test_a_refusal_is_one_readable_line_and_exit_code_1_or_2(
    site: Site, arguments: list[str], password: str, said: str
) -> None:
    if arguments[0] in ("create", "password"):
        arguments = [*arguments, "--password-stdin"]
    done = run(site, *arguments, text=password)
    assert done.exit_code in (1, 2)
    assert said in done.output
    assert "Traceback" not in done.output
    assert site.events() == []


def test_disabling_says_how_many_sessions_ended(any_site: Site) -> None:
    alice = any_site.signed_in("alice")
    done = run(any_site, "disable", "ALICE")
    assert (done.exit_code, done.output) == (0, "Disabled ALICE. Sessions ended: 1.\n")
    assert not alice.is_signed_in()
    again = run(any_site, "disable", "alice")
    assert again.exit_code == 1
    assert run(any_site, "enable", "alice").output == "Enabled alice.\n"
    assert any_site.browser().sign_in("alice").status_code == 303


def test_a_role_is_changed_and_the_sessions_end(site: Site) -> None:
    alice = site.signed_in("alice")
    done = run(site, "role", "alice", "viewer")
    assert (done.exit_code, done.output) == (0, "alice is viewer now. Sessions ended: 1.\n")
    assert not alice.is_signed_in()


@pytest.mark.admin
def test_a_locked_out_administrator_gets_back_in(site: Site) -> None:
    browser = site.browser()
    assert browser.sign_in("ada", "forgotten").status_code == 422
    done = run(site, "password", "ada", "--password-stdin", text=f"{NEW}\n")
    assert (done.exit_code, done.output) == (0, "Changed the password of ada. Sessions ended: 0.\n")
    assert browser.sign_in("ada", NEW).status_code == 303
    assert browser.get("/admin/users").status_code == 200


def test_a_disabled_administrator_is_brought_back_by_a_new_one(site: Site) -> None:
    run(site, "create", "root", "--role", "admin", "--password-stdin", text=NEW)
    assert run(site, "disable", "ada").exit_code == 0
    assert run(site, "enable", "ada").exit_code == 0
    assert site.browser().sign_in("ada").status_code == 303


def test_everybody_is_listed_by_name(site: Site) -> None:
    run(site, "disable", "bob")
    lines = [line.split() for line in run(site, "list").output.splitlines()]
    assert lines == [
        ["ada", "admin"],
        ["alice", "member"],
        ["bob", "member", "disabled"],
        ["ops", "operator"],
        ["otto", "auditor"],
        ["vera", "viewer"],
    ]


def test_a_silent_store_does_not_keep_a_user_from_being_disabled(
    site: Site, valkey: RedisServer
) -> None:
    alice = site.signed_in("alice")
    valkey.kill()
    assert run(site, "disable", "alice").exit_code == 0
    assert not alice.is_signed_in()
