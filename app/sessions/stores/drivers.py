"""Database connections that keep the request's budget: psycopg, PyMySQL and sqlite3.

`engines` hands them to SQLAlchemy. A connection that runs out of time is closed on the spot, so the
pool can never give it out again with an answer still to come.
"""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import psycopg
import pymysql  # type: ignore[import-untyped]
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_attempts, conninfo_to_dict, make_conninfo
from psycopg.errors import _WaitTimeout
from psycopg.pq import TransactionStatus
from pymysql.constants import CR, SERVER_STATUS  # type: ignore[import-untyped]

from app.columns import sqlite_now
from app.sessions.stores import budget

RV = TypeVar("RV")

LONGEST_CONNECT = 5.0
"""Seconds for connecting where no budget is set."""

LONGEST_WAIT = 3600.0
"""Seconds for an answer where no budget is set: a report or a batch of the worker may take long."""

LONGEST_BUSY_WAIT = 30.0
"""Seconds that SQLite waits for another writer where no budget is set."""

_BUSY_STEP = 10
"""Milliseconds by which SQLite may wait longer than what is left."""

_INTERVAL = 0.1

_SERVERS_SHARE = 0.8
"""The part of what is left of a budget after which the server is to end a statement itself."""

_LONG = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
_BOUNDED = tuple(word.encode() for word in _LONG)


class PostgresConnection(psycopg.Connection[Any]):
    """psycopg's connection; connecting and every wait share the budget.

    psycopg waits at least 2 seconds for a connect and has no limit of its own for an answer.
    `longest_statement` is after how many seconds the server was told to end a statement.
    """

    longest_statement: float | None = None

    @classmethod
    def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        context: Any = None,
        **options: Any,
    ) -> Self:
        parameters = conninfo_to_dict(conninfo, **options)
        with budget.waiting():
            connection = cls._first_that_answers(parameters)
        connection._autocommit = autocommit
        if context is not None:
            connection._adapters = psycopg.adapt.AdaptersMap(context.adapters)
        return connection

    @classmethod
    def _first_that_answers(cls, parameters: Any) -> Self:
        failed: psycopg.OperationalError | None = None
        for attempt in conninfo_attempts(parameters):
            try:
                within = budget.timeout(LONGEST_CONNECT)
                return waiting.wait_conn(
                    cls._connect_gen(make_conninfo("", **attempt)), _INTERVAL, within
                )
            except (budget.DeadlineExceeded, _WaitTimeout) as error:
                raise _postgres_timeout() from error
            except psycopg.OperationalError as error:
                failed = error
        raise failed or psycopg.OperationalError("no address to connect to")

    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        with budget.waiting():
            try:
                within = budget.timeout(LONGEST_WAIT if timeout is None else timeout)
                return super().wait(gen, interval, within)
            except (budget.DeadlineExceeded, _WaitTimeout) as error:
                gen.close()
                self.close()
                raise _postgres_timeout() from error

    @contextmanager
    def ending_late(self, statement: str) -> Iterator[None]:
        """Let the server end a statement, the block, before we would hang up on it, if little is left.

        Then it was slow and is not taken for dead. What begins a transaction or a savepoint is left alone:
        half of what is set around it would be rolled back.
        """
        left, longest = budget.remaining(), self.longest_statement
        if left is None or longest is None or longest <= left or not statement.startswith(_LONG):
            yield
            return
        self._end_statements_after(_SERVERS_SHARE * left)
        try:
            yield
        finally:
            # One that failed in a transaction takes the setting with it when that is rolled back.
            if self.pgconn.transaction_status in (
                TransactionStatus.IDLE,
                TransactionStatus.INTRANS,
            ):
                with suppress(psycopg.OperationalError):
                    self._end_statements_after(longest)

    def _end_statements_after(self, seconds: float) -> None:
        limit = f"SET statement_timeout = {max(1, int(1000 * seconds))}"
        self.execute(limit.encode(), prepare=False)

    def rollback(self) -> None:
        """End a transaction, if there is one: SQLAlchemy asks for it after reads as well."""
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            super().rollback()


def _postgres_timeout() -> psycopg.OperationalError:
    return psycopg.errors.ConnectionTimeout("the request's deadline has passed")


