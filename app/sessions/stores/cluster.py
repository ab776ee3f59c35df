"""A client for Redis Cluster that keeps the request's budget: it finds each key's node.

redis-py's own asks the nodes for the slots under a lock, after the budget has gone on the node that
did not answer, so it would never learn of a promotion; and it sleeps. This one asks at the start of
the next call, each node for a part of the budget, and has neither locks, threads nor retries. It
knows commands of one key, pipelines of them, and two of many keys: what the store and the throttle send.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import redis
from redis.commands import CoreCommands
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    ResponseError,
    TryAgainError,
)

from app.sessions.stores import budget
from app.sessions.stores.redis_url import Address

ASKING_FOR = 0.2
"""Seconds of the budget that one node has to say who serves which slot, before the next is asked."""

REDIRECTIONS = 5
"""How many times a command is sent on to the node that the last one named."""

_KEY_AT = {"EVAL": 3, "EVALSHA": 3}
"""Where a command's key stands, if not right behind its name."""

_COUNTING = ("UNLINK", "EXISTS")
"""Commands of many keys, whose answers add up: each key is sent to its own node."""

Command = tuple[tuple[Any, ...], dict[str, Any]]
"""A command's arguments and redis-py's options for its answer."""


@dataclass(frozen=True)
class _Slots:
    """Which node serves each slot, and all nodes that a topology named."""

    masters: dict[int, Address]
    nodes: frozenset[Address]


@dataclass(frozen=True)
class _Way:
    """Where a command goes; `asking` while its slot is on the way from one node to another."""

    to: Address
    asking: bool = False


