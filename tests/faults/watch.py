"""The clock that answers are held to."""

import time
from pathlib import Path


def seconds() -> float:
    """Return a time that stands still while this thread is ready and finds no free processor.

    That says how busy the machine is with other tests, and nothing about what is tested.
    """
    return time.monotonic() - _in_line()


def _in_line() -> float:
    """Return for how many seconds this thread has stood in line; 0 where unknown."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
