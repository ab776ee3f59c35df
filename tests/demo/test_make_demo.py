"""`make demo`, as a person uses it: started, looked at, ended and started again."""

import csv
import re
import shlex
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest

from demo.browser import Browser
from demo.cast import VISITORS, people
from demo.history import NOTES
from demo.visits import After
from tests.demo.running import FEW, HERE, READ, Always, Demo
from tests.servers import free_port
from tests.test_make_run import (
    PATIENCE,
    ROOT,
    clean_environment,
    copy_to,
    hide_valkey,
    processes_in,
    wait_until,
)

pytestmark = pytest.mark.admin

# Further chances for `Visit.step`, beside READ.
SIGN_OUT, PASSWORD_CHANGE, THEME, WRITE, FORBIDDEN = 0.01, 0.0502, 0.06, 0.1, 0.222

LIVE = """SELECT name FROM users JOIN user_sessions ON user_id = users.id
    WHERE ended_at IS NULL AND idle_expires_at > datetime('now', '+1 minute')"""
CREATED, INSIDE = "/admin/users?format=csv", "/admin/sessions?format=csv"
CAME = "/admin/audit?verb=session.signed_in&format=csv"


class Smallest(Demo):
    command = ("-m", "demo", "--members", "8", "--staff", "8")


def rows(browser: Browser, path: str) -> list[dict[str, str]]:
    """Return a list's rows from its CSV."""
    return [*csv.DictReader(browser.get(path).text.splitlines())]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_to(tmp_path_factory.mktemp("demo") / "rollcall", "demo")


# What a shell may hold from other work.
OF_THE_SHELL = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/production",
    "REDIS_URL_FILE": "/nowhere/redis_url",
    "SECRET_KEY": "a-key-of-another-site-that-is-not-for-here",
    "TRUSTED_HOSTS": "sessions.example.org",
    "TRUSTED_PROXIES": "0",
}
# Of these the demo takes notice: a value with a space and a quote, and a step-up that soon is due again.
TAKEN = {"SESSION_CARRY_OVER": "basket, reader's place", "STEP_UP_AGE": "1"}


@pytest.fixture(scope="module")
def first(root: Path) -> Iterator[Demo]:
    """The first start, which several tests look at; the last test ends it and starts another."""
    demo = Demo(root, **OF_THE_SHELL, **TAKEN)
    try:
        yield demo.until_up()
    finally:
        if demo.process.poll() is None:
            demo.end()


def test_it_prints_a_sign_in_for_each_role_and_each_signs_in(first):
    assert set(first.sign_ins) == set(VISITORS)
    for name in first.sign_ins:
        page = first.as_visitor(name).get("/account/sessions")
        assert (page.status, page.path) == (200, "/account/sessions")


def test_the_servers_and_keys_of_the_shell_are_left_alone_and_it_says_so(first, root):
    assert f"disregards yours: {', '.join(OF_THE_SHELL)}.\n" in first.text
    run_env = (root / "instance-demo" / "run.env").read_text()
    assert not [value for value in OF_THE_SHELL.values() if len(value) > 1 and value in run_env]


def test_the_password_lies_in_the_demos_own_folder_for_its_owner_alone(first, root):
    password = root / "instance-demo" / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert {password.read_text()} == set(first.sign_ins.values())
    assert not (root / "instance").exists()


def test_the_lists_are_full_at_once(first):
    admin = first.as_visitor("demo-admin")
    ended = rows(admin, f"{INSIDE}&state=ended")
    assert len(ended) > 30
    often = {"signed_out", "revoked", "superseded", "idle_timeout", "absolute_timeout"}
    assert {row["end_reason"] for row in ended} >= often
    assert "user.disabled" in admin.get("/admin/audit?format=csv").text
    assert admin.get("/admin/revocations?format=csv").text.count("\n") >= 3


def test_people_come_by_the_form_from_their_own_addresses_and_browsers(first):
    admin = first.as_visitor("demo-admin")

    def came() -> list[str]:
        lines = admin.get("/admin/audit?verb=session.signed_in&format=csv").text.splitlines()
        return [line for line in lines if "Mozilla" in line][:4]

    before = set(came())
    wait_until(lambda: not before & set(came()))
    assert all("127.0.0.1" not in line for line in came())
    live = admin.get("/admin/sessions").text
    assert re.search(r"10\.\d+\.\d+\.\d+|192\.0\.2|198\.51\.100|203\.0\.113|2001:db8", live)


def test_a_person_reads_writes_changes_the_password_and_signs_out(first):
    chance = Always(READ)
    visit = first.visit("demo-member", chance)
    assert visit.sign_in()
    for chance.value in (WRITE, THEME, PASSWORD_CHANGE, FORBIDDEN, READ):
        assert visit.step() is After.GOES_ON
    assert any(note in unescape(visit.browser.get("/").text) for note in NOTES)
    trail = first.as_visitor("demo-auditor").get("/admin/audit?who=demo-member&format=csv").text
    assert "user.password_changed" in trail
    assert "access.refused" in trail
    chance.value = SIGN_OUT
    assert visit.step() is After.SIGNED_OUT


