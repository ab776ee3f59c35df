"""What a store's server says of itself: version, size, and settings with which sessions may be lost.

`RedisStore.facts` and `SqlStore.facts` ask for it, the stores page shows it. A server may refuse to tell:
what is not known is None, and never taken for good.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, Protocol, runtime_checkable

from sqlalchemy import Connection, Table, func, select, text


class Unsafe(StrEnum):
    """A setting with which a server may lose sessions, or let others read them."""

    EVICTS = "evicts"
    EVICTED = "evicted"
    FORGETS = "forgets"
    OPEN = "open"
    NO_FSYNC = "no_fsync"
    TORN_PAGES = "torn_pages"
    LATE_COMMITS = "late_commits"


Found = tuple[Unsafe, str]
"""What is unsafe, and the value that makes it so."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a store's server. `rows` is an estimate unless `exact`; sizes are bytes."""

    product: str
    version: str | None = None
    nodes: int = 1
    memory: int | None = None
    memory_limit: int | None = None
    rows: int | None = None
    exact: bool = True
    unsafe: tuple[Found, ...] = ()
    told: bool = True


@runtime_checkable
class TellsFacts(Protocol):
    """A store that can say what its server is. One of your own need not."""

    def facts(self) -> Facts:
        """Ask the server. Raises StoreUnavailable."""
        ...


def redis_facts(
    infos: Sequence[Mapping[str, Any]],
    saves: Sequence[str | None],
    hosts: Iterable[str],
    has_password: bool,
) -> Facts:
    """Read what INFO says on each master, and what `save` is there; None where that may not be asked."""
    first = infos[0]
    is_valkey = "valkey_version" in first
    limits = [int(info.get("maxmemory", 0)) for info in infos]
    return Facts(
        product="Valkey" if is_valkey else "Redis",
        version=str(first["valkey_version" if is_valkey else "redis_version"]),
        nodes=len(infos),
        memory=sum(int(info.get("used_memory", 0)) for info in infos),
        memory_limit=sum(limits) if all(limits) else None,
        rows=sum(_keys(info) for info in infos),
        unsafe=tuple(dict.fromkeys(_unsafe_redis(infos, saves, hosts, has_password))),
    )


def _keys(info: Mapping[str, Any]) -> int:
    databases = [value for name, value in info.items() if name.startswith("db")]
    return sum(int(each["keys"]) for each in databases if isinstance(each, Mapping))


def _unsafe_redis(
    infos: Sequence[Mapping[str, Any]],
    saves: Sequence[str | None],
    hosts: Iterable[str],
    has_password: bool,
) -> Iterable[Found]:
    for info in infos:
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            yield Unsafe.EVICTS, policy
    if evicted := sum(int(info.get("evicted_keys", 0)) for info in infos):
        yield Unsafe.EVICTED, str(evicted)
    for info, save in zip(infos, saves, strict=True):
        if save == "" and not int(info.get("aof_enabled", 1)):
            yield Unsafe.FORGETS, "appendonly no, save ''"
    if not has_password:
        for host in hosts:
            if not _is_loopback(host):
                yield Unsafe.OPEN, host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_SHORT = 100_000
"""A table that is estimated to have fewer rows is counted."""

_POSTGRESQL = text(
    "SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,"
    " current_setting('full_page_writes') AS full_page_writes,"
    " current_setting('synchronous_commit') AS synchronous_commit,"
    " (SELECT reltuples FROM pg_class WHERE oid = to_regclass(:table)) AS estimate"
)
_MARIADB = text(
    "SELECT VERSION() AS version, @@innodb_flush_log_at_trx_commit AS flush, (SELECT table_rows FROM"
    " information_schema.tables WHERE table_schema = DATABASE() AND table_name = :table) AS estimate"
)


def sql_facts(connection: Connection, table: Table) -> Facts:
    """Ask a database about itself, and how many rows the table of payloads has."""
    ask = {"postgresql": _postgresql, "sqlite": _sqlite}
    product, version, unsafe, estimate = ask.get(connection.dialect.name, _mariadb)(
        connection, table.name
    )
    exact = estimate < _SHORT
    counted = select(func.count()).select_from(table)
    rows = connection.execute(counted).scalar_one() if exact else estimate
    return Facts(product, version, rows=rows, exact=exact, unsafe=tuple(unsafe))


_Asked = tuple[str, str, list[Found], int]


def _postgresql(connection: Connection, table: str) -> _Asked:
    row = connection.execute(_POSTGRESQL, {"table": f'"{table}"'}).one()
    unsafe = [
        (unsafe, f"{name} = off")
        for name, unsafe in (
            ("fsync", Unsafe.NO_FSYNC),
            ("full_page_writes", Unsafe.TORN_PAGES),
            ("synchronous_commit", Unsafe.LATE_COMMITS),
        )
        if getattr(row, name) == "off"
    ]
    return "PostgreSQL", row.version.split(" ")[0], unsafe, int(row.estimate or 0)


def _mariadb(connection: Connection, table: str) -> _Asked:
    row = connection.execute(_MARIADB, {"table": table}).one()
    late = [(Unsafe.LATE_COMMITS, f"innodb_flush_log_at_trx_commit = {row.flush}")]
    return "MariaDB", row.version.split("-")[0], late if row.flush != 1 else [], row.estimate or 0


def _sqlite(connection: Connection, _table: str) -> _Asked:
    version = connection.execute(select(func.sqlite_version())).scalar_one()
    level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    unsafe = [(Unsafe.NO_FSYNC, "synchronous = OFF")] if level == 0 else []
    return "SQLite", version, unsafe, 0
