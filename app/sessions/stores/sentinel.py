"""Asks Sentinels for the master within the request's budget: a connection asks when it connects.

redis-py's own `Sentinel` makes connections that do not keep the budget, and asks a Sentinel that hangs
first each time, with all of it.
"""

from collections.abc import Sequence
from typing import Any

import redis
from redis.sentinel import MasterNotFoundError

from app.sessions.stores import budget
from app.sessions.stores.redis_url import Address

ASKING_FOR = 0.2
"""Seconds of the budget that one Sentinel has to answer, before the next is asked."""


class Sentinels:
    """The manager that redis-py's SentinelConnectionPool wants."""

    def __init__(self, clients: Sequence[redis.Redis]) -> None:
        self._clients = tuple(clients)

    def discover_master(self, service: str) -> Address:
        """Return the master's address; raise MasterNotFoundError while it is down and none is elected.

        If no Sentinel answers at all, the last one's error is raised.
        """
        failed: Exception | None = None
        for client in self._clients:
            try:
                with budget.within(ASKING_FOR):
                    masters: Any = client.sentinel_masters()
            except (redis.RedisError, OSError) as error:
                failed = failed or error
                self._ask_last(client)
                continue
            state = masters.get(service)
            if state and state["is_master"] and not (state["is_sdown"] or state["is_odown"]):
                return str(state["ip"]), int(state["port"])
            failed = MasterNotFoundError("the Sentinels know no master that is up")
        raise failed or MasterNotFoundError("no Sentinel to ask")

    def close(self) -> None:
        """Close the connections to the Sentinels."""
        for client in self._clients:
            client.close()

    def _ask_last(self, silent: redis.Redis) -> None:
        others = [client for client in self._clients if client is not silent]
        self._clients = (*others, silent)
