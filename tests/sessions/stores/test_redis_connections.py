"""Connections to Redis over TLS, with a password, by socket: none is given out that was not greeted whole."""

import select
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis

from app.sessions.store import DataKey, StoreUnavailable
from app.sessions.stores import budget
from app.sessions.stores.connections import BudgetConnection, redis_client
from app.sessions.stores.redis import RedisStore
from tests.faults.proxy import Mode, Proxy
from tests.redis_servers import PASSWORD, PasswordRedis, TlsRedis
from tests.servers import RedisServer, wait_until

KEY = DataKey("a" * 32)
BOUND = 1.0


@contextmanager
def connected(url: str) -> Iterator[BudgetConnection]:
    """A connection of the client for a URL, open and with nothing asked yet."""
    with closing(redis_client(url)) as client:
        connection = client.connection_pool.make_connection()  # type: ignore[union-attr]
        connection.connect()
        yield connection
        connection.disconnect()


def has_bytes(connection: Any) -> bool:
    return bool(select.select([connection._sock], [], [], 0)[0])


def test_session_tickets_of_tls_are_no_answer(tls_redis: TlsRedis) -> None:
    with connected(tls_redis.url) as connection:
        wait_until(lambda: has_bytes(connection))
        assert not connection.can_read()
        connection.send_command("PING")
        assert connection.read_response() == b"PONG"


def test_an_answer_that_nobody_read_is_noticed_over_tls(tls_redis: TlsRedis) -> None:
    with connected(tls_redis.url) as connection:
        connection.send_command("PING")
        wait_until(connection.can_read)
        assert connection.read_response() == b"PONG"
        assert not connection.can_read()


def test_a_tls_connection_is_used_again(tls_redis: TlsRedis) -> None:
    with closing(redis_client(tls_redis.url)) as client, tls_redis.client() as plain:
        client.ping()
        before = plain.info("stats")["total_connections_received"]
        for _ in range(20):
            client.ping()
        assert plain.info("stats")["total_connections_received"] == before


@pytest.mark.parametrize("server", ["tls_redis", "redis_server"])
def test_a_server_that_has_left_is_noticed_before_the_next_command(
    server: str, request: pytest.FixtureRequest
) -> None:
    running: RedisServer = request.getfixturevalue(server)
    with connected(running.url) as connection:
        running.restart()
        with pytest.raises(redis.ConnectionError):
            connection.can_read()


def test_a_certificate_of_nobody_that_we_know_is_refused(tls_redis: TlsRedis) -> None:
    client = redis_client(f"rediss://127.0.0.1:{tls_redis.port}")
    with closing(RedisStore("redis", client, "session:")) as store:
        with pytest.raises(StoreUnavailable, match="not reachable"):
            store.load(KEY)


@pytest.mark.parametrize("who", [":wrong@", "rollcall:wrong@", "nobody:wrong@", ""])
def test_a_wrong_password_is_a_server_that_refuses_us(
    password_redis: PasswordRedis, who: str
) -> None:
    client = redis_client(f"redis://{who}127.0.0.1:{password_redis.port}/0")
    with closing(RedisStore("redis", client, "session:")) as store:
        with pytest.raises(StoreUnavailable, match="refused our credentials"):
            store.load(KEY)


class OutOfTimeOnce(redis.CredentialProvider):
    """Credentials that come when the request's time has just run out, the first time."""

    def __init__(self) -> None:
        self.late = True

    def get_credentials(self) -> tuple[str, str]:
        late, self.late = self.late, False
        if late:
            raise budget.DeadlineExceeded
        return "default", PASSWORD


@pytest.mark.parametrize("server", ["password_redis", "sentinels"])
def test_a_connection_cut_short_before_its_password_is_not_used(
    server: str, request: pytest.FixtureRequest
) -> None:
    with closing(redis_client(request.getfixturevalue(server).url)) as client:
        options = client.connection_pool.connection_kwargs  # type: ignore[union-attr]
        options |= {"username": None, "password": None, "credential_provider": OutOfTimeOnce()}
        with pytest.raises(TimeoutError):
            client.ping()
        assert client.ping()


@pytest.mark.parametrize("fault", [Mode.HANG, Mode.TRICKLE], ids=["hang", "trickle"])
@pytest.mark.parametrize("server", ["password_redis", "tls_redis"])
def test_a_greeting_that_takes_too_long_ends_in_time_and_the_next_is_whole(
    server: str, fault: Mode, request: pytest.FixtureRequest
) -> None:
    running: RedisServer = request.getfixturevalue(server)
    with Proxy(running.port, pause=0.02) as proxy:
        url = running.url.replace(str(running.port), str(proxy.port))
        with closing(redis_client(url)) as client:
            proxy.switch(fault)
            for seconds in (0.02, 0.04, 0.06, 0.08, 0.1):
                began = time.monotonic()
                with budget.limit(seconds), pytest.raises((redis.RedisError, TimeoutError)):
                    client.get("a")
                    client.get("a")
                assert time.monotonic() - began < BOUND
            proxy.switch(Mode.PASS)
            with budget.limit(8.0):
                assert client.get("a") is None
