"""What a signed-in read asks of the servers, by their own count, and what a session takes up in Redis.

`benchmarks.requests` calls it after the timing. Nothing here depends on the speed of the machine.
"""

from contextlib import closing
from typing import Any

import redis
from flask import Flask
from sqlalchemy import Engine

from app.columns import skew
from app.sessions.system import system_of
from benchmarks.calls import Ask, called, signed_in
from benchmarks.figures import record
from benchmarks.peers import PEERS, Place
from benchmarks.tables import table
from tests.sessions.helpers import traced

READS = 20
WARM_UP = 10
"""Reads before the count: psycopg sends a statement for good with the fifth."""

SECONDS = 1800
"""Reads, at one a second, whose traces in the append-only file are measured."""

SHOWN = {
    "statements": "SQL statements",
    "messages": "messages to PostgreSQL that wait for an answer",
    "commands": "commands to Valkey",
    "memory_bytes": "bytes of Valkey's memory for a session",
    "append_only_bytes": "bytes of its append-only file for a read, at one a second",
}
_PEERS = {"flask_session": "Flask-Session", "unrefreshed": "no refresh", "rollcall": "Rollcall"}
_SETTING_UP = {"hello", "client|setinfo", "client|setname", "info", "select", "ping", "auth"}


def main(place: Place) -> None:
    """Count in a place that has PostgreSQL and Redis, and print a table."""
    counted = {peer: _counted(peer, place) for peer in _PEERS}
    for name in SHOWN:
        record(f"request.{place.name}.read.{name}", counted["rollcall"][name], name, READS)
    memory = counted["rollcall"]["memory_bytes"] / counted["flask_session"]["memory_bytes"]
    record(f"request.{place.name}.memory.ratio_to_flask_session", memory, "ratio", 1)
    rows = [
        [text, *(f"{counted[peer][name]:.3g}" for peer in _PEERS)] for name, text in SHOWN.items()
    ]
    print("### What one signed-in read asks for\n")
    print(table(["by the servers' own count", *_PEERS.values()], rows))


def _counted(peer: str, place: Place) -> dict[str, float]:
    app = PEERS[peer](place)
    with closing(redis.Redis.from_url(place.redis or "", protocol=2)) as client:
        held = set(client.keys())
        read = called(app, "read", signed_in(app, place.person))
        (key,) = set(client.keys()) - held
        for _ in range(WARM_UP):
            read()
        before = _commands(client)
        with traced(_engines(app)) as lines:
            for _ in range(READS):
                read()
        commands = _commands(client) - before
        found = {
            "statements": sum("\tExecute\t" in line or "\tQuery\t" in line for line in lines)
            / READS,
            "messages": sum("\tReadyForQuery\t" in line for line in lines) / READS,
            "commands": commands / READS,
            "memory_bytes": client.memory_usage(key, samples=0),
            "append_only_bytes": _append_only(client, read),
        }
    if peer == "rollcall":
        system_of(app).close()
    return found


def _engines(app: Flask) -> list[Engine]:
    with app.app_context():
        engines = [app.extensions["sqlalchemy"].engine]
    if "rollcall" in app.extensions:
        system: Any = system_of(app)
        engines += [system.ledger.engine, system.stores["sql"]._engine]
    return engines


def _commands(client: Any) -> int:
    stats = client.info("commandstats")
    names = {name: name.removeprefix("cmdstat_") for name in stats}
    return sum(stats[name]["calls"] for name in stats if names[name] not in _SETTING_UP)


def _append_only(client: Any, read: Ask) -> float:
    """Return how many bytes the file grew by per read, with the ledger's clock a second on each time."""
    begun = client.info("persistence")["aof_current_size"]
    moved = skew.seconds
    try:
        for _ in range(SECONDS):
            skew.seconds += 1
            read()
    finally:
        skew.seconds = moved
    return (client.info("persistence")["aof_current_size"] - begun) / SECONDS
