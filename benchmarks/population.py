"""A site with many live sessions, for `benchmarks.scale`: rows in the real tables, payloads in the real stores.

Signing a million people in one by one would take hours. So the rows are written in bulk, as sign-ins
and requests would have left them: of five people four have one session, the others two or three;
members' data is in Redis, staff's in SQL; one more row in ten has ended. Ids grow with the time of
the sign-in. Nothing expires while it is measured: the deadlines are hours away.
"""

import math
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Address
from random import Random
from typing import Any

import redis
from flask import Flask
from sqlalchemy import (
    JSON,
    Connection,
    MetaData,
    cast,
    func,
    insert,
    literal,
    select,
    text,
)

from app.audit.models import AuditEvent, Verb
from app.people.models import Role, User
from app.sessions.clients import client_in_words, ip_key
from app.sessions.handles import new_data_key, new_reference
from app.sessions.models import EndReason, UserAgent, UserSession
from app.sessions.stores.engines import transaction
from app.sessions.stores.sql import payload_table
from app.sessions.system import system_of

IDLE, ABSOLUTE = timedelta(hours=4), timedelta(hours=12)
"""The timeouts of a site with this population."""

OFFICE, BRANCH, DESK = "10.31.0.0/16", "10.20.0.0/16", "10.20.7.0/24"
"""Networks: a tenth of all sessions, some 5 % of them, and a 256th of those."""

CLIENT = "Firefox 140 on Linux"
"""One of the clients, with a fiftieth of all sessions."""

_BATCH = 10_000
_LONGEST_AGE, _LONGEST_PAUSE = timedelta(hours=10), timedelta(hours=3)
_STAFF = [Role.ADMIN, Role.AUDITOR, *[Role.OPERATOR] * 3, *[Role.VIEWER] * 5]
"""So many of a thousand people."""

_AGENTS = [
    *(f"Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0" for v in range(131, 141)),
    *(
        f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36"
        for v in range(130, 150)
        for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
    ),
]  # fmt: skip