class ClusterClient(CoreCommands):
    """Commands of one key, each at the node that has it, and two of many. It connects at the first command.

    `client_of` makes the client of one node. Raises redis-py's errors; a slot that nobody serves is a
    ClusterDownError.
    """

    _event_dispatcher: Any = None  # redis-py's protocol of a client asks for one

    def __init__(self, seeds: Sequence[Address], client_of: Callable[[Address], Any]) -> None:
        self._seeds = tuple(seeds)
        self._client_of = client_of
        self._clients: dict[Address, Any] = {}
        self._slots: _Slots | None = None
        self._stale = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command. SCRIPT LOAD has no key: it goes to every master."""
        if args[0] == "SCRIPT LOAD":
            return self.at_masters(*args, **options)[0]
        if args[0] in _COUNTING:
            return sum(self.run([((args[0], key), options) for key in args[1:]]))
        (answer,) = self.run([(args, options)])
        return answer

    @property
    def masters(self) -> list[Address]:
        """Return where the slots are served."""
        return sorted(set(self._topology().masters.values()))

    @property
    def has_password(self) -> bool:
        """Say whether the nodes are given a password."""
        options = self._client(self._seeds[0]).connection_pool.connection_kwargs
        return bool(options.get("password"))

    def at_masters(self, *args: Any, **options: Any) -> list[Any]:
        """Run a command that has no key at every master, in the order of `masters`."""
        answers = [self._ask(_Way(node), [(args, options)])[0] for node in self.masters]
        return self._sound(answers)

    def pipeline(self, transaction: bool = False) -> "ClusterPipeline":
        """Collect commands that are sent at once to each node; there are no transactions."""
        if transaction:
            raise NotImplementedError("keys of several nodes have no transaction in common")
        return ClusterPipeline(self)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the commands' answers in order, from one round trip a node, and raise the first error."""
        slots = self._topology()
        ways = {at: _Way(self._master(slots, command)) for at, command in enumerate(commands)}
        answers: list[Any] = [None] * len(commands)
        for _ in range(1 + REDIRECTIONS):
            for way in dict.fromkeys(ways.values()):
                there = [at for at, its in ways.items() if its == way]
                got = self._ask(way, [commands[at] for at in there])
                for at, answer in zip(there, got, strict=True):
                    answers[at] = answer
            ways = {
                at: self._sent_on(answers[at], way)
                for at, way in ways.items()
                if isinstance(answers[at], AskError)
            }
            if not ways:
                break
        return self._sound(answers)

    def get_encoder(self) -> Any:
        """Return what makes bytes of a script: `register_script` asks."""
        return self._client(self._seeds[0]).get_encoder()

    def close(self) -> None:
        """Close the connections to all nodes."""
        for client in list(self._clients.values()):
            client.close()

    def _master(self, slots: _Slots, command: Command) -> Address:
        key = command[0][_KEY_AT.get(command[0][0], 1)]
        slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
        if slot not in slots.masters:
            self._stale = True
            raise ClusterDownError(f"CLUSTERDOWN nobody serves slot {slot}")
        return slots.masters[slot]

    def _ask(self, way: _Way, commands: Sequence[Command]) -> list[Any]:
        """Send commands to a node in one message; errors that it answers are among the answers."""
        client = self._client(way.to)
        try:
            if len(commands) == 1 and not way.asking:
                return [_answer(client, commands[0])]
            with client.pipeline(transaction=False) as pipeline:
                for args, options in commands:
                    if way.asking:
                        pipeline.execute_command("ASKING")
                    pipeline.execute_command(*args, **options)
                answers: list[Any] = pipeline.execute(raise_on_error=False)
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            self._stale = True
            raise
        return answers[1::2] if way.asking else answers

    def _sent_on(self, answer: AskError, way: _Way) -> _Way:
        """Return the node that a redirection names: an empty host is the one that answered."""
        to = (answer.host or way.to[0], answer.port)
        if isinstance(answer, MovedError):
            self._stale = True
            return _Way(to)
        return _Way(to, asking=True)

    def _sound(self, answers: list[Any]) -> list[Any]:
        """Raise the first error among the answers."""
        for answer in answers:
            if isinstance(answer, AskError):
                raise ClusterDownError("CLUSTERDOWN the nodes send each other's keys around")
            if isinstance(answer, ClusterDownError | TryAgainError):
                self._stale = True
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    def _topology(self) -> _Slots:
        """Return what is known of the slots; ask anew after any sign that it has changed.

        One thread asks; the others go on with what was known.
        """
        known = self._slots
        if known is not None and not self._stale:
            return known
        self._stale = False
        try:
            self._slots = found = self._asked()
        except BaseException:
            self._stale = True
            raise
        self._forget(found)
        return found

    def _asked(self) -> _Slots:
        """Ask one node after the other, and take the first full answer."""
        best: _Slots | None = None
        failed: Exception = ClusterDownError("CLUSTERDOWN no node to ask")
        for node in self._to_ask():
            try:
                with budget.within(ASKING_FOR):
                    answer = self._client(node).execute_command("CLUSTER SLOTS")
            except ResponseError as error:
                failed = InvalidResponse(f"not a node of a Cluster: {error}")
            except (redis.RedisError, OSError) as error:
                failed = error
            else:
                slots = _read(answer, node)
                if len(slots.masters) == REDIS_CLUSTER_HASH_SLOTS:
                    return slots
                if best is None or len(slots.masters) > len(best.masters):
                    best = slots
        if best is None:
            raise failed
        # What is only a part of the answer gives no reason to forget the other nodes.
        known = frozenset() if self._slots is None else self._slots.nodes
        return _Slots(best.masters, best.nodes | known)

    def _to_ask(self) -> list[Address]:
        """Return all nodes in random order: no single one is asked by every process."""
        known = () if self._slots is None else self._slots.nodes
        nodes = [*{*self._seeds, *known}]
        return random.sample(nodes, len(nodes))

    def _client(self, node: Address) -> Any:
        client = self._clients.get(node)
        return client or self._clients.setdefault(node, self._client_of(node))

    def _forget(self, slots: _Slots) -> None:
        """Close the idle connections to nodes that have left."""
        for node in set(self._clients) - slots.nodes - set(self._seeds):
            left = self._clients.pop(node, None)
            if left is not None:
                left.connection_pool.disconnect(inuse_connections=False)


class ClusterPipeline(CoreCommands):
    """Commands that wait for `execute`, which answers in their order."""

    _event_dispatcher: Any = None

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._commands: list[Command] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._commands = []

    def execute_command(self, *args: Any, **options: Any) -> Self:
        self._commands.append((args, options))
        return self

    def execute(self) -> list[Any]:
        commands, self._commands = self._commands, []
        return self._client.run(commands)


def _answer(client: Any, command: Command) -> Any:
    """Return what a node answers to one command, an error too: a pipeline costs as much again."""
    args, options = command
    try:
        return client.execute_command(*args, **options)
    except ResponseError as error:
        return error


def _read(answer: Any, asked: Address) -> _Slots:
    """Read CLUSTER SLOTS: [first, last, [host, port, ...], replicas...]; no host is the asked one's."""
    masters: dict[int, Address] = {}
    nodes: set[Address] = set()
    for first, last, *serving in answer:
        addresses = list(_addresses(serving, asked))
        nodes.update(addresses)
        masters.update(dict.fromkeys(range(first, last + 1), addresses[0]))
    return _Slots(masters, frozenset(nodes))


def _addresses(serving: Sequence[Any], asked: Address) -> Iterator[Address]:
    for host, port, *_ in serving:
        yield (host.decode() if host else asked[0]), int(port)
