"""Slow down guessing without locking the victim out (ASVS 6.3.1).

Failures count, per name and network and per network, in a moving window. A network from which the
name signed in lately has more tries: somebody else's guesses from there do not lock its owner out.
Counters live in Redis under a key space of their own; while Redis is silent, in this process.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from typing import TypeVar, cast

from flask import Flask, current_app
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from app import metrics
from app.sessions.store import StoreUnavailable
from app.sessions.stores import budget
from app.sessions.stores.breaker import Breaker
from app.sessions.stores.connections import Client, redis_client

T = TypeVar("T")

_KEY = "rollcall.throttle"
_WINDOW = 15
PER_NAME = RateLimitItemPerMinute(10, _WINDOW)
PER_KNOWN_NAME = RateLimitItemPerMinute(50, _WINDOW)
PER_NETWORK = RateLimitItemPerMinute(100, _WINDOW)
_PATIENCE = 0.2


class Throttled(Exception):
    """Too many failures lately. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"try again in {retry_after} seconds")
        self.retry_after = retry_after


class Throttle:
    """Counts failed sign-ins. `redis` is None where everything runs on SQL."""

    def __init__(self, redis: Client | None, prefix: str) -> None:
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._shared = None
        self._redis = redis
        self._breaker = Breaker("throttle", open_for=5.0)
        if redis is not None:
            self._shared = MovingWindowRateLimiter(_counters_in(redis, prefix))

    def check(self, name_key: str, ip: str, *, known: bool) -> None:
        """Raise Throttled if this name may not be tried from this network now."""
        for item, keys in _counters(name_key, ip, known=known):
            if not self.ask(partial(_test, item, keys)):
                metrics.add(metrics.THROTTLED)
                raise Throttled(self.ask(partial(_wait, item, keys)))

    def failed(self, name_key: str, ip: str, *, known: bool) -> None:
        """Count a failure."""
        for item, keys in _counters(name_key, ip, known=known):
            self.ask(partial(_hit, item, keys))

    def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            self._redis.close()

    def ask(self, question: Callable[[MovingWindowRateLimiter], T]) -> T:
        """Ask the shared counters, or within 0.2 seconds those of this process."""
        if self._shared is None:
            return question(self._own)
        try:
            with self._breaker.answering("count"), budget.within(_PATIENCE):
                return question(self._shared)
        except StoreUnavailable:
            return question(self._own)


def _counters_in(redis: Client, prefix: str) -> RedisStorage:
    """Return limits' counters over our client; its own kinds of Redis have connections of their own."""
    storage = RedisStorage("redis://", key_prefix=prefix)
    storage.storage = redis
    storage.initialize_storage("redis://")
    return storage


def init_app(app: Flask) -> None:
    """Make the application's throttle; its counters share the Redis server of the settings, if any."""
    url = app.config["REDIS_URL"]
    client = redis_client(url) if url else None
    app.extensions[_KEY] = Throttle(client, "rollcall:throttle")


def throttle() -> Throttle:
    """Return the application's throttle."""
    return throttle_of(current_app)


def throttle_of(app: Flask) -> Throttle:
    """Return an application's throttle, outside a context too."""
    return cast(Throttle, app.extensions[_KEY])


def network_of(ip: str, of_ipv6: int = 64) -> str:
    """Return the network that stands for an address: a /24 of IPv4, a /64 of IPv6 or as wide as asked."""
    address = ip.split("%", maxsplit=1)[0]
    return str(ip_network(f"{address}/{of_ipv6 if ':' in address else 24}", strict=False))


Keys = tuple[str, ...]


def _counters(name_key: str, ip: str, *, known: bool) -> tuple[tuple[RateLimitItem, Keys], ...]:
    network = network_of(ip)
    per_name = PER_KNOWN_NAME if known else PER_NAME
    of_name = (per_name, ("name", name_key, network))
    return (of_name,) if known else (of_name, (PER_NETWORK, ("network", network)))


def _test(item: RateLimitItem, keys: Keys, limiter: MovingWindowRateLimiter) -> bool:
    return limiter.test(item, *keys)


def _hit(item: RateLimitItem, keys: Keys, limiter: MovingWindowRateLimiter) -> bool:
    return limiter.hit(item, *keys)


def _wait(item: RateLimitItem, keys: Keys, limiter: MovingWindowRateLimiter) -> int:
    reset = limiter.get_window_stats(item, *keys).reset_time
    return max(1, math.ceil(reset - time.time()))
