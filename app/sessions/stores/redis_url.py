"""The forms of `REDIS_URL`: one server, a Cluster's nodes, or the Sentinels that know the master.

`connections.redis_client` makes a client of them; `config` has checked the form before.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.connection import parse_url

Address = tuple[str, int]
"""Host and port."""

REDIS_PORT = 6379
SENTINEL_PORT = 26379

_PARTS = re.compile(
    r"(?P<scheme>redis|rediss|unix)(?:\+(?P<kind>cluster|sentinel))?://"
    r"(?P<who>[^/?#]*@)?(?P<hosts>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)",
    re.DOTALL,
)


class Kind(StrEnum):
    """What the URL's addresses are."""

    SERVER = "server"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


@dataclass(frozen=True)
class RedisUrl:
    """A URL in parts. `options` are redis-py's, of every connection to a server that holds data."""

    kind: Kind
    options: dict[str, Any]
    addresses: tuple[Address, ...] = ()
    service: str = ""
    sentinel_options: dict[str, Any] | None = None

    @classmethod
    def parse(cls, url: str) -> "RedisUrl":
        """Take a URL apart. Raises ValueError for another scheme, without repeating the URL."""
        found = _PARTS.fullmatch(url)
        if found is None or (found["scheme"] == "unix" and found["kind"]):
            raise ValueError(
                "no scheme of Redis: redis://, rediss://, unix://, redis+cluster://..."
            )
        if found["kind"] is None:
            return cls(Kind.SERVER, parse_url(url))  # type: ignore[no-untyped-call]
        kind = Kind(found["kind"])
        path, service = found["path"], ""
        if kind is Kind.SENTINEL:
            service, _, database = path.removeprefix("/").partition("/")
            path = f"/{database}"
        one = f"{found['scheme']}://{found['who'] or ''}one{path}{found['rest']}"
        options = parse_url(one)  # type: ignore[no-untyped-call]
        del options["host"]
        port = SENTINEL_PORT if kind is Kind.SENTINEL else REDIS_PORT
        addresses = tuple(_address(host, port) for host in found["hosts"].split(","))
        theirs = {
            name: options.pop(f"sentinel_{name}")
            for name in ("username", "password")
            if f"sentinel_{name}" in options
        }
        tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
        return cls(kind, options, addresses, service, theirs | tls)


def _address(written: str, default_port: int) -> Address:
    host, colon, port = written.rpartition(":")
    if not colon or written.endswith("]"):
        host, port = written, str(default_port)
    return host.removeprefix("[").removesuffix("]"), int(port)
