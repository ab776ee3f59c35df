"""Processes that `make run` and `make demo` start, watch over and end by their ids.

Nothing is ended by name, and on Linux nothing outlives a supervisor that was killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

LOOK_EVERY = 0.1
_START_WITHIN = 60.0
_END_WITHIN = 15.0


class Failed(Exception):
    """The site cannot start or go on; the message is for the person at the terminal."""


class Stopped(Exception):
    """A signal asked for the end."""


class Children:
    """The processes that were started, in order."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        self._running[name] = popen(*command, stdin=subprocess.DEVNULL)

    def check(self) -> None:
        """Raise Stopped if the end was asked for, Failed if one of them has ended by itself."""
        stop_if_asked()
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise Failed(f"The {name} ended by itself (exit code {code}); ending the rest.")

    def end(self) -> None:
        for process in reversed(self._running.values()):
            end(process)

    def wait_until(self, ready: Callable[[], bool], who: str) -> None:
        deadline = time.monotonic() + _START_WITHIN
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise Failed(f"{who} did not answer within {_START_WITHIN:.0f} seconds.")
            time.sleep(LOOK_EVERY)


def heed_signals() -> None:
    """From now on a signal that asks for the end makes `stop_if_asked` raise."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ask_to_stop)


def popen(*command: str, **streams: Any) -> "subprocess.Popen[bytes]":
    # A group of its own: the terminal's Ctrl-C is for the supervisor, which ends all in order.
    return subprocess.Popen(
        command,
        process_group=0,
        preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509 -- there is one thread
        **streams,
    )


def _end_with(parent: int) -> Callable[[], None] | None:
    """Return what makes a child end when its parent is killed. Linux alone can promise it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, prctl(2)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


_asked_to_stop = False


def _ask_to_stop(_number: int, _frame: FrameType | None) -> None:
    # Only noted, so that no process is half started; everything that waits looks at it.
    global _asked_to_stop  # noqa: PLW0603 -- a signal handler has nothing else to write to
    _asked_to_stop = True


def stop_if_asked() -> None:
    if _asked_to_stop:
        raise Stopped
