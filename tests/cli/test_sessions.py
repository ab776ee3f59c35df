"""`flask sessions`: list, show, revoke and sweep, their output and their exit codes."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from tests.servers import RedisServer
from tests.sessions.helpers import bring_back, reference_of
from tests.sessions.test_receipt import deaf
from tests.sessions.test_revocation import start
from tests.site import Site, clock_moved


def run(site: Site, *arguments: str) -> Result:
    return site.app.test_cli_runner().invoke(args=["sessions", *arguments])


def test_sessions_are_listed_newest_activity_first(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    with clock_moved(5):
        (vera,) = start(any_site, "vera")
        done = run(any_site, "list")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:4] for line in lines] == [
        [vera, "vera", "active", "sql"],
        [alice, "alice", "active", "redis"],
    ]
    heading, count = done.stderr.splitlines()
    assert heading.split() == ["reference", "user", "status", "store", "last", "seen", "from"]
    assert count == "2 of 2"


def test_the_list_as_json_has_the_fields_of_the_page(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    done = run(any_site, "list", "--json")
    body = json.loads(done.stdout)
    assert (body["total"], body["unavailable"]) == (1, [])
    (row,) = body["sessions"]
    assert (row["reference"], row["user"], row["state"], row["present"]) == (
        alice, "alice", "live", True,
    )  # fmt: skip
    assert row["started_at"].endswith(("Z", "+00:00"))


def test_the_list_is_filtered(site: Site) -> None:
    start(site, "alice", "alice", "vera")
    for arguments, names in (
        (["--user", "ALICE"], ["alice"]),
        (["--store", "sql"], ["vera"]),
        (["--ip", "10.0.0.0/8"], ["vera", "alice"]),
        (["--ip", "192.0.2.1"], []),
        (["--state", "ended"], ["alice"]),
        (["--limit", "1"], ["vera"]),
        (["user:alice", "store:redis"], ["alice"]),
        (["reason:superseded"], ["alice"]),
    ):
        done = run(site, "list", "--json", *arguments)
        assert [row["user"] for row in json.loads(done.stdout)["sessions"]] == names, arguments


@pytest.mark.parametrize(
    "arguments", [["--ip", "nonsense"], ["--store", "tape"], ["--state", "x"], ["--limit", "0"]]
)
def test_a_filter_that_is_not_understood_is_refused(site: Site, arguments: list[str]) -> None:
    done = run(site, "list", *arguments)
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.output


def test_a_silent_store_is_named_and_its_rows_are_listed(site: Site, valkey: RedisServer) -> None:
    start(site, "alice")
    valkey.kill()
    done = run(site, "list")
    assert done.exit_code == 0
    assert "alice" in done.stdout
    assert "redis did not answer" in done.stderr
    body = json.loads(run(site, "list", "--json").stdout)
    assert body["unavailable"] == ["redis"]
    assert body["sessions"][0]["present"] is None


def test_one_session_is_shown(site: Site) -> None:
    (alice,) = start(site, "alice")
    done = run(site, "show", alice.upper())
    assert done.exit_code == 0
    assert f"reference            {alice}" in done.stdout
    assert json.loads(run(site, "show", alice, "--json").stdout)["user"] == "alice"


def test_no_command_shows_an_id_a_handle_or_a_data_key(site: Site) -> None:
    alice = site.signed_in("alice")
    (row,) = site.live("alice")
    shown = run(site, "list").output + run(site, "show", row.reference).output
    shown += run(site, "list", "--json").output + run(site, "show", row.reference, "--json").output
    for secret in (alice.cookie or "?", row.handle.hex(), row.data_key):
        assert secret not in shown


@pytest.mark.parametrize("command", [["show"], ["revoke", "--reason", "incident"]])
def test_an_unknown_reference_is_named_and_nothing_happens(site: Site, command: list[str]) -> None:
    (alice,) = start(site, "alice")
    extra = [alice] if command[0] == "revoke" else []
    done = run(site, *command, *extra, "aaaaaaaaaa")
    assert done.exit_code == 1
    assert "aaaaaaaaaa" in done.output
    assert reference_of(site, "alice") == alice
    assert [event.verb for event in site.events()] == ["session.signed_in"]


def test_revoking_prints_the_five_integers(any_site: Site) -> None:
    references = start(any_site, "alice", "vera")
    done = run(any_site, "revoke", *references, "--reason", "incident", "--note", "leak", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "ended": 2, "already_ended": 0, "purged": 2, "purge_pending": 0, "present": 0,
    }  # fmt: skip
    assert {(row.end_reason, row.note) for row in any_site.rows()} == {("revoked", "leak")}
    again = run(any_site, "revoke", *references, "--reason", "incident")
    assert again.exit_code == 0
    assert again.stdout.startswith("ended: 0, already ended: 2")


def test_a_command_may_end_an_administrators_session_and_is_named_in_the_trail(site: Site) -> None:
    ada = site.signed_in("ada")
    reference = reference_of(site, "ada")
    assert run(site, "revoke", reference, "--reason", "left_company").exit_code == 0
    assert not ada.is_signed_in()
    (event,) = site.events("session.revoked")
    assert (event.actor_kind, event.reason) == ("cli", "left_company")


@pytest.mark.parametrize("arguments", [[], ["--reason", "boredom"]])
def test_revoking_needs_a_reason_that_is_a_code(site: Site, arguments: list[str]) -> None:
    (alice,) = start(site, "alice")
    assert run(site, "revoke", alice, *arguments).exit_code == 2
    assert run(site, "revoke", "--reason", "incident").exit_code == 2
    assert reference_of(site, "alice") == alice


def test_the_user_is_told_only_if_the_command_says_so(make_site: Callable[..., Site]) -> None:
    site = make_site()
    for tell in ([], ["--tell-user"]):
        alice = site.signed_in("alice")
        reference = reference_of(site, "alice")
        run(site, "revoke", reference, "--reason", "other", "--note", "secret why", *tell)
        page = alice.get("/account/sessions", follow_redirects=True).text
        assert ("secret why" in page) is bool(tell)


def test_data_that_waits_for_a_silent_store_is_exit_code_3(site: Site, valkey: RedisServer) -> None:
    (alice,) = start(site, "alice")
    valkey.kill()
    done = run(site, "revoke", alice, "--reason", "incident", "--json")
    assert done.exit_code == 3
    counts = json.loads(done.stdout)
    assert (counts["ended"], counts["purged"], counts["purge_pending"]) == (1, 0, 1)
    bring_back(site, valkey)
    swept = run(site, "sweep", "--json")
    assert swept.exit_code == 0
    assert json.loads(swept.stdout)["purge_pending"] == 0
    (row,) = site.rows()
    assert not row.purge_pending
    assert site.payload(row) is None


def test_data_that_is_still_there_is_exit_code_3(site: Site) -> None:
    (alice,) = start(site, "alice")
    deaf(site, "redis")
    done = run(site, "revoke", alice, "--reason", "incident", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["present"] == 1


def test_a_sweep_expires_and_says_so(site: Site) -> None:
    start(site, "alice")
    with clock_moved(1801):
        done = run(site, "sweep")
    assert done.exit_code == 0
    assert "expired        1" in done.stdout
    assert site.rows()[0].end_reason == "idle_timeout"


def test_a_sweep_that_raises_an_alarm_is_exit_code_3(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    site = make_site(SESSION_LIMIT=50)
    start(site, *["alice"] * 10)
    with valkey.client() as client:
        client.flushall()
    done = run(site, "sweep")
    assert done.exit_code == 3
    assert "10 of 10" in done.stdout
    assert len(site.live("alice")) == 10


def test_a_silent_database_is_one_readable_line(
    make_site: Callable[..., Site], tmp_path: object
) -> None:
    site = make_site(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    done = run(site, "list")
    assert done.exit_code == 1
    assert "database did not answer" in done.output
    assert "Traceback" not in done.output
