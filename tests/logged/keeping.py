"""Keep what the applications and servers of a test run log, for the last step of `make test`.

TEST_LOGS names the folder; without it nothing is kept. A server's log file becomes a link into the
folder before the server starts, so nothing has to be collected from a server that was killed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from logging import LogRecord
from pathlib import Path

from app import logs

FOLDER = "TEST_LOGS"
SECRETS = "secrets"
"""What the names of those files begin with that hold the secrets themselves, one a line."""

_numbers = count()


def place(log: Path, kind: str) -> None:
    """Let a log file that is about to be opened lie in the folder; after a restart it does already."""
    if (file := _file(kind)) is not None and not log.is_symlink():
        file.touch()
        log.symlink_to(file)


def keep(text: str, kind: str) -> None:
    """Keep what a process that has ended printed."""
    if text and (file := _file(kind)) is not None:
        file.write_text(text)


def note(secret: str | None) -> None:
    """Note a secret that must be in no log: a session id or a form token."""
    folder = os.environ.get(FOLDER)
    if secret and folder:
        with Path(folder, f"{SECRETS}-{os.getpid()}").open("a") as file:
            file.write(f"{secret}\n")


@contextmanager
def own_lines() -> Iterator[None]:
    """Keep the lines that applications in this process log, as they are rendered."""
    file = _file("application")
    if file is None:
        yield
        return
    rendered = logs._Handler.format
    with file.open("a", buffering=1) as lines:

        def also_kept(handler: logs._Handler, record: LogRecord) -> str:
            line = rendered(handler, record)
            lines.write(f"{line}\n")
            return line

        logs._Handler.format = also_kept  # type: ignore[method-assign]
        try:
            yield
        finally:
            logs._Handler.format = rendered  # type: ignore[method-assign]


def _file(kind: str) -> Path | None:
    folder = os.environ.get(FOLDER)
    return Path(folder, f"{kind}-{os.getpid()}-{next(_numbers)}.log") if folder else None
