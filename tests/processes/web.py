"""Web servers as processes of their own, and people who talk to them over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.logged import keeping
from tests.processes.barrier import PATIENCE
from tests.processes.served import BARRIER, SETTINGS
from tests.servers import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
OURS = ("ROLLCALL_", "SESSION_", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FLASK_", "GUNICORN_")
_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without any setting of Rollcall's, and `more`."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OURS)} | more


class Web:
    """gunicorn with one worker process (or `workers`) of many threads, on a free loopback port."""

    def __init__(
        self,
        application: str,
        settings: Mapping[str, object],
        barrier: int,
        *,
        workers: int = 1,
        **more: str,
    ) -> None:
        self.port = free_port()
        environ = {
            SETTINGS: json.dumps(settings),
            BARRIER: str(barrier),
            "PORT": str(self.port),
            "WEB_CONCURRENCY": str(workers),
            **more,
        }
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--threads",
            "16",
            f"{application}:create_app()",
        ]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(**environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._pump = ThreadPoolExecutor(1)
        self._lines: list[bytes] = []
        self._pump.submit(self._lines.extend, self.process.stdout or [])

    @property
    def printed(self) -> str:
        """What it has printed."""
        return b"".join(self._lines).decode(errors="replace")

    def until_up(self) -> "Web":
        wait_until(lambda: self.process.poll() is not None or self._answers(), PATIENCE)
        assert self.process.poll() is None, self.printed
        return self

    def _answers(self) -> bool:
        try:
            return Person().get(self, "/t/who").status == 200
        except OSError:
            return False

    def close(self) -> None:
        """End it by its pid, with its worker."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._pump.shutdown()
        keeping.keep(self.printed, type(self).__name__)
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: list[tuple[str, str]]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that it sets; an empty value deletes one."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            if name.lower() == "set-cookie":
                found |= {key: morsel.value for key, morsel in SimpleCookie(value).items()}
        return found

    @property
    def location(self) -> str:
        return next(value for name, value in self.headers if name.lower() == "location")


@dataclass
class Person:
    """Somebody with a browser that talks to any of the servers."""

    cookies: dict[str, str] = field(default_factory=dict)

    def ask(
        self, web: Web, method: str, path: str, form: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own; the cookies stay as they are."""
        headers = {"User-Agent": "tests", "Host": "localhost"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read().decode())
        finally:
            connection.close()

    def _keep(self, answer: Answer) -> Answer:
        for name, value in answer.cookies.items():
            keeping.note(value if "session" in name else None)
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return answer

    def get(self, web: Web, path: str) -> Answer:
        return self._keep(self.ask(web, "GET", path))

    def post(self, web: Web, path: str, *, form: str | None = None, **values: str) -> Answer:
        """Post the form that the page at `form` (the path itself by default) offers."""
        page = self.get(web, form or path)
        token = _TOKEN.search(page.text)
        assert token, f"no form on {form or path}: {page.status} {page.text}"
        keeping.note(token[1])
        return self._keep(self.ask(web, "POST", path, {"csrf_token": token[1], **values}))

    def start(self, web: Web, path: str) -> "Future[Answer]":
        """Send a request from a thread of its own."""
        return in_background(lambda: self.ask(web, "GET", path))

    def enter(self, web: Web, name: str) -> str:
        """Sign in without the form and return the session's reference."""
        answer = self.get(web, f"/t/enter/{name}")
        assert answer.status == 200, answer.text
        return str(answer.json.get("reference"))

    def is_at(self, web: Web) -> str | None:
        """Return the name under which a server knows this person."""
        name = self.get(web, "/t/who").json["name"]
        assert name is None or isinstance(name, str)
        return name

    def revoke(self, web: Web, reference: str) -> dict[str, int]:
        """End somebody's session by its page, review and confirmation; return the receipt's integers."""
        page = f"/admin/sessions/{reference}"
        review = self.post(web, "/admin/revocations", form=page, reference=reference).location
        confirmed = self.post(web, review, reason="incident")
        assert confirmed.status == 303, confirmed.text
        receipt = self.get(web, f"{review}?format=json")
        assert receipt.status == 200, receipt.text
        counts: dict[str, int] = receipt.json
        return counts


def in_background(call: Any) -> "Future[Any]":
    """Run a call in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future
