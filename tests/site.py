"""A whole site for a test: a migrated database, stores, the cast, and browsers that sign in by the form."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from jinja2.bccache import Bucket, BytecodeCache
from sqlalchemy import create_engine, insert, make_url, select, text
from werkzeug.test import TestResponse

from app import columns, create_app
from app.columns import clock, skew
from app.extensions import db
from app.people.models import User
from app.sessions.models import PendingPurge, UserSession
from app.sessions.stores.engines import database_url
from app.sessions.system import SessionSystem, system_of
from tests.logged import keeping
from tests.servers import mariadb_connection

PASSWORD = "correct horse battery staple"
CAST = {
    "alice": "member",
    "bob": "member",
    "vera": "viewer",
    "ops": "operator",
    "otto": "auditor",
    "ada": "admin",
}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/149.0.0.0 Safari/537.36"
)
SECRET = "tests-only-0123456789abcdef0123456789abcdef"
UNHURRIED = 30.0
"""Seconds that a request may wait where a test is not about that: a busy machine stalls for some."""

_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


def settings(database: str, redis: str | None, **overrides: object) -> dict[str, object]:
    """Return the settings of a site: both stores, or with `redis` None all in SQL."""
    given: dict[str, object] = {
        "ROLLCALL_ENV": "development",
        "SECRET_KEY": SECRET,
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "REQUEST_DEADLINE": UNHURRIED,
        "TESTING": True,
    }
    if redis is None:
        given["SESSION_TYPE"] = "sqlalchemy"
        given["SESSION_STORE_BY_ROLE"] = dict.fromkeys(set(CAST.values()), "sql")
    return given | overrides


class _Compiled(BytecodeCache):
    """Templates compiled once for the sites of all tests."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


_compiled = _Compiled()


@dataclass
class Site:
    """An application with its database and the cast in it."""

    app: Flask

    def __post_init__(self) -> None:
        self.app.jinja_env.bytecode_cache = _compiled

    @property
    def system(self) -> SessionSystem:
        return system_of(self.app)

    def browser(self, user_agent: str = FIREFOX, ip: str = "127.0.0.1") -> "Browser":
        """Return a browser that is signed in nowhere."""
        return Browser(self, self.app.test_client(), user_agent, ip)

    def signed_in(self, name: str, user_agent: str = FIREFOX, ip: str = "127.0.0.1") -> "Browser":
        """Return a browser in which this person has signed in through the form."""
        browser = self.browser(user_agent, ip)
        response = browser.sign_in(name)
        assert response.status_code == 303, response.text
        return browser

    def rows(self, *where: Any) -> list[Any]:
        """Return the ledger's rows with their user's name, and whether their data waits, oldest first."""
        pending = select(PendingPurge.row_id).where(PendingPurge.row_id == UserSession.id).exists()
        query = (
            select(UserSession.__table__, User.name, pending.label("purge_pending"))
            .join(User, User.id == UserSession.user_id)
            .where(*where)
            .order_by(UserSession.id)
        )
        return list(self.system.ledger.read(query))

    def live(self, name: str) -> list[Any]:
        """Return a person's rows that have not ended."""
        return self.rows(User.name == name, UserSession.ended_at.is_(None))

    def user_id(self, name: str) -> int:
        return int(self.system.ledger.read(select(User.id).where(User.name == name))[0].id)

    def events(self, verb: str | None = None) -> list[Any]:
        """Return the trail's events, oldest first."""
        where = "" if verb is None else " WHERE verb = :verb"
        query = text(f"SELECT * FROM audit_events{where} ORDER BY id")
        return list(self.system.ledger.read(query, {} if verb is None else {"verb": verb}))

    def payload(self, row: Any) -> bytes | None:
        """Return what a row's store holds for it."""
        stored = self.system.stores[row.store].load(row.data_key)
        return None if stored is None else stored.payload

    def close(self) -> None:
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()
        self.system.close()
        self.app.extensions["rollcall.throttle"].close()


