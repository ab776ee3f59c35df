"""How gunicorn serves `wsgi:app`: threads for waiting on servers, on loopback behind a proxy."""

import os
import shutil
import sys
import tempfile
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
# Where the processes keep what they count: see app/metrics.py.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def on_starting(server: Any) -> None:
    """Say that development is no place for real people's sessions."""
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
        server.rollcall_folder = os.environ[_FOLDER] = tempfile.mkdtemp(prefix="rollcall-metrics-")


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the state of a process that has ended; its counts stay, so that sums never go back."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    """Remove the folder of the metrics if it is ours."""
    if server.rollcall_folder is not None:
        shutil.rmtree(server.rollcall_folder, ignore_errors=True)
