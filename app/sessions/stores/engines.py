"""SQLAlchemy engines whose every wait keeps the request's budget.

`create_app` builds one for the ledger and one for the SQL store with `sql_engine`, and gives
Flask-SQLAlchemy the same connections through `engine_options`. Statements run in autocommit, one
message each; what must hold together runs inside `transaction`.
"""

import select
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from app.sessions.stores import budget
from app.sessions.stores.drivers import MariaDbConnection, PostgresConnection, SqliteConnection

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "mysql": "mariadb+pymysql",
    "mysql+pymysql": "mariadb+pymysql",
    "mariadb": "mariadb+pymysql",
    "mariadb+pymysql": "mariadb+pymysql",
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
}

LOCK_TIMEOUT = 0.5
"""Seconds that a statement may wait for a lock; less than the request's deadline, so that the
server answers "locked" before we hang up on it and leave the statement behind."""

LOCK_SHARE = 0.8
"""The part of a small budget that a transaction may wait for a lock."""

LONGEST_LOCK_WAIT = 30.0
"""Seconds that a transaction may wait for a lock where no budget is set: many sign-ins of one user at
once stand in line for one row."""

LONGEST_POOL_WAIT = 30.0
"""Seconds to wait for a free connection where no budget is set."""

_PLANNED_ANEW = "rollcall_planned_anew"
PLANNED_ANEW = {_PLANNED_ANEW: True}
"""The execution option of a statement that PostgreSQL plans for the values that it has each time. A
prepared one gets, after some runs, a plan for any values: right for one row, slow for a million."""

_LOCK_WAIT = "rollcall_lock_wait"


class BudgetPool(QueuePool):
    """A pool that waits no longer than the budget and gives out no connection that has ended."""

    def _do_get(self) -> ConnectionPoolEntry:
        with budget.waiting():
            entry = super()._do_get()
            if entry.dbapi_connection is not None and _is_hung_up(entry.dbapi_connection):
                entry.invalidate()
            return entry

    def lend(self) -> ConnectionPoolEntry:
        """Return a connected entry for one statement in autocommit; `take_back` must follow.

        It is `Engine.raw_connection` without what that does around transactions: a proxy and a reset.
        """
        entry: Any = self._do_get()
        try:
            connection = entry.get_connection()
            if self.dispatch.checkout:
                self.dispatch.checkout(connection, entry, None)
        except BaseException as error:
            entry._checkin_failed(error, _fairy_was_created=False)
            raise
        return cast(ConnectionPoolEntry, entry)

    def take_back(self, entry: ConnectionPoolEntry) -> None:
        """Put an entry back that `lend` returned."""
        if self.dispatch.checkin:
            self.dispatch.checkin(entry.dbapi_connection, entry)
        self._do_return_conn(entry)

    def invalidate_as_old_as(self, entry: Any, error: BaseException) -> None:
        """Close this connection, and the others of its time before they are used again."""
        if self._invalidate_time < entry.starttime:
            self._invalidate_time = time()
        entry.invalidate(error)

    @property
    def _timeout(self) -> float:
        left = budget.remaining()
        return LONGEST_POOL_WAIT if left is None else left

    @_timeout.setter
    def _timeout(self, value: float) -> None:
        """Leave it: the budget says how long."""


def _is_hung_up(connection: Any) -> bool:
    """Tell, without a message, whether an idle connection ended or holds an unread answer."""
    if isinstance(connection, PostgresConnection):
        if connection.closed:
            return True
        file = connection.fileno()
    elif isinstance(connection, MariaDbConnection):
        if connection._sock is None:
            return True
        file = connection._sock.fileno()
    else:
        return False
    poller = select.poll()
    poller.register(file, select.POLLIN)
    return bool(poller.poll(0))


def database_url(url: str) -> URL:
    """Return the URL with the driver that we use and, for SQLite, an absolute path.

    Raises ValueError for another database, and for SQLite in memory: every connection would have a
    database of its own.
    """
    try:
        parsed = make_url(url)
        driver = _DRIVERS[parsed.drivername]
    except (ArgumentError, KeyError):
        raise ValueError(
            "a database URL starts with postgresql://, mariadb://, mysql:// or sqlite:///"
        ) from None
    parsed = parsed.set(drivername=driver)
    if driver != "sqlite":
        return parsed
    path = parsed.database or ""
    if path in ("", ":memory:", "file::memory:") or parsed.query.get("mode") == "memory":
        raise ValueError(
            "SQLite in memory cannot be used: name a file, as in sqlite:////path/app.db"
        )
    if not path.startswith("file:"):
        parsed = parsed.set(database=str(Path(path).absolute()))
    return parsed


