"""`make bench ARGS=requests`: what a signed-in request costs, beside what people have.

Three requests: one reads a value of the session and shows who is signed in, one changes the value
too, one does not look at the session. In process and over the wire, with the rounds of all
contestants interleaved, so that a slow moment of the machine hits each. Cost is the median above
that of a Flask with a null session; its ratio to Flask-Session's default is what a change is judged
by.
"""

import statistics
import tempfile
import time
from argparse import ArgumentParser
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from app.sessions.system import system_of
from benchmarks import asked, wire
from benchmarks.calls import Ask, as_header, called, expect, signed_in
from benchmarks.figures import record
from benchmarks.peers import PEERS, SIGNED_IN, Place, prepare
from benchmarks.tables import machine, table
from tests.servers import (
    PostgresServer,
    RedisServer,
    create_postgresql_database,
    postgresql_binaries,
    valkey_binary,
)

ROUNDS = 100
WARM_UP = 10
REQUESTS_IN_A_ROUND = 5
REQUESTS = ("read", "write", "untouched")

TITLES = {
    "redis": "Sessions in Valkey, people in PostgreSQL",
    "redis_and_sqlite": "Sessions in Valkey, people in SQLite",
    "sqlite": "Sessions and people in SQLite",
    "postgresql": "Sessions and people in PostgreSQL",
}
SHOWN = {
    "bare": "one bare GET and one bare SELECT",
    "cookie": "Flask's cookie session",
    "unrefreshed": "Flask-Session, no refresh",
    "flask_session": "Flask-Session",
    "rollcall": "Rollcall",
}

Name = tuple[str, str]
"""A contestant and a request."""


@dataclass
class Taken:
    """Seconds that each round of a request took: by the wall, and of this process's own time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def main(arguments: list[str]) -> None:
    """Measure in each place, print the tables and record the figures. There are no options."""
    ArgumentParser(prog="make bench ARGS=requests").parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rc-")))
        valkey = stack.enter_context(closing(RedisServer(valkey_binary())))
        postgresql = stack.enter_context(closing(PostgresServer(postgresql_binaries())))
        print(f"Taken on {machine(**_versions(valkey, postgresql))}")
        places = _places(folder, valkey.url, postgresql.url)
        for place in places:
            prepare(place)
            _report(place, _in_process(place), _over_the_wire(place))
        asked.main(places[0])


def _versions(valkey: RedisServer, postgresql: PostgresServer) -> dict[str, str]:
    with valkey.client() as client, psycopg.connect(postgresql.url) as connection:
        info = client.info("server")
        number = connection.info.server_version
    return {"Valkey": info["valkey_version"], "PostgreSQL": f"{number // 10000}.{number % 10000}"}


def _places(folder: Path, valkey: str, postgresql: str) -> list[Place]:
    def place(name: str, redis_url: str | None, *, sqlite: bool) -> Place:
        names = (name, f"{name}_stock")
        if sqlite:
            ours, stock = (f"sqlite:///{folder}/{each}.db" for each in names)
        else:
            ours, stock = (create_postgresql_database(postgresql, each) for each in names)
        return Place(name, redis_url, ours, stock)

    return [
        place("redis", valkey, sqlite=False),
        place("redis_and_sqlite", valkey, sqlite=True),
        place("sqlite", None, sqlite=True),
        place("postgresql", None, sqlite=False),
    ]


def _requests_of(peer: str) -> tuple[str, ...]:
    return ("read",) if peer == "bare" else REQUESTS


def _in_process(place: Place) -> dict[Name, Taken]:
    apps = {peer: make(place) for peer, make in PEERS.items()}
    asks: dict[Name, Ask] = {}
    for peer, app in apps.items():
        cookie = signed_in(app, place.person) if peer in SIGNED_IN else ""
        asks |= {(peer, each): called(app, each, cookie) for each in _requests_of(peer)}
    taken = _interleaved(asks)
    system_of(apps["rollcall"]).close()
    return taken


def _over_the_wire(place: Place) -> dict[Name, Taken]:
    with ExitStack() as stack:
        servers = {peer: stack.enter_context(closing(wire.Served(peer, place))) for peer in PEERS}
        asks: dict[Name, Ask] = {}
        for peer, server in servers.items():
            connection = stack.enter_context(closing(server.connect()))
            cookie = _signed_in_at(connection, place.person) if peer in SIGNED_IN else ""
            for each in _requests_of(peer):
                asks[peer, each] = _sent(connection, peer, each, cookie)
        return _interleaved(asks)


def _signed_in_at(connection: wire.Connection, name: str) -> str:
    head, _ = connection.ask(wire.get(f"/sign-in/{name}"))
    fields = (line.partition(": ") for line in head.decode().split("\r\n"))
    return as_header([value for name, _, value in fields if name.lower() == "set-cookie"])


def _sent(connection: wire.Connection, peer: str, path: str, cookie: str) -> Ask:
    request = wire.get(f"/{path}", cookie)

    def ask() -> None:
        head, body = connection.ask(request)
        expect(peer, path, head[9:12].decode(), body)

    return ask


def _interleaved(asks: dict[Name, Ask]) -> dict[Name, Taken]:
    taken = {name: Taken() for name in asks}
    for round_ in range(-WARM_UP, ROUNDS):
        for name, ask in asks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(REQUESTS_IN_A_ROUND):
                ask()
            if round_ >= 0:
                taken[name].wall.append(time.perf_counter() - wall)
                taken[name].cpu.append(time.process_time() - cpu)
    return taken


def _costs(taken: dict[Name, Taken], clock: str) -> dict[Name, float]:
    """Return microseconds a request: medians above the floor's."""
    medians = {
        name: statistics.median(getattr(each, clock)) / REQUESTS_IN_A_ROUND * 1e6
        for name, each in taken.items()
    }
    return {
        (peer, each): median - medians["floor", each] for (peer, each), median in medians.items()
    }


def _report(place: Place, in_process: dict[Name, Taken], over_wire: dict[Name, Taken]) -> None:
    ways = {
        "": _costs(in_process, "wall"),
        "cpu.": _costs(in_process, "cpu"),
        "wire.": _costs(over_wire, "wall"),
    }
    columns = [(way, each) for way in ways for each in REQUESTS]
    rows = [
        [shown, *(_shown(ways[way].get((peer, each))) for way, each in columns)]
        for peer, shown in SHOWN.items()
    ]
    last = ["**Rollcall to Flask-Session**"]
    for way, each in columns:
        costs, name = ways[way], f"request.{place.name}.{each}.{way}"
        n = ROUNDS * REQUESTS_IN_A_ROUND
        ratio = costs["rollcall", each] / costs["flask_session", each]
        last.append(f"**{ratio:.2f}**")
        record(f"{name}ratio_to_flask_session", ratio, "ratio", n)
        for peer in SHOWN:
            if (peer, each) in costs:
                record(f"{name}{peer}_us", costs[peer, each], "us over a null session", n)
    words = {"": "", "cpu.": ", CPU", "wire.": ", wire"}
    print(f"### {TITLES[place.name]}\n")
    heads = ["µs over a null session", *(f"{each}{words[way]}" for way, each in columns)]
    print(table(heads, [*rows, last]), flush=True)


def _shown(micros: float | None) -> str:
    return "" if micros is None else f"{micros:.0f}"