class MariaDbConnection(pymysql.connections.Connection):  # type: ignore[misc]
    """PyMySQL's connection; connecting, each write and each part of an answer share the budget.

    `longest_statement` is how many seconds the server may take for one statement of a request.
    """

    longest_statement: float | None = None
    _begun = False

    def connect(self, sock: Any = None) -> None:
        with budget.waiting():
            self.connect_timeout = budget.timeout(LONGEST_CONNECT)
            super().connect(sock)

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        if isinstance(sql, str):
            sql = sql.encode(self.encoding, "surrogateescape")
        self._begun = self._begun or sql.startswith(b"START TRANSACTION")
        affected: int = super().query(self._bounded(sql), unbuffered)
        return affected

    def _bounded(self, sql: bytes) -> bytes:
        """Let the server end a statement, a lock wait too, before we would hang up on it.

        InnoDB's own lock timeout is in whole seconds, so no use for a request.
        """
        left = budget.remaining()
        if left is None or not sql.startswith(_BOUNDED):
            return sql
        within = _SERVERS_SHARE * left
        if self.longest_statement is not None:
            within = min(within, self.longest_statement)
        return b"SET STATEMENT max_statement_time = %.3f FOR %b" % (max(within, 0.001), sql)

    def _write_bytes(self, data: bytes) -> None:
        with budget.waiting():
            self._write_timeout = self._time_left()
            super()._write_bytes(data)

    def _read_packet(self, packet_type: Any = pymysql.protocol.MysqlPacket) -> Any:
        with budget.waiting():
            return super()._read_packet(packet_type)

    def _read_bytes(self, num_bytes: int) -> bytes:
        data = b""
        while len(data) < num_bytes:
            self._read_timeout = self._current_timeout = self._time_left()
            try:
                self._sock.settimeout(self._read_timeout)
                part = self._rfile.read1(num_bytes - len(data))
            except OSError as error:
                raise self._lost() from error
            if not part:
                raise self._lost()
            data += part
        return data

    def _time_left(self) -> float:
        try:
            return budget.timeout(LONGEST_WAIT)
        except budget.DeadlineExceeded as error:
            raise self._lost() from error

    def _lost(self) -> pymysql.err.OperationalError:
        self._force_close()
        return pymysql.err.OperationalError(CR.CR_SERVER_LOST, "Lost connection during query")

    def commit(self) -> None:
        if self._in_transaction:
            super().commit()
            self._begun = False

    def rollback(self) -> None:
        if self._in_transaction:
            super().rollback()
            self._begun = False

    @property
    def _in_transaction(self) -> bool:
        """What the server said last; SQLAlchemy asks for a rollback after reads as well.

        It does not say it after INSERT … RETURNING, so where it does not autocommit it is taken to be.
        """
        said = bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)
        return said or self._begun or not self.get_autocommit()


class SqliteConnection(sqlite3.Connection):
    """sqlite3's connection; waiting for another writer shares the budget."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy_timeout = -1
        self.create_function("rollcall_now", 1, sqlite_now)

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or SqliteCursor)

    def commit(self) -> None:
        with budget.waiting():
            self.bound_busy_wait()
            super().commit()

    def bound_busy_wait(self) -> None:
        """Let SQLite's busy handler wait for what is left, in steps: telling it is a statement too."""
        left = budget.remaining()
        longest = LONGEST_BUSY_WAIT if left is None else min(left, LONGEST_BUSY_WAIT)
        milliseconds = _BUSY_STEP * math.ceil(1000 * longest / _BUSY_STEP)
        if milliseconds != self._busy_timeout:
            self._busy_timeout = milliseconds
            super().cursor().execute(f"PRAGMA busy_timeout = {milliseconds}").close()


class SqliteCursor(sqlite3.Cursor):
    """A cursor that bounds the busy wait of each statement."""

    connection: SqliteConnection

    def execute(self, *args: Any) -> Self:
        with budget.waiting():
            self.connection.bound_busy_wait()
            return super().execute(*args)

    def executemany(self, *args: Any) -> Self:
        with budget.waiting():
            self.connection.bound_busy_wait()
            return super().executemany(*args)
