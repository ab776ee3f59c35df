"""The worker's own metrics: what its passes did, and a health check that notices a stuck one."""

import math
import os
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click import ClickException

from app.cli import worker
from app.cli.passes import Passes, served
from app.sessions.store import StoreUnavailable
from app.sessions.upkeep import Pass
from tests.servers import free_port, wait_until
from tests.sessions.test_revocation import start
from tests.site import Site, clock_moved
from tests.test_metrics import TOKEN, read

ROOT = Path(__file__).parents[2]
LAST = "rollcall_worker_last_pass_timestamp_seconds"


def scraped(address: str, token: str = "") -> dict[str, float]:
    """Return the samples without labels, and those with one under `name:value`."""
    request = Request(f"http://{address}/metrics", headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=5) as answer:
        samples = read(answer.read().decode())
    return {
        ":".join([name, *(value for _, value in labels)]): value
        for (name, labels), value in samples.items()
    }


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


def is_well(address: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Ask the shipped health check."""
    command = [sys.executable, "deploy/healthcheck.py", "worker", f"http://{address}/metrics"]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": os.environ["PATH"], **environ},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def test_a_pass_tells_when_it_ended_and_what_it_did(site: Site, address: str) -> None:
    passes = Passes()
    start(site, "alice", "ada")
    with served(passes, address, ""), clock_moved(1801):
        assert LAST not in scraped(address)
        before = time.time()
        worker._run_pass(site.app, passes)
        said = scraped(address)
    assert before <= said[LAST] <= time.time()
    assert 0 < said["rollcall_worker_last_pass_seconds"] < 60
    assert said["rollcall_worker_done_total:expired"] == 2
    assert said["rollcall_worker_passes_total:finished"] == 1
    assert said["rollcall_worker_alarms"] == 0
    # What this process counted is there too.
    assert said["rollcall_sessions_ended_total:idle_timeout"] >= 2


def test_a_pass_that_a_silent_database_cut_short_has_not_finished(
    site: Site, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise StoreUnavailable("database")

    monkeypatch.setattr("app.sessions.upkeep.run", silent)
    passes = Passes()
    worker._run_pass(site.app, passes)
    with served(passes, address, ""):
        said = scraped(address)
    assert said["rollcall_worker_passes_total:skipped"] == 1
    assert LAST not in said


def test_an_alarm_stands_until_a_pass_without_it(address: str) -> None:
    passes = Passes()
    with served(passes, address, ""):
        passes.finished(Pass(alarms=["redis lacks much"]), 0.1)
        assert scraped(address)["rollcall_worker_alarms"] == 1
        passes.finished(Pass(), 0.1)
        assert scraped(address)["rollcall_worker_alarms"] == 0


def test_a_worker_that_finishes_no_pass_is_not_well(address: str) -> None:
    passes = Passes()
    refused = is_well(address)
    assert refused.returncode == 1
    assert "Connection refused" in refused.stderr
    with served(passes, address, ""):
        assert "no pass has finished yet" in is_well(address).stderr
        began = time.time()
        passes.finished(Pass(), 0.1, at=began - 301)
        stuck = is_well(address)
        assert stuck.returncode == 1
        ago = re.search(r"the last pass finished (\d+) seconds ago", stuck.stderr)
        assert ago
        assert 301 <= int(ago[1]) <= 301 + math.ceil(time.time() - began)
        passes.finished(Pass(), 0.1, at=time.time() - 200)
        assert is_well(address).returncode == 0


def test_the_token_closes_the_workers_metrics_too(address: str, tmp_path: Path) -> None:
    passes = Passes()
    passes.finished(Pass(), 0.1)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with served(passes, address, TOKEN):
        with pytest.raises(HTTPError, match="401"):
            scraped(address)
        assert LAST in scraped(address, TOKEN)
        assert is_well(address).returncode == 1
        assert is_well(address, METRICS_TOKEN=TOKEN).returncode == 0
        assert is_well(address, METRICS_TOKEN_FILE=str(file)).returncode == 0


def test_an_address_that_is_taken_stops_the_worker_and_is_named(address: str) -> None:
    with socket.create_server(("127.0.0.1", int(address.split(":")[1]))):
        with pytest.raises(ClickException) as raised:
            with served(Passes(), address, ""):
                pytest.fail("two on one port")
    assert raised.value.message == (
        f"WORKER_METRICS_ADDRESS: {address} cannot be used: Address already in use"
    )


def test_a_scraper_that_hangs_up_is_one_line_of_the_log(
    address: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    host, port = address.split(":")
    with served(Passes(), address, ""):
        with socket.create_connection((host, int(port))) as rude:
            # What is closed with no time to linger is reset.
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rude.send(b"GET /met")
        wait_until(lambda: "scrape_failed" in caplog.text)
        assert "rollcall_worker_passes_total:finished" in scraped(address)
    (record,) = [record for record in caplog.records if record.name == "app.cli.passes"]
    assert "scrape_failed client=127.0.0.1 detail=" in record.getMessage()
    assert "Connection reset by peer" in record.getMessage()
    assert len(capfd.readouterr().err.splitlines()) <= 1


def test_no_address_is_no_server(site: Site) -> None:
    assert site.app.config["WORKER_METRICS_ADDRESS"] == ""
    with served(Passes(), "", ""):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_address_of_ipv6_stands_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    address = f"[::1]:{free_port()}"
    with served(Passes(), address, ""):
        assert "rollcall_worker_passes_total:finished" in scraped(address)
