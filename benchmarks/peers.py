"""The contestants: the same four views over each way of keeping sessions.

`benchmarks.requests` calls them in process; gunicorn serves them by `create_app()`, which reads from
the environment which one it is.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import flask_login
import psycopg
import redis
from flask import Flask, session
from flask.sessions import SessionInterface
from flask_migrate import upgrade
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, String, insert, make_url, select
from sqlalchemy.orm import Mapped, mapped_column

from app import create_app as create_rollcall
from app.auth.access import public
from app.auth.sign_in import Verified, sign_in
from app.columns import clock
from app.people.models import User
from app.sessions.stores.engines import database_url
from app.sessions.system import system, system_of

PLACE = "BENCH_PLACE"
PEER = "BENCH_PEER"

KEY = "a key of the benchmark, which guards nothing at all"
PEOPLE = {"alice": "member", "vera": "viewer"}
_BARE_KEY = "a bare key"


@dataclass(frozen=True)
class Place:
    """Where sessions and people are kept: without a `redis` URL both in the database.

    Rollcall has a `database` of its own beside the `stock` one, on the same server.
    """

    name: str
    redis: str | None
    database: str
    stock: str

    @property
    def person(self) -> str:
        """Rollcall keeps a member's session in Redis, by its defaults, and staff's in SQL."""
        return "alice" if self.redis else "vera"


class NoSessions(SessionInterface):
    """No session is opened or saved."""

    def open_session(self, *_: object) -> None:
        return None


def floor(_place: Place) -> Flask:
    """Return a Flask with a null session: what a request costs before it has one."""
    app = Flask("floor")
    app.session_interface = NoSessions()
    for path in ("/read", "/write", "/untouched"):
        app.add_url_rule(path, path, view_func=lambda: "1 alice")
    return app


def bare(place: Place) -> Flask:
    """Return the same with the least that a session and a person cost: a GET and a SELECT, or two."""
    app = Flask("bare")
    app.session_interface = NoSessions()
    client = redis.Redis.from_url(place.redis) if place.redis else None
    if client is not None:
        client.set(_BARE_KEY, b"1")
    threads = threading.local()

    def fetch(statement: str) -> Any:
        if not hasattr(threads, "connection"):
            threads.connection = _driver(place.stock)
        return threads.connection.execute(statement).fetchone()

    @app.get("/read")
    def read() -> str:
        value = client.get(_BARE_KEY) if client else fetch("SELECT 1")
        return f"{int(value if client else value[0])} {fetch(_BARE_SELECT)[0]}"

    return app


_BARE_SELECT = "SELECT name FROM person WHERE id = 1"


def _driver(url: str) -> Any:
    if url.startswith("sqlite"):
        return sqlite3.connect(make_url(url).database or "", isolation_level=None)
    return psycopg.connect(url, autocommit=True)


def rollcall(place: Place) -> Flask:
    app = create_rollcall(
        {
            "ROLLCALL_ENV": "development",
            "SECRET_KEY": KEY,
            "DATABASE_URL": place.database,
            "REDIS_URL": place.redis,
            "SESSION_TYPE": "redis" if place.redis else "sqlalchemy",
            "SESSION_STORE_BY_ROLE": {"viewer": "sql"},
            "SESSION_LIMIT": 10,
        }
    )

    def enter(name: str) -> str:
        columns = (User.id, User.name, User.role, User.password_hash)
        (row,) = system.ledger.read(select(*columns).where(User.name == name))
        sign_in(Verified(*row))
        session["n"] = 1
        return name

    _add_views(app, enter, public)
    return app


def flask_session(place: Place, *, refresh: bool = True) -> Flask:
    """Return stock Flask-Session 0.8 with Flask-Login and its usual loader of users by the ORM."""

    def keep(app: Flask, people: SQLAlchemy) -> None:
        if place.redis:
            client = redis.Redis.from_url(place.redis)
            app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client)
        else:
            app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=people)
        app.config["SESSION_REFRESH_EACH_REQUEST"] = refresh
        Session(app)

    return _with_flask_login(place, keep)


def unrefreshed(place: Place) -> Flask:
    """Return Flask-Session with SESSION_REFRESH_EACH_REQUEST off: a read writes nothing."""
    return flask_session(place, refresh=False)


def cookie(place: Place) -> Flask:
    """Return Flask's own signed cookie with the same loader of users."""
    return _with_flask_login(place, lambda _app, _people: None)


def _with_flask_login(place: Place, keep: Callable[[Flask, SQLAlchemy], None]) -> Flask:
    app = Flask("stock")
    app.config.update(SECRET_KEY=KEY, SQLALCHEMY_DATABASE_URI=database_url(place.stock))
    people = SQLAlchemy(app)

    class Person(people.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
        name: Mapped[str] = mapped_column(String(64))
        is_authenticated = is_active = True

        def get_id(self) -> str:
            return str(self.id)

    with app.app_context():
        people.create_all()
        people.session.merge(Person(id=1, name=place.person))
        people.session.commit()
    keep(app, people)
    logins = flask_login.LoginManager(app)
    logins.user_loader(lambda user_id: people.session.get(Person, int(user_id)))

    def enter(name: str) -> str:
        flask_login.login_user(people.session.scalars(people.select(Person)).one())
        session["n"] = 1
        return name

    _add_views(app, enter)
    return app


def _add_views(
    app: Flask, enter: Callable[[str], str], mark: Callable[[Any], Any] = lambda view: view
) -> None:
    def read() -> str:
        return f"{session['n']} {flask_login.current_user.name}"

    def write() -> str:
        session["n"] += 1
        return f"{session['n']} {flask_login.current_user.name}"

    def untouched() -> str:
        return "1 somebody"

    app.add_url_rule("/sign-in/<name>", "enter", mark(enter))
    for view in (read, write, untouched):
        app.add_url_rule(f"/{view.__name__}", view.__name__, mark(view))


PEERS: dict[str, Callable[[Place], Flask]] = {
    "floor": floor,
    "bare": bare,
    "cookie": cookie,
    "flask_session": flask_session,
    "unrefreshed": unrefreshed,
    "rollcall": rollcall,
}


SIGNED_IN = ("cookie", "flask_session", "unrefreshed", "rollcall")
"""Those who have sessions."""


def prepare(place: Place) -> None:
    """Make the tables and the people of both databases."""
    app = rollcall(place)
    with app.app_context():
        upgrade(directory=str(Path(app.root_path) / "migrations"))
        with system.ledger.transaction() as tx:
            for name, role in PEOPLE.items():
                values = {"name": name, "name_key": name, "role": role, "active": True}
                values |= {"password_hash": "-", "created_at": clock()}
                values["password_changed_at"] = clock()
                tx.connection.execute(insert(User).values(values))
    system_of(app).close()
    flask_session(place)


def environment(peer: str, place: Place) -> dict[str, str]:
    """Return what tells `create_app` whom to make."""
    return {PEER: peer, PLACE: json.dumps(asdict(place))}


def create_app() -> Flask:
    """Return the contestant that the environment names."""
    return PEERS[os.environ[PEER]](Place(**json.loads(os.environ[PLACE])))
