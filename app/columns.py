"""Column types and the database's clock, for every table of the application.

Times are aware UTC datetimes with microseconds in Python and in the database. "Now" is always the
database's own clock, read in the statement that needs it: web servers' clocks may differ.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BINARY,
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Double,
    Integer,
    LargeBinary,
    Row,
    bindparam,
    literal_column,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

AnyRow = Row[*tuple[Any, ...]]
"""A row whose columns are known by name."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime with microseconds; a naive one is refused."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored: use datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class FixedBinary(TypeDecorator[bytes]):
    """Exactly `length` bytes: BINARY(n) on MariaDB, BYTEA and BLOB elsewhere."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(BINARY(self.length))
        return dialect.type_descriptor(LargeBinary())


@compiles(CreateTable, "mysql")
@compiles(CreateTable, "mariadb")
def _compared_by_code_point(element: CreateTable, compiler: DDLCompiler, **kw: Any) -> str:
    """Keep text as the other databases do, whatever the server's default: `álice` is not `alice`."""
    table = compiler.visit_create_table(element, **kw).rstrip()  # type: ignore[no-untyped-call]
    return f"{table} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"


class clock(FunctionElement[datetime]):  # noqa: N801 - it reads as SQL
    """The database's clock, `seconds` from now, or as many as a parameter of that name says.

    It is never SQL's `now()`, which predates a lock wait.
    """

    type = UtcDateTime()
    name = "clock"
    inherit_cache = True

    def __init__(self, seconds: float | str = 0.0) -> None:
        fixed = 0.0 if isinstance(seconds, str) else seconds
        offset: ColumnElement[float] = bindparam(
            None, callable_=lambda: skew.seconds + fixed, type_=Double(), unique=True
        )
        if isinstance(seconds, str):
            offset += bindparam(seconds, type_=Double())
        super().__init__(offset)


@dataclass
class Skew:
    """How far the clock of this process is moved, in seconds: by tests, and to make the demo's past."""

    seconds: float = 0.0


skew = Skew()


@compiles(clock, "postgresql")
def _postgresql(element: clock, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(clock, "sqlite")
def _sqlite(element: clock, compiler: SQLCompiler, **kw: Any) -> str:
    return f"rollcall_now({compiler.process(element.clauses, **kw)})"


@compiles(clock, "mysql")
@compiles(clock, "mariadb")
def _mariadb(element: clock, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(SYSDATE(6) + INTERVAL {compiler.process(element.clauses, **kw)} SECOND)"


def sqlite_now(seconds: float) -> str:
    """Answer SQLite's `rollcall_now`, in the text form in which SQLAlchemy stores a time there."""
    moment = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=seconds)
    return moment.isoformat(" ", "microseconds")


class now(clock):  # noqa: N801 - it reads as SQL, like clock
    """The clock, read once a statement and not once a row, so that an index can be used.

    On PostgreSQL it is when the statement began and no subquery: the planner knows how many rows that is.
    """

    inherit_cache = True


@compiles(now, "postgresql")
def _postgresql_once(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return _postgresql(element, compiler, **kw).replace("clock_timestamp", "statement_timestamp")


@compiles(now, "sqlite")
def _sqlite_once(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(SELECT {_sqlite(element, compiler, **kw)})"


@compiles(now, "mysql")
@compiles(now, "mariadb")
def _mariadb_once(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(SELECT {_mariadb(element, compiler, **kw)})"


class bucket(FunctionElement[int]):  # noqa: N801 - it reads as SQL
    """The number, counted from 1970 on, of the stretch of so many seconds that a time lies in: to group by.

    The seconds are written into the statement: with a parameter, PostgreSQL takes the same words in SELECT
    and GROUP BY for two.
    """

    type = BigInteger()
    name = "bucket"
    inherit_cache = True

    def __init__(self, time: Any, seconds: int) -> None:
        super().__init__(time, literal_column(str(int(seconds))))


@compiles(bucket, "postgresql")
def _postgresql_bucket(element: bucket, compiler: SQLCompiler, **kw: Any) -> str:
    time, seconds = (compiler.process(clause, **kw) for clause in element.clauses)
    # date_part, for extract's numeric takes several times as long to divide.
    return f"CAST(floor(date_part('epoch', {time}) / {seconds}) AS bigint)"


@compiles(bucket, "sqlite")
def _sqlite_bucket(element: bucket, compiler: SQLCompiler, **kw: Any) -> str:
    time, seconds = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(CAST(strftime('%s', {time}) AS INTEGER) / {seconds})"


@compiles(bucket, "mysql")
@compiles(bucket, "mariadb")
def _mariadb_bucket(element: bucket, compiler: SQLCompiler, **kw: Any) -> str:
    time, seconds = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(TIMESTAMPDIFF(SECOND, '1970-01-01', {time}) DIV {seconds})"


Id = BigInteger().with_variant(Integer(), "sqlite")
"""The type of every surrogate key; SQLite counts up only in an INTEGER."""
