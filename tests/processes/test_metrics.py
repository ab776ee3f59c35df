"""One scrape tells of all processes of a web server, and its counters never go back."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes.conftest import settings_for
from tests.processes.web import Person, Web
from tests.servers import RedisServer, wait_until
from tests.test_metrics import read

WORKERS = 2
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


def test_the_folder_is_the_master_s_and_goes_with_it(web: Web, folder: Path) -> None:
    (made,) = folder.glob("rollcall-metrics-*")
    assert any(made.glob("counter_*.db"))
    web.close()
    assert list(folder.glob("rollcall-metrics-*")) == []


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