Rows = Iterable[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Population:
    """How many sessions there are: `live` and, beside them, `ended`; and of how many people."""

    live: int
    ended: int
    people: int


def populate(app: Flask, redis_url: str, live: int, seed: int = 4) -> Population:
    """Write `live` sessions with their people, clients, data and events, and some that have ended."""
    system, random = system_of(app), Random(seed)
    moment = system.ledger.now()
    made = Population(live, live // 10, max(1, live * 4 // 5))
    store = payload_table(app.config["SESSION_SQLALCHEMY_TABLE"], MetaData())
    with (
        transaction(system.ledger.engine) as connection,
        redis.Redis.from_url(redis_url) as client,
    ):
        write = _Writer(connection)
        first_person, first_agent = write.next_id(User), write.next_id(UserAgent)
        write.rows(User.__table__, _people(first_person, made.people, moment))
        write.rows(UserAgent.__table__, _agents(first_agent))
        sessions = _sessions(random, made, first_person, first_agent, moment)
        for batch in _batches(sessions):
            write.rows(UserSession.__table__, batch)
            alive = [row for row in batch if row["ended_at"] is None]
            _fill_redis(client, app, [row for row in alive if row["store"] == "redis"], moment)
            write.rows(store, _payloads(app, (row for row in alive if row["store"] == "sql")))
        connection.execute(_signed_in_events())
        write.count_on()
    _tidy(app)
    return made


def _people(first: int, number: int, moment: datetime) -> Iterator[dict[str, Any]]:
    for index in range(number):
        name = f"person{index:07}"
        yield {
            "id": first + index,
            "name": name,
            "name_key": name,
            "role": role_of(index).value,
            "active": True,
            "password_hash": "-",
            "created_at": moment - timedelta(days=90),
            "password_changed_at": moment - timedelta(days=90),
        }


def role_of(person: int) -> Role:
    """Return the role of the person with this number."""
    place = person % 1000
    return _STAFF[place] if place < len(_STAFF) else Role.MEMBER


def _agents(first: int) -> Iterator[dict[str, Any]]:
    for index, header in enumerate(_AGENTS):
        digest = sha256(header.encode()).digest()
        client = client_in_words(header)
        yield {"id": first + index, "digest": digest, "header": header, "client": client}


def _sessions(
    random: Random, made: Population, first_person: int, first_agent: int, moment: datetime
) -> Iterator[dict[str, Any]]:
    """Yield the ended sessions and then the live ones, the first sign-in first."""
    for _ in range(made.ended):
        person = random.randrange(made.people)
        started = moment - timedelta(days=random.uniform(1, 20))
        row = _session(random, first_person, person, first_agent, started, started)
        ended = started + timedelta(minutes=random.uniform(1, 200))
        reason = random.choice((EndReason.SIGNED_OUT, EndReason.IDLE_TIMEOUT, EndReason.SUPERSEDED))
        yield row | {
            "ended_at": ended, "end_reason": reason.value, "ended_by": "rollcall",
        }  # fmt: skip
    more = random.sample(range(made.people), made.live - made.people)
    people = [*range(made.people), *more]
    random.shuffle(people)
    for place, person in enumerate(people):
        age = min(-math.log((place + 0.5) / made.live) * 1.5 * 3600, _LONGEST_AGE.total_seconds())
        pause = min(random.expovariate(1 / 1200), age, _LONGEST_PAUSE.total_seconds())
        started, seen = moment - timedelta(seconds=age), moment - timedelta(seconds=pause)
        yield _session(random, first_person, person, first_agent, started, seen)


def _session(
    random: Random, first_person: int, person: int, first_agent: int, started: datetime, seen: datetime
) -> dict[str, Any]:  # fmt: skip
    ip, agent = _address(random), first_agent + random.randrange(len(_AGENTS))
    return {
        "reference": new_reference(),
        "handle": secrets.token_bytes(32),
        "user_id": first_person + person,
        "store": "sql" if role_of(person).is_staff else "redis",
        "data_key": new_data_key(),
        "started_at": started,
        "last_seen_at": seen,
        "idle_expires_at": seen + IDLE,
        "absolute_expires_at": started + ABSOLUTE,
        "stepped_up_at": started,
        "regenerations": 0,
        "first_ip": ip,
        "ip": ip,
        "ip_key": ip_key(ip),
        "first_user_agent_id": agent,
        "user_agent_id": agent,
        "ended_at": None,
        "end_reason": None,
        "ended_by": None,
        "tell_user": False,
    }


def _address(random: Random) -> str:
    kind, rest = random.random(), random.getrandbits(16)
    if kind < 0.1:
        return f"10.31.{rest >> 8}.{rest & 255}"
    if kind < 0.8:
        return f"10.{16 + random.randrange(14)}.{rest >> 8}.{rest & 255}"
    if kind < 0.85:
        return f"192.0.2.{rest & 255}"
    return str(
        IPv6Address((0x20010DB8 << 96) | (random.randrange(64) << 80) | random.getrandbits(64))
    )


def _payload(app: Flask, number: int) -> bytes:
    seen = [f"/orders/{number + step}" for step in range(3)]
    data = {"csrf_token": secrets.token_hex(20), "cart": {"items": number % 7}, "seen": seen}
    return secrets.token_bytes(8) + system_of(app).codec.encode(data)


def _fill_redis(
    client: redis.Redis, app: Flask, rows: list[dict[str, Any]], moment: datetime
) -> None:
    prefix = app.config["SESSION_KEY_PREFIX"]
    with client.pipeline(transaction=False) as pipeline:
        for number, row in enumerate(rows):
            left = row["idle_expires_at"] - moment
            pipeline.set(f"{prefix}{row['data_key']}", _payload(app, number), px=left)
        pipeline.execute()


def _payloads(app: Flask, rows: Rows) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        value = _payload(app, number)
        yield {
            "data_key": row["data_key"],
            "payload": value[8:],
            "version": value[:8],
            "expires_at": row["idle_expires_at"],
        }


def _signed_in_events() -> Any:
    """Return the INSERT that gives every session the event of its sign-in, in their order."""
    row, user = UserSession, User
    events = select(
        row.started_at, literal(Verb.SIGNED_IN.value), literal("ok"), literal("user"), row.user_id,
        user.name, user.role, row.reference, row.first_ip, row.user_id, user.name, row.reference,
        cast(literal({}, JSON), JSON),
    ).join(user, user.id == row.user_id).order_by(row.started_at, row.id)  # fmt: skip
    columns = [
        "at", "verb", "result", "actor_kind", "actor_user_id", "actor_name", "actor_role",
        "actor_reference", "ip", "target_user_id", "target_name", "reference", "details",
    ]  # fmt: skip
    return insert(AuditEvent).from_select(columns, events)


class _Writer:
    """Writes many rows: by COPY on PostgreSQL, by executemany elsewhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._copies = connection.dialect.name == "postgresql"

    def next_id(self, model: type[User | UserAgent]) -> int:
        return (self._connection.execute(select(func.max(model.id))).scalar() or 0) + 1

    def rows(self, table: Any, rows: Rows) -> None:
        for batch in _batches(rows):
            if not self._copies:
                self._connection.execute(insert(table), batch)
                continue
            driver: Any = self._connection.connection.driver_connection
            columns = ", ".join(batch[0])
            with driver.cursor().copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
                copy.write("".join(_line(row.values()) for row in batch))

    def count_on(self) -> None:
        """Let the database's own ids go on after those that were given here."""
        if self._copies:
            for table in ("users", "user_agents"):
                top = f"(SELECT max(id) FROM {table})"
                sequence = f"pg_get_serial_sequence('{table}', 'id')"
                self._connection.execute(text(f"SELECT setval({sequence}, {top})"))


def _line(values: Iterable[Any]) -> str:
    """Return a line of COPY's text form; none of our values holds a tab or a backslash."""
    return "\t".join(_field(value) for value in values) + "\n"


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _batches(rows: Rows) -> Iterator[list[dict[str, Any]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _tidy(app: Flask) -> None:
    """Do what autovacuum would have done by now."""
    with system_of(app).ledger.engine.connect() as connection:
        postgresql = connection.dialect.name == "postgresql"
        connection.exec_driver_sql("VACUUM ANALYZE" if postgresql else "ANALYZE")
        if postgresql:
            connection.exec_driver_sql("CHECKPOINT")
