"""`make bench`: what a signed-in read costs here, beside stock Flask-Session with Flask-Login.

A request reads one value of the session and the user's name, in process, on Valkey and on SQLite.
The rounds of all contestants are interleaved, so that a slow moment of the machine hits each. Cost
is the median above that of a Flask without sessions; the ratio is what a change is judged by.
"""

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flask_login
import redis
from flask import Flask, session
from flask.sessions import SessionInterface
from flask_migrate import upgrade
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.test import Client, EnvironBuilder

from app import create_app
from app.auth.access import public
from app.auth.sign_in import sign_in
from app.extensions import db
from app.people.models import User
from tests.servers import RedisServer, valkey_binary

ROUNDS = 300
REQUESTS_IN_A_ROUND = 10
KEY = "a key of the benchmark, which guards nothing at all"

Application = Callable[..., Iterable[bytes]]


class NoSessions(SessionInterface):
    """Flask's floor: no session is opened or saved."""

    def open_session(self, *_: object) -> None:
        return None


def floor() -> Flask:
    app = Flask("floor")
    app.session_interface = NoSessions()
    app.add_url_rule("/read", view_func=lambda: "1 alice")
    return app


def rollcall(directory: Path, redis_url: str) -> Flask:
    app = create_app(
        {
            "ROLLCALL_ENV": "development",
            "SECRET_KEY": KEY,
            "DATABASE_URL": f"sqlite:///{directory}/rollcall.db",
            "REDIS_URL": redis_url,
        }
    )

    @app.get("/sign-in/<name>")
    @public
    def sign_in_as(name: str) -> str:
        sign_in(db.session.scalars(db.select(User).filter_by(name=name)).one())
        session["n"] = 1
        return name

    @app.get("/read")
    @public
    def read() -> str:
        return f"{session['n']} {flask_login.current_user.name}"

    with app.app_context():
        upgrade(directory=str(Path(app.root_path) / "migrations"))
        moment = datetime.now(UTC)
        for name, role in (("alice", "member"), ("vera", "viewer")):
            db.session.add(
                User(name=name, name_key=name, role=role, active=True, password_hash="-",
                     created_at=moment, password_changed_at=moment)
            )  # fmt: skip
        db.session.commit()
    return app


def stock(directory: Path, **store: object) -> Flask:
    app = Flask("stock")
    app.config.update(SECRET_KEY=KEY, SQLALCHEMY_DATABASE_URI=f"sqlite:///{directory}/stock.db")
    people = SQLAlchemy(app)

    class Person(people.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
        name: Mapped[str] = mapped_column(String(64))
        is_authenticated = is_active = True

        def get_id(self) -> str:
            return str(self.id)

    app.config.update(store or {"SESSION_TYPE": "sqlalchemy", "SESSION_SQLALCHEMY": people})
    Session(app)
    logins = flask_login.LoginManager(app)
    logins.user_loader(lambda user_id: people.session.get(Person, int(user_id)))

    @app.get("/sign-in/<name>")
    def sign_in_as(name: str) -> str:
        flask_login.login_user(people.session.scalars(people.select(Person)).first())
        session["n"] = 1
        return name

    @app.get("/read")
    def read() -> str:
        return f"{session['n']} {flask_login.current_user.name}"

    with app.app_context():
        people.create_all()
        people.session.merge(Person(id=1, name="alice"))
        people.session.commit()
    return app


def reader(app: Flask, name: str = "") -> Callable[[], None]:
    """Return a signed-in GET of /read, made once and repeated without a client's own cost."""
    client = Client(app)
    cookies = []
    if name:
        cookies = client.get(f"/sign-in/{name}").headers.getlist("Set-Cookie")
    cookie = "; ".join(header.partition(";")[0] for header in cookies)
    environ = EnvironBuilder("/read", headers={"Cookie": cookie}).get_environ()
    application: Application = app.wsgi_app

    def get() -> None:
        statuses: list[str] = []
        body = application(
            {**environ, "wsgi.input": io.BytesIO()}, lambda s, *_: statuses.append(s)
        )
        text = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        if statuses != ["200 OK"] or not text.startswith(b"1 "):
            sys.exit(f"{app.name} answered {statuses}: {text[:200]!r}")

    return get


def medians(contestants: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return microseconds per request."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(-20, ROUNDS):
        for name, get in contestants.items():
            begun = time.perf_counter()
            for _ in range(REQUESTS_IN_A_ROUND):
                get()
            if round_ >= 0:
                times[name].append((time.perf_counter() - begun) / REQUESTS_IN_A_ROUND * 1e6)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    server = RedisServer(valkey_binary())
    try:
        with tempfile.TemporaryDirectory() as name:
            report(measure(Path(name), server.url))
    finally:
        server.close()


def measure(directory: Path, redis_url: str) -> dict[str, float]:
    ours = rollcall(directory, redis_url)
    client = redis.Redis.from_url(redis_url)
    in_redis: dict[str, Any] = {"SESSION_TYPE": "redis", "SESSION_REDIS": client}
    contestants = {
        "floor": reader(floor()),
        "valkey, Flask-Session": reader(stock(directory, **in_redis), "alice"),
        "valkey, Rollcall": reader(ours, "alice"),
        "sqlite, Flask-Session": reader(stock(directory), "alice"),
        "sqlite, Rollcall": reader(ours, "vera"),
    }
    return medians(contestants)


def report(taken: dict[str, float]) -> None:
    print(f"signed-in read, µs at the median of {ROUNDS} rounds of {REQUESTS_IN_A_ROUND}")
    for name, micros in taken.items():
        print(f"  {name:24}{micros:8.0f}{micros - taken['floor']:+8.0f} over the floor")
    for store in ("valkey", "sqlite"):
        ours, theirs = (taken[f"{store}, {who}"] for who in ("Rollcall", "Flask-Session"))
        ratio = (ours - taken["floor"]) / (theirs - taken["floor"])
        print(f"  {store}: {ratio:.2f} of the cost of Flask-Session")


if __name__ == "__main__":
    main()
