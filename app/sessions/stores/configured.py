"""Build the stores that the settings give a server: a new kind of store is a line in `BUILDERS`.

`app.sessions.system` calls it. `config.STORES` has the words by which the settings choose among them.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from sqlalchemy import MetaData

from app.sessions.stores import ServedStore, Stores
from app.sessions.stores.connections import redis_client
from app.sessions.stores.engines import sql_engine
from app.sessions.stores.redis import RedisStore
from app.sessions.stores.sql import SqlStore, payload_table


class Limits(TypedDict):
    """What all engines have in common."""

    pool_size: int
    statement_timeout: float


Builder = Callable[[Mapping[str, Any], Limits], ServedStore | None]
"""Returns the store that the settings describe; None if they name no server for it. It connects nothing."""


def configured(settings: Mapping[str, Any], limits: Limits) -> Stores:
    """Return the stores of an application, under the names that the ledger's rows have."""
    built = {name: build(settings, limits) for name, build in BUILDERS.items()}
    return Stores({name: store for name, store in built.items() if store is not None})


def _redis(settings: Mapping[str, Any], _limits: Limits) -> ServedStore | None:
    if not settings["REDIS_URL"]:
        return None
    client = redis_client(settings["REDIS_URL"])
    return RedisStore("redis", client, settings["SESSION_KEY_PREFIX"])


def _sql(settings: Mapping[str, Any], limits: Limits) -> ServedStore:
    table = payload_table(settings["SESSION_SQLALCHEMY_TABLE"], MetaData())
    return SqlStore("sql", sql_engine(settings["DATABASE_URL"], **limits), table)


BUILDERS: dict[str, Builder] = {
    "redis": _redis,
    "sql": _sql,
}
