"""One deadline for all of a request's waiting: what to import to set it and to keep it.

Set it: the WSGI middleware, with `start` and `clear` (or `limit` around a block). Keep it: build
Redis clients with `redis_client` and engines with `sql_engine` and `engine_options`, and wrap what
asks a server in `answering`, so that running out of time is a StoreUnavailable like any other.
"""

from app.sessions.stores.breaker import Breaker, BreakerState, answering
from app.sessions.stores.budget import (
    DeadlineExceeded,
    charge,
    clear,
    limit,
    remaining,
    start,
    timeout,
    waiting,
)
from app.sessions.stores.connections import redis_client
from app.sessions.stores.engines import database_url, engine_options, sql_engine, transaction

__all__ = [
    "Breaker",
    "BreakerState",
    "DeadlineExceeded",
    "answering",
    "charge",
    "clear",
    "database_url",
    "engine_options",
    "limit",
    "redis_client",
    "remaining",
    "sql_engine",
    "start",
    "timeout",
    "transaction",
    "waiting",
]
