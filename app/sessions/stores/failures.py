"""Tell a server that cannot work from a mistake of ours, by the exceptions of the drivers.

`breaker` calls it. The words of a Failure are shown to people and logged, so they hold neither keys
nor URLs nor anything else of the driver's text.
"""

import sqlite3
from enum import Enum

import psycopg
import pymysql  # type: ignore[import-untyped]
import redis.exceptions as redis_errors
from sqlalchemy import exc

from app.sessions.stores.budget import DeadlineExceeded


class Failure(Enum):
    """Why a server did not do what it was asked."""

    TIMED_OUT = "timed out"
    UNREACHABLE = "not reachable"
    DENIED = "refused our credentials"
    STARTING = "still starting"
    READ_ONLY = "read-only"
    FULL = "out of memory or disk space"
    LOCKED = "waited too long for a lock"
    BUSY = "too many connections"
    BROKEN = "reported a fault"

    @property
    def means_down(self) -> bool:
        """Whether the next call would fare no better; a lock wait or a full pool says nothing.

        A server that refuses to write has answered, and goes on being read.
        """
        return self not in (Failure.LOCKED, Failure.BUSY, Failure.READ_ONLY, Failure.FULL)


def failure_of(error: BaseException) -> Failure | None:
    """Return what a driver's error says about its server; None when the error is the program's."""
    if isinstance(error, DeadlineExceeded):
        return Failure.TIMED_OUT
    if isinstance(error, exc.TimeoutError):
        return Failure.BUSY
    if isinstance(error, exc.DBAPIError):
        return _of_database(error.orig) or (
            Failure.UNREACHABLE if error.connection_invalidated else None
        )
    if isinstance(error, redis_errors.RedisError | redis_errors.RedisClusterException):
        return _of_redis(error)
    return _of_database(error)


_REDIS_CODES = {
    "OOM": Failure.FULL,
    "MISCONF": Failure.READ_ONLY,
    "READONLY": Failure.READ_ONLY,
    "NOREPLICAS": Failure.READ_ONLY,
    "LOADING": Failure.STARTING,
    "MASTERDOWN": Failure.UNREACHABLE,
    "CLUSTERDOWN": Failure.UNREACHABLE,
    "TRYAGAIN": Failure.UNREACHABLE,
    "BUSY": Failure.BROKEN,
    "NOAUTH": Failure.DENIED,
    "NOPERM": Failure.DENIED,
    "WRONGPASS": Failure.DENIED,
}


_REDIS_ERRORS: tuple[tuple[type[Exception], Failure], ...] = (
    (redis_errors.TimeoutError, Failure.TIMED_OUT),
    (redis_errors.AuthenticationError, Failure.DENIED),
    (redis_errors.NoPermissionError, Failure.DENIED),
    (redis_errors.BusyLoadingError, Failure.STARTING),
    (redis_errors.MaxConnectionsError, Failure.BUSY),
    (redis_errors.ReadOnlyError, Failure.READ_ONLY),
    (redis_errors.OutOfMemoryError, Failure.FULL),
    (redis_errors.ConnectionError, Failure.UNREACHABLE),
    (redis_errors.ClusterDownError, Failure.UNREACHABLE),
    (redis_errors.TryAgainError, Failure.UNREACHABLE),
    (redis_errors.SlotNotCoveredError, Failure.UNREACHABLE),
    (redis_errors.InvalidResponse, Failure.BROKEN),
)


def _of_redis(error: Exception) -> Failure | None:
    for kind, failure in _REDIS_ERRORS:
        if isinstance(error, kind):
            return failure
    if not isinstance(error, redis_errors.ResponseError):
        return None
    # A pipeline puts words of its own before the server's: take the first code that is known.
    words = str(error).replace("-", " ").replace(":", " ").split()
    return next((_REDIS_CODES[word] for word in words if word in _REDIS_CODES), None)


def _of_database(error: BaseException | None) -> Failure | None:
    match error:
        case DeadlineExceeded():
            return Failure.TIMED_OUT
        case psycopg.Error():
            return _of_postgresql(error)
        case sqlite3.Error():
            return _of_sqlite(error)
        case pymysql.err.Error():
            return _of_mariadb(error)
    return None


_POSTGRESQL_STATES = {
    "55P03": Failure.LOCKED,
    "40P01": Failure.LOCKED,
    "40001": Failure.LOCKED,
    "57014": Failure.LOCKED,
    "25006": Failure.READ_ONLY,
    "53100": Failure.FULL,
    "53200": Failure.FULL,
    "53300": Failure.BUSY,
    "57P03": Failure.STARTING,
    "28000": Failure.DENIED,
    "28P01": Failure.DENIED,
}


def _of_postgresql(error: psycopg.Error) -> Failure | None:
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return Failure.TIMED_OUT
    if error.sqlstate in _POSTGRESQL_STATES:
        return _POSTGRESQL_STATES[error.sqlstate]
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Failure.UNREACHABLE
    return None


_SQLITE_CODES = {
    sqlite3.SQLITE_BUSY: Failure.LOCKED,
    sqlite3.SQLITE_LOCKED: Failure.LOCKED,
    sqlite3.SQLITE_INTERRUPT: Failure.LOCKED,
    sqlite3.SQLITE_READONLY: Failure.READ_ONLY,
    sqlite3.SQLITE_FULL: Failure.FULL,
    sqlite3.SQLITE_NOMEM: Failure.FULL,
    sqlite3.SQLITE_IOERR: Failure.BROKEN,
    sqlite3.SQLITE_CORRUPT: Failure.BROKEN,
    sqlite3.SQLITE_NOTADB: Failure.BROKEN,
    sqlite3.SQLITE_PROTOCOL: Failure.LOCKED,
    sqlite3.SQLITE_CANTOPEN: Failure.UNREACHABLE,
    sqlite3.SQLITE_PERM: Failure.DENIED,
    sqlite3.SQLITE_AUTH: Failure.DENIED,
}


def _of_sqlite(error: sqlite3.Error) -> Failure | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _SQLITE_CODES.get(code & 0xFF)


_MARIADB_CODES = {
    1205: Failure.LOCKED,
    1213: Failure.LOCKED,
    1020: Failure.LOCKED,
    1317: Failure.LOCKED,
    1969: Failure.LOCKED,
    1290: Failure.READ_ONLY,
    1792: Failure.READ_ONLY,
    1836: Failure.READ_ONLY,
    1021: Failure.FULL,
    1037: Failure.FULL,
    1041: Failure.FULL,
    1114: Failure.FULL,
    1040: Failure.BUSY,
    1203: Failure.BUSY,
    1226: Failure.BUSY,
    1044: Failure.DENIED,
    1045: Failure.DENIED,
    1129: Failure.DENIED,
    1130: Failure.DENIED,
    1698: Failure.DENIED,
    1030: Failure.BROKEN,
    1049: Failure.UNREACHABLE,
    1053: Failure.UNREACHABLE,
    1927: Failure.UNREACHABLE,
}


def _of_mariadb(error: pymysql.err.Error) -> Failure | None:
    code = error.args[0] if error.args else None
    if isinstance(error, pymysql.err.InterfaceError):
        return Failure.UNREACHABLE
    if not isinstance(code, int):
        return None
    if 2000 <= code < 3000:
        timed_out = isinstance(error.__cause__ or error.__context__, TimeoutError)
        return Failure.TIMED_OUT if timed_out else Failure.UNREACHABLE
    return _MARIADB_CODES.get(code)
