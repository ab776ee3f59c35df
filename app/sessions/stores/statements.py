"""Statements of the hot path: compiled once by SQLAlchemy, then run by the driver alone.

The ledger and the SQL store use it for what every request asks. Of the time of so small a statement
SQLAlchemy's execution, its result and its connection are more than half.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

from sqlalchemy import BindParameter, Engine, PoolProxiedConnection, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler

R = TypeVar("R")
Convert = Callable[[Any], Any]


class Statement(Generic[R]):
    """A SELECT or an UPDATE on an engine that autocommits. `row` makes a row of its columns in order.

    Its errors are the driver's own. A connection is used again after one only if the server sent it.
    """

    def __init__(
        self, engine: Engine, statement: Select[*tuple[Any, ...]] | Update, row: Callable[..., R]
    ) -> None:
        self._engine = engine
        self._statement = statement
        self._row = row

    def first(self, **parameters: object) -> R | None:
        """Return its first row, if there is one."""
        found = self._run(parameters, _fetch)
        if not found:
            return None
        values = list(found[0])
        for at, convert in self._results:
            values[at] = convert(values[at])
        return self._row(*values)

    def count(self, **parameters: object) -> int:
        """Return how many rows it changed."""
        changed: int = self._run(parameters, _count)
        return changed

    def _run(self, parameters: dict[str, object], take: Callable[[Any], Any]) -> Any:
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(self._compiled.string, self._bound(parameters))
            taken = take(cursor)
            cursor.close()
            return taken
        except BaseException as error:
            self._distrust(connection, error)
            raise
        finally:
            connection.close()

    def _distrust(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """Keep a connection that the server answered; a lost one takes with it all that are as old."""
        dialect = self._engine.dialect
        if not isinstance(error, dialect.loaded_dbapi.Error):
            connection.invalidate()
        elif dialect.is_disconnect(error, connection, None):
            # As SQLAlchemy's own execution does: the others may lead to the same silent server.
            self._engine.pool._invalidate(connection, error)

    def _bound(self, parameters: dict[str, object]) -> Any:
        values = [bind(parameters) for bind in self._binds]
        return values if self._compiled.positional else dict(zip(self._names, values, strict=True))

    # Compiled at the first use, when the dialect has met its server.

    @cached_property
    def _compiled(self) -> SQLCompiler:
        compiled = self._statement.compile(dialect=self._engine.dialect)
        assert isinstance(compiled, SQLCompiler)
        return compiled

    @cached_property
    def _names(self) -> list[str]:
        compiled = self._compiled
        return list(compiled.positiontup or () if compiled.positional else compiled.binds)

    @cached_property
    def _binds(self) -> list[Callable[[dict[str, object]], object]]:
        return [self._bind(self._compiled.binds[name]) for name in self._names]

    def _bind(self, bind: BindParameter[Any]) -> Callable[[dict[str, object]], object]:
        dialect = self._engine.dialect
        convert = bind.type.dialect_impl(dialect).bind_processor(dialect) or _as_it_is
        if not bind.required:
            return lambda _: convert(bind.effective_value)
        return lambda parameters: convert(parameters[bind.key])

    @cached_property
    def _results(self) -> list[tuple[int, Convert]]:
        dialect = self._engine.dialect
        columns = self._statement.exported_columns
        found = (
            each.type.dialect_impl(dialect).result_processor(dialect, None) for each in columns
        )
        return [(at, convert) for at, convert in enumerate(found) if convert is not None]


def _fetch(cursor: Any) -> Any:
    return cursor.fetchall()


def _count(cursor: Any) -> Any:
    return cursor.rowcount


def _as_it_is(value: object) -> object:
    return value
