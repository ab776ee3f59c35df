"""`flask sessions revoke --all`: the one command that signs everyone out."""

import json
from typing import Any

import pytest
from click.testing import Result

from app.sessions import revocation
from tests.sessions.helpers import reference_of
from tests.sessions.test_revocation import alive, start
from tests.site import Site

ALL = ("--all", "--reason", "incident")


def revoke(site: Site, *arguments: str, typed: str = "") -> Result:
    return site.app.test_cli_runner().invoke(args=["sessions", "revoke", *arguments], input=typed)


def test_everyone_is_signed_out_administrators_too(any_site: Site) -> None:
    browsers = [any_site.signed_in(name) for name in ("alice", "ops", "ada")]
    done = revoke(any_site, *ALL, "--note", "a leak", "--yes", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "ended": 3, "already_ended": 0, "purged": 3, "purge_pending": 0, "present": 0,
    }  # fmt: skip
    assert not any(browser.is_signed_in() for browser in browsers)
    assert {(row.end_reason, row.note) for row in any_site.rows()} == {("revoked", "a leak")}
    events = any_site.events("session.revoked")
    assert {(event.actor_kind, event.reason) for event in events} == {("cli", "incident")}
    assert len(events) == 3
    assert any_site.signed_in("alice").is_signed_in()


def test_it_holds_before_any_row_has_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = site.signed_in("alice")
    with monkeypatch.context() as patch:
        patch.setattr(revocation, "work", lambda *_: None)
        revoke(site, *ALL, "--yes")
    assert [row.ended_at for row in site.rows()] == [None]
    assert not alice.is_signed_in()


def test_the_count_is_asked_for_and_says_what_it_touches(site: Site) -> None:
    start(site, "alice", "bob", "vera", "ada")
    done = revoke(site, *ALL, "--json", typed="4\n")
    assert done.exit_code == 0
    assert "Sessions: 4 (redis 2, sql 2). Users: 4. Staff's: 2, of them administrators': 1." in (
        done.stderr
    )
    assert json.loads(done.stdout.splitlines()[-1])["ended"] == 4
    assert alive(site) == set()


@pytest.mark.parametrize("typed", ["2\n", "yes\n", "1 \n" + "x\n", ""])
def test_another_answer_than_the_count_ends_nothing(site: Site, typed: str) -> None:
    references = start(site, "alice", "bob", "vera")
    done = revoke(site, *ALL, typed=typed)
    assert done.exit_code == 1
    assert alive(site) == set(references)
    assert site.events("session.revoked") == []


def test_with_nobody_signed_in_there_is_nothing_to_do(site: Site) -> None:
    done = revoke(site, *ALL, "--yes", "--json")
    assert done.exit_code == 0
    assert set(json.loads(done.stdout).values()) == {0}
    assert done.stderr == "Nobody is signed in.\n"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--all", "aaaaaaaaaa"], "by REFERENCE, or all of them by --all"),
        ([], "by REFERENCE, or all of them by --all"),
        (["--yes"], "by REFERENCE, or all of them by --all"),
        (["aaaaaaaaaa", "--yes"], "--yes goes with --all"),
    ],
)
def test_all_and_references_do_not_mix(site: Site, more: list[Any], problem: str) -> None:
    (alice,) = start(site, "alice")
    done = revoke(site, "--reason", "incident", *more)
    assert done.exit_code == 2
    assert problem in done.output
    assert reference_of(site, "alice") == alice


def test_everyone_needs_a_reason_too(site: Site) -> None:
    (alice,) = start(site, "alice")
    assert revoke(site, "--all", "--yes").exit_code == 2
    assert reference_of(site, "alice") == alice
