"""What the tests of a whole site under a fault share: faults by name, and requests against the clock."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from werkzeug.test import TestResponse

import config
from app.sessions.stores.breaker import Breaker
from app.sessions.wsgi import Deadline
from tests.faults import watch
from tests.faults.proxy import Mode, Proxy
from tests.servers import PostgresServer, RedisServer
from tests.site import PASSWORD, Browser, Site

BOUND = 1.0
"""Seconds within which every request is answered, whatever a server does."""

DEADLINE: float = config.one("REQUEST_DEADLINE", {})
"""Seconds that a request may wait by default; a site of other tests gives it more."""

RETURN = 5.0
"""Seconds after a server's return within which all is well."""

NETWORK = ("refuse", "hang", "reset", "trickle", "frozen")
BREAKERS = ("closed", "open")
PAUSE = 0.3
"""Seconds between the bytes of a trickle."""


@contextmanager
def failing(fault: str, proxy: Proxy, server: RedisServer | PostgresServer) -> Iterator[None]:
    """Let a server fail for the block: the network before it, or the server itself, frozen."""
    if fault == "frozen":
        with server.frozen():
            yield
        return
    proxy.switch(Mode[fault.upper()])
    try:
        yield
    finally:
        proxy.switch(Mode.PASS)


@contextmanager
def patient(site: Site) -> Iterator[None]:
    """Give requests all the time they want for the block: it prepares a test on a busy machine."""
    deadline: Any = site.app.wsgi_app
    while not isinstance(deadline, Deadline):
        deadline = deadline._app
    seconds, deadline._seconds = deadline._seconds, 30.0
    try:
        yield
    finally:
        deadline._seconds = seconds


def warm(site: Site) -> None:
    """Compile the templates: a server that has answered before does not spend a request's time on it."""
    environment = site.app.jinja_env
    for name in environment.list_templates(["html"]):
        environment.get_template(name)


def set_breakers(site: Site, state: str) -> None:
    """Open or close every breaker of the site, as failures before this request would have."""
    throttle = site.app.extensions["rollcall.throttle"]
    breakers: list[Breaker] = [site.system.stores["redis"].breaker, throttle._breaker]
    for each in breakers:
        set_breaker(each, state)


def set_breaker(breaker: Breaker, state: str) -> None:
    breaker._close()
    if state == "open":
        breaker._opened_at, breaker._detail = time.monotonic(), "timed out"
    assert breaker.state == state


def timed(call: Callable[[], TestResponse]) -> TestResponse:
    """Make a request and hold it to the bound."""
    began = watch.seconds()
    response = call()
    took = watch.seconds() - began
    response.get_data()
    response.close()
    assert took < BOUND, f"{response.request.path} took {took:.2f} s"
    return response


@dataclass
class Held:
    """A signed-in browser with a form's token from before the fault."""

    browser: Browser
    token: str
    cookie: str | None

    @classmethod
    def by(cls, browser: Browser) -> "Held":
        with patient(browser.site):
            return cls(browser, browser.token("/account/sessions"), browser.cookie)

    @classmethod
    def signed_in(cls, site: Site, name: str) -> "Held":
        warm(site)
        with patient(site):
            return cls.by(site.signed_in(name))

    def get(self, path: str) -> TestResponse:
        return timed(lambda: self.browser.get(path))

    def post(self, path: str, **values: str) -> TestResponse:
        data: dict[str, Any] = {"csrf_token": self.token, **values}
        return timed(lambda: self.browser.client.post(path, data=data))

    def assert_kept(self) -> None:
        """Nobody was signed out: the browser holds the cookie that it held."""
        assert self.browser.cookie == self.cookie is not None


def sign_in(browser: Browser, name: str) -> TestResponse:
    """Send the sign-in form, against the clock; its page needs no server."""
    form = timed(lambda: browser.get("/login"))
    assert form.status_code == 200
    values = {"csrf_token": "", "username": name, "password": PASSWORD}
    values["csrf_token"] = browser.token("/login")
    return timed(lambda: browser.client.post("/login", data=values))


def assert_unavailable(response: TestResponse, *, of: str | None = None) -> None:
    """It is the honest 503: with Retry-After, nobody's name on it, and no session cookie touched."""
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) > 0
    assert "alice" not in response.text
    assert "/logout" not in response.text
    name = "session="
    assert not [c for c in response.headers.getlist("Set-Cookie") if c.startswith(name)]
    if of is not None:
        (title,) = re.findall(r"<h1[^>]*>(.*?)</h1>", response.text)
        assert of in title
