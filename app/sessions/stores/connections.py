"""Redis connections that keep the request's budget, and the clients made of them.

redis-py's own timeouts hold per read, so a server that trickles a byte at a time passes them for
ever; here each read asks the budget first. A connection that ran out of time is closed, never
reused: a late reply in it would answer the next command.
"""

import ssl
from functools import partial
from typing import Any

import redis
from redis._parsers import _HiredisParser
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from app.sessions.stores import budget
from app.sessions.stores.cluster import ClusterClient
from app.sessions.stores.redis_url import Address, Kind, RedisUrl
from app.sessions.stores.sentinel import Sentinels

LONGEST_WAIT = 5.0
"""Seconds for a connect or a read where no budget is set: the CLI and the worker."""


class BudgetParser(_HiredisParser):
    """The hiredis parser; every read from the socket may take what is left of the budget."""

    longest_wait = LONGEST_WAIT

    def on_connect(self, connection: Any, **kwargs: Any) -> None:
        super().on_connect(connection, **kwargs)  # type: ignore[no-untyped-call]
        self.longest_wait = connection.longest_wait

    def can_read(self, timeout: float = 0) -> bool:
        """Say whether an answer waits that nobody asked for; raise ConnectionError if the server left.

        Over TLS a socket that is readable may hold nothing of the server's words: TLS 1.3 sends session
        tickets after the handshake. Only reading tells.
        """
        if not isinstance(self._sock, ssl.SSLSocket) or self._reader.has_data():
            return bool(super().can_read(timeout))
        return bool(self.read_from_socket(timeout, raise_on_timeout=False))

    def read_from_socket(self, timeout: Any = None, *args: Any, **kwargs: Any) -> Any:
        longest = timeout if isinstance(timeout, int | float) else self.longest_wait
        within = budget.timeout(longest)
        return super().read_from_socket(within, *args, **kwargs)  # type: ignore[no-untyped-call]


class BudgetConnection(AbstractConnection):
    """What every kind of connection does here, mixed in before the kind.

    The constructor forces its options instead of defaulting them: RedisCluster and Sentinel build
    connections themselves and drop or replace a parser that is given as an option.
    """

    longest_wait = LONGEST_WAIT

    def __init__(self, *args: Any, **options: Any) -> None:
        self.longest_wait = options.get("socket_timeout") or LONGEST_WAIT
        options |= {
            "parser_class": BudgetParser,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "retry_on_timeout": False,
            "health_check_interval": 0,
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        super().__init__(*args, **options)

    def set_parser(self, *_: Any) -> None:
        super().set_parser(BudgetParser)  # type: ignore[no-untyped-call]

    @property
    def socket_timeout(self) -> float:
        return budget.timeout(self.longest_wait)

    @socket_timeout.setter
    def socket_timeout(self, value: float | None) -> None:
        self.longest_wait = value or LONGEST_WAIT

    @property
    def socket_connect_timeout(self) -> float:
        return budget.timeout(self.longest_wait)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        """Leave it: connecting shares the budget."""

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        if self._sock is None:
            with budget.waiting():
                self._connect_whole(*args, **kwargs)

    def _connect_whole(self, *args: Any, **kwargs: Any) -> None:
        """Connect and greet, or leave no socket: redis-py keeps one that the deadline cut short."""
        try:
            super().connect_check_health(*args, **kwargs)
        except BaseException:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise

    def send_packed_command(self, command: Any, *args: Any, **kwargs: Any) -> None:
        """Send a command's parts one by one: the socket's timeout holds for each part alone."""
        with budget.waiting():
            for part in [command] if isinstance(command, str | bytes) else command:
                self._bound_next_part()
                super().send_packed_command([part], *args, **kwargs)  # type: ignore[no-untyped-call]

    def _bound_next_part(self) -> None:
        sock: Any = self._sock
        try:
            if sock is not None:
                sock.settimeout(budget.timeout(self.longest_wait))
        except budget.DeadlineExceeded as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.TimeoutError("the request's deadline has passed") from error

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        # Sentinel's kind would keep a connection whose answer is still to come.
        with budget.waiting():
            return super().read_response(*args, **{**kwargs, "disconnect_on_error": True})


class TcpConnection(BudgetConnection, redis.Connection):
    """redis://"""


class TlsConnection(BudgetConnection, redis.SSLConnection):
    """rediss://"""


class UnixConnection(BudgetConnection, redis.UnixDomainSocketConnection):
    """unix://"""

    # redis-py reads both when a connect times out, and this kind has neither.
    host = ""
    port = 0


class SentinelConnection(BudgetConnection, SentinelManagedConnection):
    """A connection whose address Sentinel gives."""


class SentinelTlsConnection(BudgetConnection, SentinelManagedSSLConnection):
    """The same over TLS."""


class BudgetClient(redis.Redis):
    """A client that sends a command and reads its answer: redis-py's retries are off, its statistics unread."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        connection: Any = self.connection_pool.get_connection()
        try:
            connection.send_command(*args)
            return self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
        finally:
            self.connection_pool.release(connection)


_KINDS: dict[type, type[BudgetConnection]] = {
    redis.Connection: TcpConnection,
    redis.SSLConnection: TlsConnection,
    redis.UnixDomainSocketConnection: UnixConnection,
}
_SENTINEL_KINDS: dict[type, type[BudgetConnection]] = {
    TcpConnection: SentinelConnection,
    TlsConnection: SentinelTlsConnection,
}


class _SentinelPool(SentinelConnectionPool):
    """Connections to the master of the moment."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


Client = redis.Redis | ClusterClient


def redis_client(
    url: str, *, default_timeout: float = LONGEST_WAIT, max_connections: int = 64
) -> Client:
    """Return a client for any form of `REDIS_URL`, whose connections keep the budget. It connects nothing.

    `default_timeout` (seconds) holds where no budget is set, `max_connections` for each server. Its
    pools are its own: close both with `client.close()`. Raises ValueError for another scheme.
    """
    parsed = RedisUrl.parse(url)
    options = dict(parsed.options)
    kind = _KINDS[options.pop("connection_class", redis.Connection)]
    common: dict[str, Any] = {
        "socket_timeout": default_timeout,
        "max_connections": max_connections,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "protocol": 2,
    }
    at = partial(_client_at, connection_class=kind)
    if parsed.kind is Kind.CLUSTER:
        return ClusterClient(parsed.addresses, partial(at, **options | common))
    if parsed.kind is Kind.SENTINEL:
        asked = partial(at, **(parsed.sentinel_options or {}) | common)
        sentinels = Sentinels([asked(address) for address in parsed.addresses])
        pool: Any = _SentinelPool
        options |= common | {"connection_class": _SENTINEL_KINDS[kind]}
        return BudgetClient.from_pool(pool(parsed.service, sentinels, **options))
    return BudgetClient.from_pool(ConnectionPool(connection_class=kind, **options | common))


def _client_at(address: Address, **options: Any) -> redis.Redis:
    host, port = address
    return BudgetClient.from_pool(ConnectionPool(host=host, port=port, **options))
