"""A simulated browser: cookies, forms with their tokens, redirects. Real HTTP, on loopback.

It says where it sits as a proxy would, in X-Forwarded-For, and the site believes one hop.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

from demo.places import Place

_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')
_REDIRECTS = 5
_PATIENCE = 10.0

Form = Mapping[str, str] | Sequence[tuple[str, str]]


class Unreachable(Exception):
    """The site did not answer, or cannot at the moment (503)."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a browser shows in the end: where it was led, and what stands there."""

    status: int
    path: str
    text: str

    @property
    def asks_to_sign_in(self) -> bool:
        return self.status == 401 or urlsplit(self.path).path == "/login"


class Browser:
    """One browser at one place. `pace` is called before each request and may wait."""

    def __init__(self, site: str, place: Place, pace: Callable[[], None]) -> None:
        self.place = place
        self._host = urlsplit(site).netloc
        self._pace = pace
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> Page:
        """Open a page. Raises Unreachable, as `post` does."""
        return self._follow("GET", path, None)

    def post(self, page: Page, action: str, form: Form = ()) -> Page:
        """Send a form of a page, with the token that it has there."""
        token = _TOKEN.search(page.text)
        pairs = [*(form.items() if isinstance(form, Mapping) else form)]
        if token is not None:
            pairs.append(("csrf_token", token[1]))
        return self._follow("POST", action, urlencode(pairs))

    def _follow(self, method: str, path: str, body: str | None) -> Page:
        for _ in range(_REDIRECTS):
            page, location = self._ask(method, path, body)
            if location is None:
                return page
            method, path, body = "GET", location, None
        return page

    def _ask(self, method: str, path: str, body: str | None) -> tuple[Page, str | None]:
        self._pace()
        headers = {
            "User-Agent": self.place.user_agent,
            "X-Forwarded-For": self.place.ip,
            "Accept": "text/html",
        }
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={v}" for name, v in self._cookies.items())
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = f"http://{self._host}"
        connection = HTTPConnection(self._host, timeout=_PATIENCE)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, HTTPException) as error:
            raise Unreachable from error
        finally:
            connection.close()
        if response.status == 503:
            raise Unreachable
        self._keep(response.headers.get_all("Set-Cookie") or [])
        return Page(response.status, path, text), response.getheader("Location")

    def _keep(self, lines: Sequence[str]) -> None:
        for line in lines:
            for name, morsel in SimpleCookie(line).items():
                if morsel.value and morsel["max-age"] != "0":
                    self._cookies[name] = morsel.value
                else:
                    self._cookies.pop(name, None)
