"""Payloads in a SQL table, by Core statements in autocommit.

Time is the database's own clock. A row whose time is up is absent from every method and goes with
the next `delete_expired`, which the worker calls.
"""

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError

from app.columns import FixedBinary, UtcDateTime, clock, now
from app.sessions.store import DataKey, Saved, SessionExists, StoredSession, Version
from app.sessions.stores.breaker import Breaker
from app.sessions.stores.facts import Facts, sql_facts
from app.sessions.stores.statements import Statement

VERSION_BYTES = 8
CHUNK = 500
"""Keys in one statement."""

EXPIRED_BATCH = 1000
"""Expired rows that one statement deletes, so that nobody waits long for its locks."""


def payload_table(name: str, metadata: MetaData) -> Table:
    """Describe the table of payloads. Alembic creates it, and one may stand beside another."""
    return Table(
        name,
        metadata,
        Column(
            "data_key",
            String(64)
            .with_variant(mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "mysql")
            .with_variant(mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "mariadb"),
            primary_key=True,
        ),
        Column(
            "payload",
            LargeBinary()
            .with_variant(mysql.LONGBLOB(), "mysql")
            .with_variant(mysql.LONGBLOB(), "mariadb"),
            nullable=False,
        ),
        Column("version", FixedBinary(VERSION_BYTES), nullable=False),
        Column("expires_at", UtcDateTime(), nullable=False, index=True),
    )


class SqlStore:
    """A `SessionStore` over one table. Its engine autocommits and is its own (`sql_engine`)."""

    def __init__(
        self, name: str, engine: Engine, table: Table, *, breaker: Breaker | None = None
    ) -> None:
        self.name = name
        self.breaker = breaker or Breaker(name)
        self._engine = engine
        self._table = table
        row = table.c
        key = row.data_key == bindparam("key")
        live = row.expires_at > clock()
        extended = clock("seconds")
        payload = select(row.payload, row.version).where(key, live)
        extend = update(table).where(key, live).values(expires_at=extended)
        self._load = Statement(engine, payload, _stored)
        self._extend = Statement(engine, extend, _stored)
        self._extend_and_load = Statement(
            engine, extend.returning(row.payload, row.version), _stored
        )
        self._create = insert(table).values(
            data_key=bindparam("key"),
            payload=bindparam("new_payload", type_=LargeBinary()),
            version=bindparam("new_version", type_=row.version.type),
            expires_at=extended,
        )
        unchanged = row.version == bindparam("held_version")
        replaced = {
            "payload": bindparam("new_payload", type_=LargeBinary()),
            "version": bindparam("new_version", type_=row.version.type),
        }
        save = update(table).where(key, live, unchanged).values(replaced)
        self._save = Statement(engine, save, tuple)
        self._save_extended = Statement(engine, save.values(expires_at=extended), tuple)
        among = row.data_key.in_(bindparam("keys", expanding=True))
        self._delete = self._in_key_order(table, among, live)
        self._present = select(row.data_key, row.expires_at, clock()).where(among, live)
        self._expired = (
            select(row.data_key)
            .where(row.expires_at <= now())
            .order_by(row.expires_at)
            .limit(EXPIRED_BATCH)
        )
        self._delete_expired = self._in_key_order(table, among, row.expires_at <= clock())

    def _in_key_order(
        self, table: Table, among: ColumnElement[bool], condition: ColumnElement[bool]
    ) -> Delete:
        """Delete so that two overlapping calls cannot deadlock: PostgreSQL locks in scan order."""
        key = table.c.data_key
        if self._engine.dialect.name != "postgresql":
            return delete(table).where(among, condition)
        locked = select(key).where(among, condition).order_by(key).with_for_update()
        return delete(table).where(key.in_(locked))

    def load(self, key: DataKey, *, extend_to: timedelta | None = None) -> StoredSession | None:
        """Read a payload; with `extend_to` by UPDATE RETURNING, two statements on MariaDB."""
        with self.breaker.answering("load"):
            if extend_to is None:
                return self._load.first(key=key)
            seconds = extend_to.total_seconds()
            if self._engine.dialect.update_returning:
                return self._extend_and_load.first(key=key, seconds=seconds)
            self._extend.count(key=key, seconds=seconds)
            return self._load.first(key=key)

    def create(self, key: DataKey, payload: bytes, ttl: timedelta) -> None:
        """Write a payload under a free key. Raises SessionExists, over an expired row too."""
        parameters = _written(key, payload) | {"seconds": ttl.total_seconds()}
        try:
            with self.breaker.answering("create"), self._engine.connect() as connection:
                connection.execute(self._create, parameters)
        except IntegrityError as error:
            raise SessionExists(f"{self.name} has a payload under a new data key") from error

    def save(self, key: DataKey, payload: bytes, version: Version, ttl: timedelta | None) -> Saved:
        """Replace a payload in one UPDATE; only if nothing matched, ask why."""
        parameters = _written(key, payload) | {"held_version": version}
        statement = self._save
        if ttl is not None:
            statement = self._save_extended
            parameters["seconds"] = ttl.total_seconds()
        with self.breaker.answering("save"):
            if statement.count(**parameters):
                return Saved.SAVED
            held = self._load.first(key=key)
        return Saved.GONE if held is None else Saved.CONFLICT

    def delete(self, keys: Sequence[DataKey]) -> int:
        """Delete payloads in key order, some hundreds a statement; count those that were there."""
        deleted = 0
        for chunk in _chunks(keys):
            with self.breaker.answering("delete"), self._engine.connect() as connection:
                deleted += connection.execute(self._delete, {"keys": chunk}).rowcount
        return deleted

    def present(self, keys: Sequence[DataKey]) -> dict[DataKey, timedelta]:
        """Return the time left of those payloads that exist, by the database's clock."""
        found: dict[DataKey, timedelta] = {}
        for chunk in _chunks(keys):
            with self.breaker.answering("present"), self._engine.connect() as connection:
                rows = connection.execute(self._present, {"keys": chunk}).all()
            found |= {DataKey(key): _left(until, at) for key, until, at in rows}
        return found

    def delete_expired(self) -> int:
        """Delete rows whose time is up, in batches, and return how many."""
        deleted = 0
        while True:
            with self.breaker.answering("delete_expired"), self._engine.connect() as connection:
                keys = sorted(connection.execute(self._expired).scalars())
                if keys:
                    deleted += connection.execute(self._delete_expired, {"keys": keys}).rowcount
            if len(keys) < EXPIRED_BATCH:
                return deleted

    def facts(self) -> Facts:
        """Ask the database, and count the payloads."""
        with self.breaker.answering("facts"), self._engine.connect() as connection:
            return sql_facts(connection, self._table)

    def close(self) -> None:
        """Close the engine's connections."""
        self._engine.dispose()


def _stored(payload: bytes, version: bytes) -> StoredSession:
    return StoredSession(payload, Version(version))


def _written(key: DataKey, payload: bytes) -> dict[str, object]:
    version = secrets.token_bytes(VERSION_BYTES)
    return {"key": key, "new_payload": payload, "new_version": version}


def _chunks(keys: Sequence[DataKey]) -> Iterator[list[DataKey]]:
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def _left(until: datetime, at: datetime) -> timedelta:
    return max(until - at, timedelta(0))
