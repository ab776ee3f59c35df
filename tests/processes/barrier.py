"""A door inside a view or a process: it announces that it has come so far and waits to be let on.

The test holds a `Barrier`; whoever waits connects to its port, says its name and reads until the test
answers. Nothing sleeps and nothing polls: both sides wait on a socket.
"""

import socket
from typing import Self

PATIENCE = 30.0
"""Seconds after which a wait is a failure: the longest that a busy machine may take."""


def wait_at(port: int, name: str) -> None:
    """Announce `name` at the test's barrier and wait until its door is opened."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as to_test:
        to_test.sendall(name.encode() + b"\n")
        if to_test.recv(1) != b"!":
            raise ConnectionError(f"the test ended before it opened {name!r}")


class Door:
    """Somebody who waits."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def open(self) -> None:
        """Let them on."""
        self._connection.sendall(b"!")
        self._connection.close()


class Barrier:
    """The test's side: who has arrived, and a door for each."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(PATIENCE)
        self._waiting: dict[str, socket.socket] = {}
        self._met: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def arrived(self, name: str) -> Door:
        """Wait until somebody of that name stands at the barrier."""
        while name not in self._waiting:
            connection, _ = self._listener.accept()
            connection.settimeout(PATIENCE)
            with connection.makefile() as line:
                self._waiting[line.readline().strip()] = connection
        self._met.append(self._waiting.pop(name))
        return Door(self._met[-1])

    def close(self) -> None:
        """Turn away whoever still waits: their wait fails."""
        self._listener.close()
        for connection in (*self._waiting.values(), *self._met):
            connection.close()
