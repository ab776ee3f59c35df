"""How gunicorn serves `wsgi:app`: threads for waiting on servers, on loopback behind a proxy."""

import sys
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


def on_starting(server: Any) -> None:
    """Say that development is no place for real people's sessions."""
    if one("ROLLCALL_ENV") == "development":
        server.log.warning(
            "DEVELOPMENT: cookies go over plain HTTP, without Secure and the __Host- prefix. "
            "Never serve other people like this; set ROLLCALL_ENV=production."
        )
