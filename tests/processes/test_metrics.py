"""One scrape tells of all processes of a web server, and its counters never go back."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes.conftest import settings_for
from tests.processes.web import ROOT, Person, Web, environment
from tests.servers import RedisServer, free_port, wait_until
from tests.test_metrics import read

WORKERS = 2
OURS = "rollcall-metrics-*"
HEALTH = ("rollcall_request_seconds_count", "endpoint=healthz", "method=GET", "status=2xx")
UNKNOWN = ("rollcall_unknown_session_ids_total",)
BREAKER = ("rollcall_breaker_open", "store=redis")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where gunicorn makes the folder of its metrics."""
    return tmp_path_factory.mktemp("tmp")


@pytest.fixture(scope="module")
def web(new_url: Callable[[str], str], valkey_process: RedisServer, folder: Path) -> Iterator[Web]:
    """A web server of two worker processes."""
    valkey_process.reset()
    settings = settings_for(new_url("sqlite"), valkey_process.url)
    made = Web("tests.processes.served", settings, 0, workers=WORKERS, TMPDIR=str(folder))
    yield made.until_up()
    made.close()


def children(web: Web) -> list[int]:
    pid = web.process.pid
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def scraped(web: Web, wanted: tuple[str, ...]) -> float:
    answer = Person().get(web, "/metrics")
    assert answer.status == 200, answer.text
    name, *labels = wanted
    key = (name, frozenset(tuple(label.split("=")) for label in labels))
    return read(answer.text).get(key, 0.0)  # type: ignore[call-overload,no-any-return]


@contextmanager
def only(web: Web, pid: int) -> Iterator[None]:
    """Let one worker process alone answer."""
    others = [other for other in children(web) if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def test_a_scrape_of_any_process_adds_up_what_all_have_counted(web: Web) -> None:
    before = scraped(web, HEALTH), scraped(web, UNKNOWN)
    stranger = Person({"session": "u" * 43})
    for times, pid in enumerate(children(web), start=2):
        with only(web, pid):
            for _ in range(times):
                Person().get(web, "/healthz")
                stranger.get(web, "/t/who")
    for pid in children(web):
        with only(web, pid):
            assert scraped(web, HEALTH) - before[0] == 5
            assert scraped(web, UNKNOWN) - before[1] == 5


def test_nothing_is_lost_when_many_ask_at_once(web: Web) -> None:
    before = scraped(web, HEALTH)

    def visit(number: int) -> None:
        Person().get(web, "/metrics" if number % 10 == 0 else "/healthz")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(200)))
    assert scraped(web, HEALTH) - before == 180


def test_an_open_breaker_of_one_process_is_seen_until_it_closes(
    web: Web, valkey_process: RedisServer
) -> None:
    one, other = children(web)
    with valkey_process.frozen(), only(web, one):
        Person().get(web, "/readyz")
    with only(web, other):
        assert scraped(web, BREAKER) == 1
    with only(web, one):
        wait_until(lambda: Person().get(web, "/readyz").status == 200)
    assert scraped(web, BREAKER) == 0


def test_counters_do_not_go_back_when_a_process_is_replaced(
    web: Web, valkey_process: RedisServer
) -> None:
    first = children(web)[0]
    with valkey_process.frozen(), only(web, first):
        Person().get(web, "/readyz")
        Person().get(web, "/healthz")
    before = scraped(web, HEALTH)
    assert before > 0
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(children(web)) == WORKERS and first not in children(web), 30)
    wait_until(lambda: Person().get(web, "/healthz").status == 200)
    assert scraped(web, HEALTH) >= before + 1
    # Its breaker went with it.
    assert scraped(web, BREAKER) == 0


def crash(web: Web) -> None:
    for pid in children(web):
        os.kill(pid, signal.SIGKILL)


def reload(web: Web) -> None:
    os.kill(web.process.pid, signal.SIGHUP)


def replaced(web: Web, how: Callable[[Web], None]) -> None:
    """Have all processes of a web server replaced, and wait for the new ones."""
    old = set(children(web))
    how(web)
    wait_until(lambda: len(children(web)) == WORKERS and not old & set(children(web)), 30)
    # Each makes its files when it has come up, which may be after the other has answered.
    for pid in children(web):
        with only(web, pid):
            assert Person().get(web, "/healthz").status == 200


def test_files_do_not_pile_up_while_processes_come_and_go(web: Web, folder: Path) -> None:
    """In a reload the new ones begin while the old ones still answer."""
    (made,) = folder.glob(OURS)
    files = []
    for how in (reload, crash, crash, crash):
        before = scraped(web, HEALTH)
        replaced(web, how)
        assert scraped(web, HEALTH) >= before + 1
        files.append(sorted(file.name for file in made.glob("[ch]*.db")))
    assert len(files[0]) <= 2 * (WORKERS + WORKERS)
    assert files == [files[0]] * 4


def test_the_folder_is_the_master_s_and_goes_with_it(web: Web, folder: Path) -> None:
    (made,) = folder.glob(OURS)
    assert any(made.glob("counter_*.db"))
    web.close()
    assert list(folder.glob(OURS)) == []


def test_a_folder_that_the_operator_names_is_used_and_left(
    new_url: Callable[[str], str], valkey_process: RedisServer, tmp_path: Path
) -> None:
    named = tmp_path / "deep" / "metrics"
    settings = settings_for(new_url("sqlite"), valkey_process.url)
    web = Web("tests.processes.served", settings, 0, PROMETHEUS_MULTIPROC_DIR=str(named))
    try:
        web.until_up()
        assert scraped(web, HEALTH) == 0
    finally:
        web.close()
    assert any(named.glob("histogram_*.db"))


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start gunicorn as it is configured, around an application of two lines."""
    (tmp_path / "small.py").write_text("def application(environ, start_response):\n    return []\n")
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> "subprocess.Popen[str]":
        conf = str(ROOT / "gunicorn.conf.py")
        command = [sys.executable, "-m", "gunicorn", "-c", conf, *options, "small:application"]
        environ = environment(TMPDIR=str(tmp_path), PORT=str(free_port()), WEB_CONCURRENCY="1")
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


def ready(process: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
    """Wait until gunicorn begins its processes: it has swept up, and holds a folder of its own."""
    assert process.stderr is not None
    said = []
    while "Booting worker" not in (line := process.stderr.readline()):
        assert line, said
        said.append(line)
    return process


def test_a_start_sweeps_up_after_masters_that_were_killed_and_no_others(
    gunicorn: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    def folders() -> set[Path]:
        return set(tmp_path.glob(OURS))

    killed = ready(gunicorn())
    (left,) = folders()
    killed.kill()
    # Its process holds the folder until it has noticed.
    assert killed.communicate(timeout=30)
    assert folders() == {left}
    ready(gunicorn())
    (kept,) = folders()
    assert kept != left
    ready(gunicorn())
    assert len(folders()) == 2
    assert kept in folders()


def test_preloading_is_refused_because_nothing_would_be_counted(
    gunicorn: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    refused = gunicorn("--preload")
    _, said = refused.communicate(timeout=30)
    assert refused.returncode != 0
    assert "Error: preload_app: " in said
    assert "Traceback" not in said
    assert list(tmp_path.glob(OURS)) == []
