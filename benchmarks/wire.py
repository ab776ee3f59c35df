"""Requests over the wire: each contestant behind the same gunicorn, one worker, one kept connection."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.peers import Place
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 30.0
_IDLE = "120"
"""Seconds that a connection is kept open between two rounds."""


class Served:
    """A contestant behind gunicorn on a loopback port."""

    def __init__(self, peer: str, place: Place) -> None:
        self.port = free_port()
        command = ["gunicorn", "--threads", "4", "--keep-alive", _IDLE, "--log-level", "warning"]
        environ = {"PORT": str(self.port), "WEB_CONCURRENCY": "1", "ROLLCALL_ENV": "development"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command, "benchmarks.peers:create_app()"],
            cwd=ROOT,
            env={**os.environ, **environ, **peers.environment(peer, place)},
            stderr=subprocess.DEVNULL,
        )

    def connect(self) -> "Connection":
        """Return a kept connection, as soon as somebody answers."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return Connection(self.port)
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE)


class Connection:
    """HTTP/1.1 on a socket: no more of a client than a measurement needs."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Send a request and return the answer's head and body."""
        self._socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._part()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(body) < length:
            body += self._part()
        return head, body

    def _part(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise ConnectionError("the server hung up")
        return part

    def close(self) -> None:
        self._socket.close()


def get(path: str, cookie: str = "") -> bytes:
    """Return the bytes of a GET."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "User-Agent: benchmark"]
    return "\r\n".join([*lines, *([f"Cookie: {cookie}"] if cookie else []), "", ""]).encode()
