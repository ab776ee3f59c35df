"""`make run`: the whole site on this machine, in the foreground, ended by Ctrl-C.

The Makefile starts it as `python -m app.cli.run`. It starts what is missing (Valkey, SQLite under
instance/), migrates, creates the first administrator, and watches over web server and worker until
one of them ends or a signal comes. What it started it ends by process id, last first. `make demo`
is the same with another `Site`.
"""

import fcntl
import os
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from click import ClickException
from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy import literal, select

from app.cli import embedded
from app.cli.processes import (
    LOOK_EVERY,
    Children,
    Failed,
    Stopped,
    end,
    heed_signals,
    popen,
    stop_if_asked,
)
from app.extensions import db
from app.people.models import User
from app.sessions.ledger import DATABASE
from app.sessions.store import DataKey, StoreUnavailable
from app.sessions.stores import budget
from app.sessions.system import system_of

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 5.0
"""Seconds for a server that was given to answer at the start."""


@dataclass(frozen=True, slots=True)
class Site:
    """What is brought up: under which command, in which folder, for whom, with what beside it.

    `settle` sees to it that somebody can sign in, and returns what to print about it. `settings` hold
    where the environment does not say otherwise, `own` whatever it says, empty ones as if they were not
    set there; `companions` are Python modules with arguments.
    """

    command: str
    instance: Path
    settle: Callable[[Flask], list[str]]
    settings: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def main() -> int:
    return run(Site("make run", ROOT / "instance", _first_administrator))


def run(site: Site) -> int:
    """Bring a site up and watch over it; return the exit code."""
    heed_signals()
    os.chdir(ROOT)
    os.environ["FLASK_APP"] = "wsgi.py"
    children = Children()
    try:
        with ExitStack() as stack:
            stack.enter_context(_only_one(site))
            socket_path = _settings(site, stack)
            stack.callback(children.end)
            _bring_up(site, children, stack, socket_path)
            while True:
                children.check()
                time.sleep(LOOK_EVERY)
    except Stopped:
        say(f"Ended. Users and sessions are kept for the next `{site.command}`.")
        return 0
    except (Failed, ClickException) as error:
        text = error.format_message() if isinstance(error, ClickException) else error
        print(text, file=sys.stderr)
        return 1


def _bring_up(site: Site, children: Children, stack: ExitStack, socket_path: Path | None) -> None:
    app = ScriptInfo("wsgi.py").load_app()
    port = int(app.config["PORT"])
    _check_port(site, port)
    if socket_path:
        embedded.start(children, site.instance, socket_path)
    silent = _ask_servers(app)
    _flask("db", "upgrade")
    stack.enter_context(_shared_settings(site, app))
    welcome = [*site.settle(app), *silent]
    os.environ.pop("ADMIN_PASSWORD", None)
    children.start("web server", sys.executable, "-m", "gunicorn", "wsgi:app")
    children.start("worker", sys.executable, "-m", "flask", "worker")
    address = f"http://127.0.0.1:{port}/"
    children.wait_until(lambda: _answers(f"{address}healthz"), "The web server")
    for name, module in site.companions.items():
        children.start(name, sys.executable, "-m", *module, address)
    where = f"{app.config['SITE_NAME']} is at {address}"
    say("\n".join(["", where, *welcome, "Ctrl-C ends it.", ""]))


def _ask_servers(app: Flask) -> list[str]:
    """Return what to say of a silent Redis. Raises Failed if the database is silent: nothing goes without."""
    system = system_of(app)
    look = "Look at {}, and whether the server runs.".format
    try:
        with budget.limit(_PATIENCE):
            system.ledger.read(select(literal(1)))
        if "redis" in system.stores.names:
            with budget.limit(_PATIENCE):
                system.stores["redis"].present([DataKey("start")])
    except StoreUnavailable as error:
        if error.store == DATABASE:
            answer = f"The database does not answer ({error.detail}). {look('DATABASE_URL')}"
            raise Failed(answer) from error
        told = "whoever has their session there gets a 503 page."
        return [f"Redis does not answer ({error.detail}): {told} {look('REDIS_URL')}"]
    finally:
        system.close()
    return []


