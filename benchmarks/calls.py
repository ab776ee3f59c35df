"""Requests to a contestant in this process, through WSGI and without a client's own cost."""

import io
import sys
from collections.abc import Callable

from flask import Flask
from werkzeug.test import Client, EnvironBuilder

Ask = Callable[[], None]
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def signed_in(app: Flask, name: str) -> str:
    """Sign a person in and return the Cookie header that says so."""
    answer = Client(app).get(f"/sign-in/{name}", headers={"User-Agent": AGENT})
    return as_header(answer.headers.getlist("Set-Cookie"))


def as_header(set_cookies: list[str]) -> str:
    return "; ".join(header.partition(";")[0] for header in set_cookies)


def called(app: Flask, path: str, cookie: str = "") -> Ask:
    """Return a GET that is made once and repeated with each call."""
    headers = {"Cookie": cookie, "User-Agent": AGENT}
    environ = EnvironBuilder(f"/{path}", headers=headers).get_environ()

    def ask() -> None:
        statuses: list[str] = []
        given = {**environ, "wsgi.input": io.BytesIO()}
        body = app.wsgi_app(given, lambda status, *_: statuses.append(status))  # type: ignore[arg-type, return-value]
        text = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        expect(app.name, path, statuses[0], text)

    return ask


def expect(peer: str, path: str, status: str, text: bytes) -> None:
    """End the benchmark at an answer that is none: it would be a quick one."""
    if not status.startswith("200") or not text[:1].isdigit():
        sys.exit(f"{peer} answered /{path} with {status}: {text[:300]!r}")
