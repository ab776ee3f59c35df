"""How gunicorn serves `wsgi:app`: threads for waiting on servers, on loopback behind a proxy."""

import fcntl
import itertools
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

# gunicorn reads this file before it puts the application's folder on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

# By name: `config` itself is the name of a setting of gunicorn's.
from config import ConfigError, one

try:
    bind = f"127.0.0.1:{one('PORT')}"
    workers = one("WEB_CONCURRENCY")
except ConfigError as error:
    raise SystemExit(f"Error: {error.message}") from None
worker_class = "gthread"
threads = 4
graceful_timeout = 10
# Whom to believe about the client's address and scheme is TRUSTED_PROXIES' to say, not gunicorn's.
forwarded_allow_ips = ""
# A socket in the home directory, shared by every gunicorn of the same user.
control_socket_disable = True
# Where the processes keep what they count, and under which name each: see app/metrics.py.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SLOT = "ROLLCALL_METRICS_SLOT"
_OURS = "rollcall-metrics-"


def on_starting(server: Any) -> None:
    """Say that development is no place for real people's sessions, and that counts need no preloading."""
    if server.cfg.preload_app:
        raise SystemExit(
            "Error: preload_app: each worker imports the application, or it counts nothing."
        )
    if one("ROLLCALL_ENV") == "development":
        server.log.warning(
            "DEVELOPMENT: cookies go over plain HTTP, without Secure and the __Host- prefix. "
            "Never serve other people like this; set ROLLCALL_ENV=production."
        )


def when_ready(server: Any) -> None:
    """Make the folder of the metrics, before there are processes that count."""
    # Remembered by the server, which a reload of this file does not forget.
    server.rollcall_folder = None
    if named := os.environ.get(_FOLDER):
        Path(named).mkdir(parents=True, exist_ok=True)
    else:
        _sweep()
        server.rollcall_folder, server.rollcall_lock = _own_folder()
        os.environ[_FOLDER] = server.rollcall_folder


def _own_folder() -> tuple[str, int]:
    """Return a new folder and its lock, which ends with the master and its last worker."""
    while True:
        folder = tempfile.mkdtemp(prefix=_OURS)
        # Another master's sweep may come between the making and the locking.
        with suppress(FileNotFoundError, BlockingIOError):
            lock = _locked(folder)
            if os.path.samestat(os.fstat(lock), Path(folder).stat()):
                return folder, lock
            os.close(lock)


def _locked(folder: str | Path) -> int:
    """Lock a folder by a descriptor. Raises OSError if somebody else holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep() -> None:
    """Remove what masters that were killed have left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_OURS}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.geteuid():
                continue
            lock = _locked(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a new process the lowest name that is free: it counts on where the one before it ended.

    So there are never more files than processes at a time, and no sum goes back. Of two masters that
    share a named folder, as during an upgrade by USR2, each has names of its own.
    """
    taken = {other.rollcall_slot for other in server.WORKERS.values()}
    names = (f"{os.getpid()}-{number}" for number in itertools.count())
    worker.rollcall_slot = next(name for name in names if name not in taken)
    os.environ[_SLOT] = worker.rollcall_slot


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the state of a process that has ended; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.rollcall_slot)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    """Remove the folder of the metrics if it is ours."""
    if server.rollcall_folder is not None:
        shutil.rmtree(server.rollcall_folder, ignore_errors=True)
