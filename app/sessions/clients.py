"""Where a session is used from: addresses as sortable keys, User-Agent headers as clients in words."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import ua_parser

USER_AGENT_LENGTH = 1000
UNKNOWN_CLIENT = "unknown client"
_NO_ADDRESS = "::"


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request came from: address and User-Agent header."""

    ip: str
    user_agent: str

    @classmethod
    def of(cls, remote_addr: str | None, user_agent: str) -> "Client":
        """Return the client of a request; what is no address (a socket, a proxy's "unknown") is `::`."""
        return cls(_plain(remote_addr or _NO_ADDRESS), user_agent[:USER_AGENT_LENGTH])

    @property
    def ip_key(self) -> bytes:
        return ip_key(self.ip)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.user_agent.encode("utf-8", "replace")).digest()


def _plain(address: str) -> str:
    """Return an address without its zone; an IPv4 one that IPv6 carries is itself again."""
    try:
        ip = ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return _NO_ADDRESS
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def ip_key(address: str) -> bytes:
    """Return an address as 16 sortable bytes (IPv4 mapped into IPv6), so that a network is a range.

    Raises ValueError for what is no address.
    """
    ip = ip_address(address.split("%", maxsplit=1)[0])
    return (ip if isinstance(ip, IPv6Address) else IPv6Address(f"::ffff:{ip}")).packed


@lru_cache(maxsize=4096)
def client_in_words(header: str) -> str:
    """Return the client that a User-Agent header names: "Firefox 140 on Linux"."""
    parsed = ua_parser.parse(header)
    if parsed.user_agent is None:
        return header.split("/", maxsplit=1)[0].strip()[:40] or UNKNOWN_CLIENT
    major = parsed.user_agent.major
    browser = f"{parsed.user_agent.family} {major}" if major else parsed.user_agent.family
    # The list of patterns keeps the name that the system had until 2016.
    system = parsed.os and parsed.os.family.replace("Mac OS X", "macOS")
    return (f"{browser} on {system}" if system else browser)[:80]