class Browser:
    """A test client that fills in forms."""

    def __init__(self, site: Site, client: FlaskClient, user_agent: str, ip: str) -> None:
        self.site = site
        self.client = client
        client.environ_base = {
            **client.environ_base,
            "HTTP_USER_AGENT": user_agent,
            "REMOTE_ADDR": ip,
        }

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, **options)

    def token(self, path: str) -> str:
        """Return the CSRF token of the form on a page."""
        found = _TOKEN.search(self.client.get(path).text)
        assert found, f"no form on {path}"
        keeping.note(found[1])
        return found[1]

    def post(
        self,
        path: str,
        data: Mapping[str, object] | None = None,
        *,
        form: str | None = None,
        **options: Any,
    ) -> TestResponse:
        """Post a form as the page at `form` (the path itself by default) offers it."""
        values = {"csrf_token": self.token(form or path), **(data or {})}
        response = self.client.post(path, data=values, **options)
        keeping.note(self.cookie)
        return response

    def sign_in(self, name: str, password: str = PASSWORD) -> TestResponse:
        return self.post("/login", {"username": name, "password": password})

    def sign_out(self) -> TestResponse:
        return self.post("/logout", form="/account/sessions")

    @property
    def cookie(self) -> str | None:
        """The session cookie's value."""
        found = self.client.get_cookie(self.site.app.config["SESSION_COOKIE_NAME"])
        return None if found is None else found.value

    def is_signed_in(self) -> bool:
        return self.client.get("/account/sessions").status_code == 200

    def revoke(self, reference: str, reason: str = "incident", **more: str) -> TestResponse:
        """End a session by its page, review and confirmation; return the receipt's page."""
        page = f"/admin/sessions/{reference}"
        frozen = self.post("/admin/revocations", {"reference": reference}, form=page)
        review = frozen.location
        confirmed = self.post(review, {"reason": reason, **more})
        assert confirmed.status_code == 303, confirmed.text
        return self.client.get(review)


@cache
def password_hash() -> str:
    """Return a hash that is quickly verified: nearly every test signs somebody in."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def migrate(app: Flask) -> None:
    """Bring the database to the newest schema and put the cast into it."""
    with app.app_context():
        upgrade()
        people = [
            {
                "name": name,
                "name_key": name,
                "role": role,
                "active": True,
                "password_hash": password_hash(),
                "created_at": clock(),
                "password_changed_at": clock(),
            }
            for name, role in CAST.items()
        ]
        with system_of(app).ledger.transaction() as tx:
            for values in people:
                tx.connection.execute(insert(User).values(values))


@contextmanager
def clock_moved(seconds: float) -> Iterator[None]:
    """Move the clock of this process for the block."""
    skew.seconds += seconds
    try:
        yield
    finally:
        skew.seconds -= seconds


def clock_at(site: Site, moment: datetime) -> AbstractContextManager[None]:
    """Move the ledger's clock to a moment for the block."""
    return clock_moved((moment - site.system.ledger.now()).total_seconds())


@contextmanager
def clock_stopped() -> Iterator[None]:
    """Let the clock of SQLite's ledgers go on for the block only where it is moved."""
    moment = datetime.now(UTC)

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return moment.astimezone(tz)

    going, columns.datetime = columns.datetime, Stopped  # type: ignore[misc]
    try:
        yield
    finally:
        columns.datetime = going  # type: ignore[misc]


def made_sqlite(folder: Path) -> Path:
    """Make a migrated SQLite file with the cast, to be copied for each test."""
    file = folder / "template.db"
    site = Site(create_app(settings(f"sqlite:///{file}", None)))
    migrate(site.app)
    site.close()
    return file


def copied_sqlite(template: Path, folder: Path) -> str:
    """Return the URL of a copy of the migrated file."""
    file = folder / "rollcall.db"
    shutil.copy(template, file)
    return f"sqlite:///{file}"


def copied_postgresql(admin_url: str, template: str, name: str) -> str:
    """Return the URL of a copy of the migrated database."""
    engine = create_engine(database_url(admin_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    engine.dispose()
    return database_url(admin_url).set(database=name).render_as_string(hide_password=False)


def copied_mariadb(admin_url: str, template: str, name: str) -> str:
    """Return the URL of a copy of the migrated database."""
    with mariadb_connection(admin_url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
        cursor.execute(f"USE `{name}`")
        cursor.execute("SET foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        cursor.execute(f"SHOW TABLES IN `{template}`")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SHOW CREATE TABLE `{template}`.`{table}`")
            cursor.execute(cursor.fetchone()[1])
            cursor.execute(f"INSERT INTO `{table}` SELECT * FROM `{template}`.`{table}`")
    return make_url(admin_url).set(database=name).render_as_string(hide_password=False)
