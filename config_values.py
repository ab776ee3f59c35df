"""What a setting may say: a parser for each kind of value. config.py alone uses them.

A parser takes text, or a value that an override gives in its own type, and returns the typed value.
Its ValueError says what is allowed; it never repeats what it got.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mariadb+pymysql",
    "mariadb": "mariadb+pymysql",
}
_ADDRESS = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", re.ASCII)
_ONE_REDIS = re.compile(
    r"(?P<scheme>rediss?)://(?=.)(?:[^@/?#]*@)?[^@,/?#]*(?:/[0-9]{0,4})?(?:\?.*)?|unix://.+",
    re.ASCII,
)
_HOST = r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
_MANY_REDIS = re.compile(
    rf"(?P<scheme>rediss?)\+(?P<kind>cluster|sentinel)://(?:[^@/?#\s]*@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<path>[^?#\s]*)(?:\?(?P<query>[^#\s]*))?",
    re.ASCII,
)
_PORT = re.compile(r":([0-9]{1,5})(?:,|$)")
_SENTINEL_PATH = re.compile(r"/[\w.-]+(?:/[0-9]{1,4})?", re.ASCII)
_ONE_OPTIONS = {"db": "[0-9]{1,4}", "username": ".+", "password": ".+"}
_SENTINEL_OPTIONS = dict.fromkeys(("sentinel_username", "sentinel_password"), ".+")
_TLS_OPTIONS = {
    "ssl_ca_certs": ".+",
    "ssl_certfile": ".+",
    "ssl_keyfile": ".+",
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": "true|false",
}

Parser = Callable[[Any], object]


def text(pattern: re.Pattern[str] | None = None, allowed: str = "text") -> Parser:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or (pattern and not pattern.fullmatch(value)):
            raise ValueError(allowed)
        return value

    return parse


def site_name(value: Any) -> str:
    """Return a name that a page, a mail and a terminal can show: no control characters."""
    fits = isinstance(value, str) and value.strip() == value and 0 < len(value) <= 40
    if not fits or not value.isprintable():
        raise ValueError("1 to 40 printable characters")
    return str(value)


def choice(*allowed: str, why_not: Mapping[str, str] | None = None) -> Parser:
    def parse(value: Any) -> str:
        if value in allowed:
            return str(value)
        reason = (why_not or {}).get(str(value).lower())
        raise ValueError(" or ".join(allowed) + (f" ({value}: {reason})" if reason else ""))

    return parse


def number(lowest: float, highest: float, kind: type[int] | type[float] = int) -> Parser:
    noun = "a whole number" if kind is int else "a number"

    def parse(value: Any) -> int | float:
        problem = f"{noun} from {lowest} to {highest}"
        if isinstance(value, timedelta):
            value = value.total_seconds()
        try:
            result = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(problem) from None
        # Written so that NaN fails it too.
        whole = isinstance(value, str) or result == value
        if isinstance(value, bool) or not whole or not lowest <= result <= highest:
            raise ValueError(problem)
        return result

    return parse


def boolean(value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    result = words.get(str(value).lower())
    if result is None:
        raise ValueError("true or false")
    return result


def words(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("words with commas between them")
    return tuple(part.strip() for part in parts if part.strip())


def by_role(parse_one: Parser, roles: Collection[str]) -> Parser:
    def parse(value: Any) -> dict[str, object]:
        pairs = value.items() if isinstance(value, Mapping) else _pairs(words(value))
        result: dict[str, object] = {}
        for role, one in pairs:
            if role not in roles or role in result:
                raise ValueError(f"role=value, each role once, of {', '.join(roles)}")
            try:
                result[str(role)] = parse_one(one)
            except ValueError as error:
                raise ValueError(f"{role}={error}") from None
        return result

    return parse


def _pairs(parts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for part in parts:
        role, _, one = part.partition("=")
        yield role.strip(), one.strip()


def database_url(value: Any) -> str:
    """Return the URL with the driver that we ship, and a relative SQLite path under instance/."""
    allowed = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME or mariadb://..."
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError(allowed) from None
    backend = url.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise ValueError(allowed)
    url = url.set(drivername=_DRIVERS[backend])
    if backend == "sqlite":
        file = url.database or ":memory:"
        if "memory" in (file, file.strip(":"), url.query.get("mode")) or ":memory:" in file:
            raise ValueError("a file: SQLite in memory is another database for every connection")
        url = url.set(database=str(ROOT / "instance" / file))
    return url.render_as_string(hide_password=False)


def redis_url(value: Any) -> str:
    """Return the URL of one server, of a Cluster or of Sentinels, if it has the form of one."""
    if isinstance(value, str) and (_is_one_redis(value) or _is_many_redis(value)):
        return value
    raise ValueError(
        "redis://HOST:PORT/DB, unix:///PATH, redis+cluster://HOST:PORT,HOST:PORT or "
        "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB, over TLS with rediss, with "
        "USER:PASSWORD@ before the hosts and the options of docs/stores.md behind a ?"
    )


def _is_one_redis(url: str) -> bool:
    found = _ONE_REDIS.fullmatch(url)
    try:
        parts = urlsplit(url)
        sound = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return sound and found is not None and _has_options(found, parts.query, _ONE_OPTIONS)


def _is_many_redis(url: str) -> bool:
    found = _MANY_REDIS.fullmatch(url)
    if found is None or not all(0 < int(port) < 65536 for port in _PORT.findall(found["hosts"])):
        return False
    if found["kind"] == "cluster":
        return found["path"] in ("", "/") and _has_options(found, found["query"], {})
    path = _SENTINEL_PATH.fullmatch(found["path"])
    return path is not None and _has_options(found, found["query"], _SENTINEL_OPTIONS)


def _has_options(url: re.Match[str], query: str | None, own: dict[str, str]) -> bool:
    """Say whether each option of a Redis URL is one of its form's own, or of TLS where that is spoken."""
    allowed = {"client_name": ".+"} | own
    if url["scheme"] == "rediss":
        allowed |= _TLS_OPTIONS
    given = parse_qsl(query or "", keep_blank_values=True)
    return all(re.fullmatch(allowed.get(name, "(?!)"), value) for name, value in given)


def address(value: Any) -> str:
    """Return `host:port` to listen on; an IPv6 host stands in brackets."""
    found = _ADDRESS.fullmatch(str(value))
    if found is None or not 0 < int(found[1]) < 65536:
        raise ValueError("host:port, such as 127.0.0.1:8001 or [::1]:8001")
    return str(value)
