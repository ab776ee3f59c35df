"""A TCP proxy on loopback that misbehaves on demand: what a network does to a store."""

import socket
import struct
import threading
from contextlib import suppress
from enum import Enum, auto
from typing import Self

from tests.servers import free_port


class Mode(Enum):
    """How the proxy treats connections, those that are open and those to come."""

    PASS = auto()
    REFUSE = auto()
    HANG = auto()
    RESET = auto()
    TRICKLE = auto()


class Proxy:
    """Forward one port to a server; `switch` changes its manners at run time.

    HANG accepts and forwards nothing. TRICKLE passes the server's bytes one at a time, `pause`
    seconds apart. RESET ends open connections with a TCP reset, and each new one as it comes.
    """

    def __init__(self, target_port: int, *, pause: float = 0.05) -> None:
        self._target = ("127.0.0.1", target_port)
        self._pause = pause
        self._mode = Mode.PASS
        self._changed = threading.Condition()
        self._closed = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        # Not one that the kernel gives out: while it refuses, another connection might take it.
        self.port = free_port()
        self._listener = self._listen(self.port)
        self._spawn(self._accept, self._listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def switch(self, mode: Mode) -> None:
        with self._changed:
            was, self._mode = self._mode, mode
            self._changed.notify_all()
        if mode is Mode.REFUSE or mode is Mode.RESET:
            self._reset_all()
        if mode is Mode.REFUSE:
            _close(self._listener)
        elif was is Mode.REFUSE:
            self._listener = self._listen(self.port)
            self._spawn(self._accept, self._listener)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        _close(self._listener)
        self._reset_all()
        for thread in self._threads:
            thread.join(5)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        return listener

    def _spawn(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._mode is Mode.RESET:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self._target, 5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            self._open |= {client, server}
            self._spawn(self._pump, client, server, False)
            self._spawn(self._pump, server, client, True)

    def _pump(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        try:
            while data := source.recv(65536):
                self._forward(sink, data, from_server)
        except OSError:
            pass
        finally:
            self._open -= {source, sink}
            _close(source)
            _close(sink)

    def _forward(self, sink: socket.socket, data: bytes, from_server: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._mode is not Mode.HANG)
        while data and self._mode is Mode.TRICKLE and from_server and not self._closed:
            sink.sendall(data[:1])
            data = data[1:]
            with self._changed:
                self._changed.wait(self._pause)
        sink.sendall(data)

    def _reset_all(self) -> None:
        for each in list(self._open):
            _reset(each)


def _reset(each: socket.socket) -> None:
    with suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Shutting down for reading only wakes the thread that reads; the close then sends the reset.
    with suppress(OSError):
        each.shutdown(socket.SHUT_RD)
    each.close()


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