def engine_options(
    url: str,
    *,
    pool_size: int = 5,
    lock_timeout: float = LOCK_TIMEOUT,
    statement_timeout: float | None = None,
) -> dict[str, Any]:
    """Return the options that make `create_engine` use connections which keep the budget.

    They are Flask-SQLAlchemy's SQLALCHEMY_ENGINE_OPTIONS, beside `database_url(url)`. Timeouts
    are in seconds and enforced by the server (`statement_timeout` not by SQLite). Choose that one
    below the deadline: a slow query then ends on the server too and is not taken for a dead one. It
    holds for connections that a request opens (on MariaDB for its statements); the worker's and the
    commands' may take their time.
    """
    parsed = database_url(url)
    options: dict[str, Any] = {
        "creator": _connector(parsed, lock_timeout, statement_timeout),
        "poolclass": BudgetPool,
        "pool_size": pool_size,
        "max_overflow": pool_size,
        "pool_use_lifo": True,
        "hide_parameters": True,
    }
    if parsed.get_backend_name() == "postgresql":
        options["use_native_hstore"] = False
    return options


def sql_engine(
    url: str,
    *,
    pool_size: int = 5,
    lock_timeout: float = LOCK_TIMEOUT,
    statement_timeout: float | None = None,
) -> Engine:
    """Return an engine whose connections autocommit; `transaction` groups statements.

    Raises ValueError for a URL that `database_url` refuses. Nothing is connected yet.
    """
    options = engine_options(
        url, pool_size=pool_size, lock_timeout=lock_timeout, statement_timeout=statement_timeout
    )
    engine = create_engine(database_url(url), isolation_level="AUTOCOMMIT", **options)
    if engine.dialect.name == "postgresql":
        event.listen(engine, "do_execute", _execute)
    return engine


def _execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Run a statement in SQLAlchemy's place: the server ends a late one, and some are not prepared."""
    prepare = False if _PLANNED_ANEW in context.execution_options else None
    with cursor.connection.ending_late(statement):
        cursor.execute(statement, parameters, prepare=prepare)
    return True


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that takes its write lock or row locks within the budget.

    SQLite begins IMMEDIATE; PostgreSQL and MariaDB are READ COMMITTED. It commits at the end of the
    block and rolls back when the block raises.
    """
    with engine.connect() as connection, connection.begin():
        _begin(connection)
        yield connection


def _begin(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql("BEGIN")
        if (within := _lock_wait()) != LOCK_TIMEOUT:
            milliseconds = max(1, int(1000 * within))
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
    else:
        # MariaDB has no setting of a transaction's own, and counts in seconds: set it when it differs.
        # What holds a request to less is its connection, at each statement.
        seconds = max(1, round(_lock_wait()))
        if connection.info.get(_LOCK_WAIT) != seconds:
            connection.exec_driver_sql(f"SET innodb_lock_wait_timeout = {seconds}")
            connection.info[_LOCK_WAIT] = seconds
        connection.exec_driver_sql("START TRANSACTION")


def _lock_wait() -> float:
    """Return how long the transaction that begins may wait for a lock, in seconds."""
    left = budget.remaining()
    return LONGEST_LOCK_WAIT if left is None else min(LOCK_TIMEOUT, LOCK_SHARE * left)


def _connector(url: URL, lock_timeout: float, statement_timeout: float | None) -> Callable[[], Any]:
    dialect_class = url.get_dialect()
    dialect: Any = dialect_class()
    dialect.dbapi = dialect_class.import_dbapi()
    arguments, options = dialect.create_connect_args(url)
    options = dict(options)

    def postgresql() -> PostgresConnection:
        connection = PostgresConnection.connect(*arguments, autocommit=True, **options)
        try:
            # Compiling a statement takes longer than any of these should.
            limits = f"SET jit = off; SET lock_timeout = {int(lock_timeout * 1000)}"
            if statement_timeout is not None and budget.remaining() is not None:
                connection.longest_statement = statement_timeout
                limits += f"; SET statement_timeout = {int(statement_timeout * 1000)}"
            connection.execute(limits.encode(), prepare=False)
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def mariadb() -> MariaDbConnection:
        # Whatever the server's defaults are: without TRADITIONAL a text too long is cut in silence.
        given = "time_zone = '+00:00', sql_mode = 'TRADITIONAL'"
        limits = f"innodb_lock_wait_timeout = {max(1, round(lock_timeout))}"
        connection = MariaDbConnection(*arguments, **options, init_command=f"SET {given}, {limits}")
        connection.longest_statement = statement_timeout
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        except BaseException:
            connection.close()
            raise
        return connection

    def sqlite() -> SqliteConnection:
        settings = options | {"timeout": 0, "check_same_thread": False}
        connection = SqliteConnection(*arguments, **settings)
        try:
            _prepare_sqlite(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    connectors: dict[str, Callable[[], Any]] = {"postgresql": postgresql, "sqlite": sqlite}
    return connectors.get(url.get_backend_name(), mariadb)


def _prepare_sqlite(connection: SqliteConnection) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA foreign_keys = ON")
        (mode,) = cursor.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            # Read-only; or another connection is switching just now, and that holds for this one.
            with suppress(sqlite3.OperationalError):
                cursor.execute("PRAGMA journal_mode = WAL").fetchall()
