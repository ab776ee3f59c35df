"""The crowd of the demo goes on whatever the site answers."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.test_make_run import PATIENCE, clean_environment, copy_to, wait_until


class Garbled(BaseHTTPRequestHandler):
    """Answers what no browser of the crowd can read."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"\xff")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Garbled) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_crowd_tells_of_what_nobody_has_thought_of_once_and_goes_on(site, tmp_path):
    root = copy_to(tmp_path / "rollcall", "demo")
    (root / "instance-demo").mkdir()
    (root / "instance-demo" / "password").write_text("nobody's")
    with subprocess.Popen(
        [sys.executable, "-m", "demo.crowd", "8", "8", "1", site], cwd=root,
        env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as crowd:  # fmt: skip
        wait_until(lambda: Garbled.asked > 2 or crowd.poll() is not None)
        crowd.terminate()
        printed, _ = crowd.communicate(timeout=PATIENCE)
    assert crowd.returncode == 0, printed
    assert printed.startswith("The crowd stumbled, and goes on: UnicodeDecodeError: ")
    assert printed.count("\n") == 1