def _settings(site: Site, stack: ExitStack) -> Path | None:
    """Put what is not given into the environment; return the socket for a Valkey of our own."""
    if os.environ.get("ROLLCALL_ENV", "development") != "development":
        raise Failed(
            f"`{site.command}` is for development alone. For production see docs/deploy.md."
        )
    os.environ["ROLLCALL_ENV"] = "development"
    _disregard(site)
    if not _given("SECRET_KEY"):
        os.environ["SECRET_KEY_FILE"] = str(_secret_key(site))
    usual = {"DATABASE_URL": "sqlite:///rollcall.db", **site.settings, **site.own}
    for name, value in usual.items():
        if value and not _given(name):
            os.environ[name] = value
    if _given("REDIS_URL") or (os.environ.get("SESSION_TYPE") or "redis") != "redis":
        return None
    if not embedded.binary():
        os.environ["SESSION_TYPE"] = "sqlalchemy"
        say("There is no embedded Valkey for this platform: every session goes into the SQL store.")
        return None
    path = embedded.socket_in(site.instance, stack)
    os.environ["REDIS_URL"] = f"unix://{quote(str(path))}"
    return path


def _disregard(site: Site) -> None:
    """Take out of the environment what this site has of its own, and say so."""
    names = [given for name in site.own for given in (name, f"{name}_FILE")]
    if found := [name for name in names if os.environ.pop(name, "")]:
        say(f"`{site.command}` has its own and disregards yours: {', '.join(found)}.")


def _given(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def _secret_key(site: Site) -> Path:
    path = site.instance / "secret_key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(48))
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, from its first byte on."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)


def _flask(*arguments: str, text: str = "") -> None:
    """Run a `flask` command to its end; what it prints is shown only if it fails."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
        given.write(text.encode())
        given.seek(0)
        command = (sys.executable, "-m", "flask", *arguments)
        process = popen(*command, stdin=given, stdout=printed, stderr=subprocess.STDOUT)
        try:
            while (code := process.poll()) is None:
                stop_if_asked()
                time.sleep(LOOK_EVERY)
        finally:
            end(process)
        printed.seek(0)
        if code:
            raise Failed(f"`flask {' '.join(arguments)}` failed:\n{printed.read().decode()}")


@contextmanager
def _shared_settings(site: Site, app: Flask) -> Iterator[None]:
    """Let `.venv/bin/flask` work on the same data and servers, and show what is in force, while they run."""
    settings = [each.name for each in app.config["ROLLCALL_SETTINGS"]]
    settings.remove("ADMIN_PASSWORD")
    # Nobody else's variables go into a file.
    names = [given for name in settings for given in (name, f"{name}_FILE")]
    shared = {name: os.environ[name] for name in names if name in os.environ}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in shared.items()]
    run_env = site.instance / "run.env"
    write_private(run_env, "".join(lines))
    try:
        yield
    finally:
        run_env.unlink(missing_ok=True)


def _first_administrator(app: Flask) -> list[str]:
    """Create the first administrator if there is nobody; return what to print about signing in."""
    with app.app_context():
        somebody = db.session.scalar(select(User.id).limit(1))
        db.engine.dispose()
    if somebody is not None:
        return [
            "Sign in as before; `.venv/bin/flask users password NAME` lets in who is locked out."
        ]
    name, password = app.config["ADMIN_USERNAME"], app.config["ADMIN_PASSWORD"]
    made = "" if password else secrets.token_urlsafe(15)
    _flask(
        "users", "create", name, "--role", "admin", "--password-stdin", text=f"{password or made}\n"
    )
    return [f"Sign in as {name}" + (f" with the password {made} (shown only now)" if made else "")]


def _check_port(site: Site, port: int) -> None:
    with socket.socket() as probe:
        # As gunicorn does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(
                f"Port {port} cannot be used: {error.strerror}. "
                f"Choose another, such as PORT={port + 1} {site.command}."
            ) from error


@contextmanager
def _only_one(site: Site) -> Iterator[None]:
    """Hold the lock of this checkout; the system frees it however the process ends."""
    site.instance.mkdir(mode=0o700, exist_ok=True)
    with (site.instance / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Failed(
                f"`{site.command}` is already running here (process {lock.read()})."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as response:  # noqa: S310 -- our own loopback address
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def say(text: str) -> None:
    """Print at once, also where nobody reads line by line."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