def test_staff_revoke_through_the_pages_and_the_person_finds_out(first):
    member = first.visit("demo-member", Always(READ))
    assert member.sign_in()
    operator = first.visit("demo-operator", Always(READ))
    assert operator.sign_in()
    assert operator.revoke_one("demo-member") is After.GOES_ON
    assert member.step() is After.WAS_ENDED
    assert member.sign_in()
    assert operator.revoke_members_at(HERE.ip) is After.GOES_ON
    assert member.step() is After.WAS_ENDED
    done = operator.browser.get("/admin/revocations?format=csv").text
    assert "demo-operator" in done


def test_staff_type_the_count_and_the_password_where_staff_are_among_the_targets(first):
    viewer = first.visit("demo-viewer", Always(READ))
    admin = first.visit("demo-admin", Always(READ))
    assert admin.sign_in()

    def stepped_up() -> bool:
        assert viewer.sign_in()
        assert admin.revoke_one("demo-viewer") is After.GOES_ON
        assert viewer.step() is After.WAS_ENDED
        trail = admin.browser.get("/admin/audit?who=demo-admin&format=csv").text
        return "session.stepped_up" in trail

    wait_until(stepped_up)


def test_flask_works_on_the_demo_with_its_settings(first, root):
    command = f". instance-demo/run.env; exec {shlex.quote(sys.executable)} -m flask users list"
    done = subprocess.run(
        ["sh", "-ac", command], cwd=root,
        env=clean_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "demo-viewer" in done.stdout


def test_a_second_start_goes_on_and_lays_nothing_down_again(first, root):
    admin = first.as_visitor("demo-admin")
    created = [(row["name"], row["created_at"]) for row in rows(admin, CREATED)]
    sign_ins = first.sign_ins
    wait_until(lambda: len({row["user"] for row in rows(admin, INSIDE)} - {*VISITORS}) > 5)
    assert first.end() == 0
    assert "Traceback" not in first.text
    assert "stumbled" not in first.text
    assert processes_in(root) == []
    inside, last_event = found_in(root / "instance-demo" / "rollcall.db")

    second = Demo(root).until_up()
    try:
        assert "The demo goes on" in second.text
        assert second.sign_ins == sign_ins
        again = second.as_visitor("demo-admin")
        assert [(row["name"], row["created_at"]) for row in rows(again, CREATED)] == created

        def came() -> set[str]:
            new = [row for row in rows(again, CAME) if int(row["id"]) > last_event]
            # The first one looks who is still inside, and may be among them.
            return {row["target_name"] for row in new} - {*VISITORS, people(14, 8)[0].name}

        wait_until(lambda: len(came()) > 2)
        assert len(inside) > 2
        assert not came() & inside
    finally:
        assert second.end() == 0
    assert processes_in(root) == []


def found_in(file: Path) -> tuple[set[str], int]:
    """Return who is signed in for a while yet, and the last event of the trail."""
    with closing(sqlite3.connect(file)) as database:
        live = database.execute(LIVE)
        ((last_event,),) = database.execute("SELECT max(id) FROM audit_events")
        return {name for (name,) in live} - {*VISITORS}, last_event


def test_it_lives_on_sql_alone_where_there_is_no_valkey(root, tmp_path):
    hide_valkey(tmp_path)
    root = copy_to(tmp_path / "rollcall", "demo")
    demo = Smallest(root, PYTHONPATH=str(tmp_path)).until_up()
    try:
        assert "no embedded Valkey for this platform" in demo.text
        admin = demo.as_visitor("demo-admin")
        assert {row["store"] for row in rows(admin, f"{INSIDE}&state=ended")} == {"sql"}
    finally:
        assert demo.end() == 0
    assert processes_in(root) == []


def test_people_of_another_demo_are_left_alone(root):
    done = refused(root, "--members", "15", "--staff", "8")
    assert "rm -r instance-demo" in done.stderr


def test_a_taken_port_is_named_with_what_to_type(root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = refused(root, *FEW[2:], PORT=str(taken.getsockname()[1]))
    assert re.search(r"Port \d+ cannot be used.* PORT=\d+ make demo", done.stderr)


def test_make_starts_it_though_there_is_a_folder_of_that_name():
    done = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "python -m demo" in done.stdout


def refused(root: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Start a demo that is expected to refuse, and to leave nothing behind."""
    done = subprocess.run(
        [sys.executable, "-m", "demo", *arguments], cwd=root,
        env=clean_environment(**{"PORT": str(free_port())} | environ),
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert processes_in(root) == []
    return done
