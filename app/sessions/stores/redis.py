"""Payloads in Redis or Valkey: one string a session, one round trip for one or a page of them.

A Cluster's client sends each key to its own node, so the store works there as it is. It never runs
KEYS or SCAN: which sessions exist is the ledger's to say.
"""

import secrets
from collections.abc import Iterator, Sequence
from datetime import timedelta
from hashlib import sha1
from typing import Any

from redis.exceptions import NoScriptError, ResponseError
from redis.sentinel import SentinelConnectionPool

from app.sessions.store import (
    DataKey,
    Saved,
    SessionExists,
    StoredSession,
    UnreadablePayload,
    Version,
)
from app.sessions.stores.breaker import Breaker
from app.sessions.stores.cluster import ClusterClient
from app.sessions.stores.facts import Facts, redis_facts

VERSION_BYTES = 8
"""A value is the version and then the payload."""

CHUNK = 500
"""Keys in one command, or commands in one pipeline."""

_FEW = 200
"""Of more keys than these it is asked first whether any exists: after a revocation none does."""

_SAVE = b"""
local held = redis.call('GETRANGE', KEYS[1], 0, 7)
if held == '' then return 'GONE' end
if held ~= ARGV[1] then return 'CONFLICT' end
if ARGV[3] == '' then
    redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 'SAVED'
"""
# Redis names a script by this digest; nothing is secured by it.
_SAVE_DIGEST = sha1(_SAVE, usedforsecurity=False).hexdigest()


class RedisStore:
    """A `SessionStore` over a redis-py client: `redis_client`'s, Sentinel's or a Cluster's."""

    def __init__(
        self, name: str, client: Any, prefix: str, *, breaker: Breaker | None = None
    ) -> None:
        self.name = name
        self.breaker = breaker or Breaker(name)
        self._client = client
        self._prefix = prefix

    def _name(self, key: DataKey) -> str:
        return self._prefix + key

    def load(self, key: DataKey, *, extend_to: timedelta | None = None) -> StoredSession | None:
        """Read a payload, with `extend_to` by GETEX."""
        with self.breaker.answering("load"), _ForeignValues():
            if extend_to is None:
                value = self._client.get(self._name(key))
            else:
                value = self._client.getex(self._name(key), px=_milliseconds(extend_to))
        if value is None:
            return None
        return StoredSession(value[VERSION_BYTES:], Version(value[:VERSION_BYTES]))

    def create(self, key: DataKey, payload: bytes, ttl: timedelta) -> None:
        """Write a payload under a key that is free. Raises SessionExists."""
        with self.breaker.answering("create"):
            written = self._client.set(
                self._name(key), _new_value(payload), nx=True, px=_milliseconds(ttl)
            )
        if not written:
            raise SessionExists(f"{self.name} has a payload under a new data key")

    def save(self, key: DataKey, payload: bytes, version: Version, ttl: timedelta | None) -> Saved:
        """Compare and set in a script; a server that has forgotten the script is sent it again."""
        arguments = (
            self._name(key),
            version,
            _new_value(payload),
            "" if ttl is None else _milliseconds(ttl),
        )
        with self.breaker.answering("save"), _ForeignValues():
            try:
                answer = self._client.evalsha(_SAVE_DIGEST, 1, *arguments)
            except NoScriptError:
                answer = self._client.eval(_SAVE, 1, *arguments)
        return Saved[answer.decode()]

    def delete(self, keys: Sequence[DataKey]) -> int:
        """Delete payloads, whose memory is freed in the background; return how many were there."""
        deleted = 0
        for chunk in _chunks(keys):
            with self.breaker.answering("delete"):
                deleted += self._client.unlink(*map(self._name, chunk))
        return deleted

    def present(self, keys: Sequence[DataKey]) -> dict[DataKey, timedelta]:
        """Return the time left of those payloads that exist."""
        found: dict[DataKey, timedelta] = {}
        for chunk in _chunks(keys):
            names = [self._name(key) for key in chunk]
            with self.breaker.answering("present"):
                if len(names) > _FEW and not self._client.exists(*names):
                    continue
                with self._client.pipeline(transaction=False) as pipeline:
                    for name in names:
                        pipeline.pttl(name)
                    answers: list[int] = pipeline.execute()
            for key, left in zip(chunk, answers, strict=True):
                if left != _ABSENT:
                    found[key] = timedelta.max if left < 0 else timedelta(milliseconds=left)
        return found

    def delete_expired(self) -> int:
        """Return 0: Redis deletes what is past its time by itself."""
        return 0

    def facts(self) -> Facts:
        """Ask every master; its user may have no right to, which says nothing against the server."""
        with self.breaker.answering("facts"):
            try:
                infos = self._at_masters("INFO")
            except ResponseError:
                return Facts("Redis", told=False)
            try:
                saves = [each.get("save") for each in self._at_masters("CONFIG GET", "save")]
            except ResponseError:
                saves = [None for _ in infos]
            return redis_facts(infos, saves, self._hosts(), self._has_password())

    def _at_masters(self, *command: str) -> list[Any]:
        if isinstance(self._client, ClusterClient):
            return self._client.at_masters(*command)
        return [self._client.execute_command(*command)]

    def _hosts(self) -> list[str]:
        """Return where the masters are. A socket in the file system is nowhere."""
        if isinstance(self._client, ClusterClient):
            return [host for host, _port in self._client.masters]
        pool: Any = self._client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            find: Any = pool.get_master_address
            return [find()[0]]
        options = pool.connection_kwargs
        return [] if "path" in options else [options.get("host", "localhost")]

    def _has_password(self) -> bool:
        if isinstance(self._client, ClusterClient):
            return self._client.has_password
        return bool(self._client.connection_pool.connection_kwargs.get("password"))

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()


_ABSENT = -2
"""PTTL's answer for a key that does not exist."""


class _ForeignValues:
    """Call a value of another type, which is none of ours, a damaged payload."""

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE"):
            raise UnreadablePayload("the key holds no string") from error


def _new_value(payload: bytes) -> bytes:
    return secrets.token_bytes(VERSION_BYTES) + payload


def _milliseconds(ttl: timedelta) -> int:
    """Return whole milliseconds for PX, which refuses 0: a time that is up already leaves one."""
    return max(1, -(-ttl // timedelta(milliseconds=1)) if ttl > timedelta(0) else 1)


def _chunks(keys: Sequence[DataKey]) -> Iterator[Sequence[DataKey]]:
    unique = list(dict.fromkeys(keys))
    for start in range(0, len(unique), CHUNK):
        yield unique[start : start + CHUNK]
