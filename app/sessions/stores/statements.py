"""Statements of the hot path: compiled once by SQLAlchemy, then run by the driver alone.

The ledger and the SQL store use it for what every request asks. Of the time of so small a statement
SQLAlchemy's execution, its result and its connection are more than half.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

from sqlalchemy import BindParameter, Engine, Select, Update
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler

from app.sessions.stores.engines import BudgetPool

R = TypeVar("R")
Convert = Callable[[Any], Any]


class Statement(Generic[R]):
    """A SELECT or an UPDATE on an engine that autocommits. `row` makes a row of its columns in order.

    Its errors are the driver's own. A connection is used again after one only if the server sent it. Each
    connection keeps a cursor for each statement: making one costs the driver as much as a small answer.
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
        pool = self._engine.pool
        assert isinstance(pool, BudgetPool)
        lent = pool.lend()
        try:
            cursor = lent.info.get(self)
            if cursor is None:
                connection: Any = lent.dbapi_connection
                cursor = lent.info[self] = connection.cursor()
            cursor.execute(self._text, self._bound(parameters))
            return take(cursor)
        except BaseException as error:
            self._distrust(pool, lent, error)
            raise
        finally:
            pool.take_back(lent)

    def _distrust(self, pool: BudgetPool, lent: ConnectionPoolEntry, error: BaseException) -> None:
        """Keep a connection that the server answered; a lost one takes with it all that are as old."""
        dialect = self._engine.dialect
        if not isinstance(error, dialect.loaded_dbapi.Error):
            lent.invalidate()
        elif dialect.is_disconnect(error, lent.dbapi_connection, None):
            # As SQLAlchemy's own execution does: the others may lead to the same silent server.
            pool.invalidate_as_old_as(lent, error)

    def _bound(self, parameters: dict[str, object]) -> Any:
        values = [bind(parameters) for bind in self._binds]
        return values if self._names is None else dict(zip(self._names, values, strict=True))

    # Compiled at the first use, when the dialect has met its server.

    @cached_property
    def _compiled(self) -> SQLCompiler:
        compiled = self._statement.compile(dialect=self._engine.dialect)
        assert isinstance(compiled, SQLCompiler)
        return compiled

    @cached_property
    def _text(self) -> str:
        return self._compiled.string

    @cached_property
    def _names(self) -> list[str] | None:
        """What the driver calls the parameters, None if it goes by their places."""
        return None if self._compiled.positional else list(self._compiled.bind_names.values())

    @cached_property
    def _binds(self) -> list[Callable[[dict[str, object]], object]]:
        names = self._compiled.positiontup or self._names or ()
        return [self._bind(self._compiled.binds[name]) for name in names]

    def _bind(self, bind: BindParameter[Any]) -> Callable[[dict[str, object]], object]:
        dialect = self._engine.dialect
        convert = bind.type.dialect_impl(dialect).bind_processor(dialect) or _as_it_is
        if bind.callable is not None:
            asked = bind.callable
            return lambda _: convert(asked())
        if not bind.required:
            fixed = convert(bind.value)
            return lambda _: fixed
        name = bind.key
        return lambda parameters: convert(parameters[name])

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
