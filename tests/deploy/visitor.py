"""Somebody with a browser on the other side of the proxy."""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import urlencode

from tests.deploy.plain import HOST, Plain
from tests.processes.barrier import PATIENCE
from tests.processes.web import Answer, Person
from tests.site import PASSWORD


class _Tls(HTTPSConnection):
    """TLS to the proxy's port under its name, checked against its certificate, from an address of ours."""

    def __init__(self, site: Plain, name: str, address: str) -> None:
        trusting = ssl.create_default_context(cafile=str(site.certificate))
        super().__init__("127.0.0.1", site.port, timeout=PATIENCE, source_address=(address, 0))
        self._trusting, self._name = trusting, name

    def connect(self) -> None:
        HTTPConnection.connect(self)
        plain: socket.socket = self.sock
        self.sock = self._trusting.wrap_socket(plain, server_hostname=self._name)


@dataclass
class Visitor(Person):
    """A person whose requests come from an address of 127.0.0.0/8, with headers of their choice."""

    address: str = "127.0.0.1"
    headers: Mapping[str, str] | None = None
    name: str = HOST

    def ask(
        self, web: Any, method: str, path: str, form: Mapping[str, str] | None = None
    ) -> Answer:
        headers = {"User-Agent": "tests", "Host": self.name, **(self.headers or {})}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            # As a browser does; the application compares it with what the proxy says.
            headers["Origin"] = f"https://{self.name}"
        connection = _Tls(web, self.name, self.address)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read().decode())
        finally:
            connection.close()

    def sign_in(self, site: Plain, name: str) -> Answer:
        answer = self.post(site, "/login", username=name, password=PASSWORD)
        assert answer.status == 303, answer.text
        return answer

    def is_signed_in(self, site: Plain) -> bool:
        """Say whether a page of the signed-in opens, which reads the session's data too."""
        answer = self.get(site, "/account/sessions")
        assert answer.status in {200, 303, 401}, answer
        return answer.status == 200


def header(answer: Answer, name: str) -> list[str]:
    """Return the values of a header, in their order."""
    return [value for key, value in answer.headers if key.lower() == name.lower()]
