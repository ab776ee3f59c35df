"""Redis and Valkey as people run them: with a password, over TLS, as a Cluster, under Sentinels.

`conftest` makes fixtures of them, one of each kind for a whole run.
"""

import shutil
import subprocess
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.crc import key_slot

from tests.servers import STARTING, RedisServer, Server, free_port, missing, wait_until

PASSWORD = "p@ss:w/rd?tests#0123456789%"
"""It has what a URL must quote, and no space, which Sentinel's own file would not survive."""

QUOTED = quote(PASSWORD, safe="")
USER = "rollcall"
SENTINEL_PASSWORD = "sentinels-0123456789"
SERVICE = "mymaster"
RIGHTS = "+@read +@write +@connection +eval +evalsha +script|load"
"""What docs/stores.md asks for a user of the ACL."""

RIGHTS_IN_A_CLUSTER = "+cluster|slots"
CALM = 20_000
"""Milliseconds of silence after which a node counts as down: no busy machine makes a failover."""

SUDDEN = 500
"""The same where a test wants one."""


class PasswordRedis(RedisServer):
    """A server that wants a password: the default user's, or that of a user of its ACL."""

    @property
    def url(self) -> str:
        return f"redis://:{QUOTED}@127.0.0.1:{self.port}/0"

    @property
    def user_url(self) -> str:
        return f"redis://{USER}:{QUOTED}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        user = ["--user", USER, *user_rules(RIGHTS)]
        return [*super().command(), "--requirepass", PASSWORD, *user]

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=PASSWORD, socket_timeout=5, protocol=2)


class TlsRedis(RedisServer):
    """A server that speaks nothing but TLS, with a certificate of its own making."""

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}?ssl_ca_certs={self.certificate}"

    @cached_property
    def certificate(self) -> Path:
        return made_certificate(self.directory)

    def command(self) -> list[str]:
        return [*super().command(), *_tls(self.port, self.certificate)]

    def client(self) -> redis.Redis:
        return redis.Redis(
            port=self.port,
            ssl=True,
            ssl_ca_certs=str(self.certificate),
            socket_timeout=5,
            protocol=2,
        )


class ClusterNode(RedisServer):
    """One node, which knows no other yet."""

    def __init__(self, binary: Path) -> None:
        self.bus = free_port()
        super().__init__(binary)

    def command(self) -> list[str]:
        return [
            *super().command(),
            *("--cluster-enabled", "yes"),
            *("--cluster-port", str(self.bus)),
            *("--cluster-config-file", "nodes.conf"),
            *("--cluster-node-timeout", str(CALM)),
            *("--cluster-replica-validity-factor", "0"),
            *("--cluster-allow-replica-migration", "no"),
            *("--repl-diskless-sync-delay", "0"),
        ]

    def ask(self, *command: object) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    @property
    def node_id(self) -> str:
        return str(self.ask("CLUSTER MYID").decode())

    @property
    def is_replica(self) -> bool:
        return bool(_replication(self)["role"] == "slave")


class TlsClusterNode(TlsRedis, ClusterNode):
    """A Cluster of one node that has all slots, over TLS."""

    def __init__(self, binary: Path) -> None:
        super().__init__(binary)
        self.ask("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: self.ask("CLUSTER INFO")["cluster_state"] == "ok", STARTING)

    @property
    def url(self) -> str:
        return f"rediss+cluster://127.0.0.1:{self.port}?ssl_ca_certs={self.certificate}"

    def command(self) -> list[str]:
        return [*super().command(), "--tls-cluster", "yes"]


class Cluster:
    """Three masters that share the slots, and a replica of the first one."""

    RANGES = ((0, 5460), (5461, 10922), (10923, 16383))

    def __init__(self, binary: Path) -> None:
        self.nodes = [ClusterNode(binary) for _ in range(4)]
        first, *others = self.nodes
        for node, (low, high) in zip(self.nodes, self.RANGES, strict=False):
            node.ask("CLUSTER ADDSLOTSRANGE", low, high)
            node.ask("CLUSTER SET-CONFIG-EPOCH", self.nodes.index(node) + 1)
        for node in others:
            first.ask("CLUSTER MEET", "127.0.0.1", node.port, node.bus)
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes), STARTING)
        self.nodes[3].ask("CLUSTER REPLICATE", first.node_id)
        wait_until(self.is_well, STARTING)

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes[:3])}"

    def client(self) -> redis.RedisCluster:
        """redis-py's own client, for looking past the code under test."""
        return redis.RedisCluster(port=self.nodes[1].port, protocol=2, socket_timeout=5)

    def serving(self, key: str) -> ClusterNode:
        """Return the master that has this key's slot."""
        slot = key_slot(key.encode())
        for low, high, (_, port, *_), *_ in self.nodes[1].ask("CLUSTER SLOTS"):
            if low <= slot <= high:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(key)

    @property
    def masters(self) -> list[ClusterNode]:
        """Return who serves now, by their slots: after a failover the other of the first pair."""
        return [self.replicated, *self.nodes[1:3]]

    @property
    def replicated(self) -> ClusterNode:
        """Return the master that has a replica."""
        return next(node for node in self._pair if not node.is_replica)

    @property
    def _pair(self) -> tuple[ClusterNode, ClusterNode]:
        return self.nodes[0], self.nodes[3]

    def replaced(self, gone: ClusterNode) -> bool:
        """Say whether the other node of a pair serves what this one did."""
        return not next(node for node in self._pair if node is not gone).is_replica

    def reset(self) -> None:
        """Bring it back to an empty, whole one, whatever a test did to it."""
        for node in self.nodes:
            if not node.running:
                node.start()
            node.cont()
            node.ask("CONFIG SET", "cluster-node-timeout", CALM)
        wait_until(self.is_well, STARTING)
        for node in self.nodes:
            if not node.is_replica:
                node.ask("FLUSHALL")

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def be_sudden(self) -> None:
        """Let the nodes miss a silent one at once, until the next `reset`."""
        for node in self.nodes:
            node.ask("CONFIG SET", "cluster-node-timeout", SUDDEN)

    def is_well(self) -> bool:
        """Say whether every node sees all slots served, and the replica is in step."""
        with suppress(redis.RedisError):
            views = {str(_serving(node)) for node in self.nodes}
            return len(views) == 1 and all(self._sees_all_is_well(node) for node in self.nodes)
        return False

    def _knows_all(self, node: ClusterNode) -> bool:
        return int(node.ask("CLUSTER INFO")["cluster_known_nodes"]) == len(self.nodes)

    def _sees_all_is_well(self, node: ClusterNode) -> bool:
        others = node.ask("CLUSTER NODES").values()
        sound = not any("fail" in other["flags"] or not other["connected"] for other in others)
        told = _replication(node)
        in_step = told["role"] == "master" or told["master_link_status"] == "up"
        return sound and in_step and node.ask("CLUSTER INFO")["cluster_state"] == "ok"


def _serving(node: ClusterNode) -> list[tuple[int, int, int]]:
    """Return the slots' ranges and their masters' ports, as one node sees them."""
    ranges = node.ask("CLUSTER SLOTS")
    return sorted((low, high, master[1]) for low, high, master, *_ in ranges)


class Replicated(PasswordRedis):
    """A server that may be a replica: its password is the master's, too."""

    def command(self) -> list[str]:
        diskless = ["--repl-diskless-sync-delay", "0"]
        return [*super().command(), "--masterauth", PASSWORD, *diskless]


class Sentinel(Server):
    """One Sentinel of a service, with a password of its own."""

    quorum = 2

    def __init__(self, binary: Path, master: int) -> None:
        self.binary = binary
        self._master = master
        super().__init__()

    def start(self) -> None:
        super().start()
        # After a stall of two seconds it only looks on for the last of these.
        for name in ("info", "publish", "ping", "ask", "tilt"):
            self.ask("SENTINEL DEBUG", f"{name}-period", 100)

    def command(self) -> list[str]:
        file = self.directory / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {self.port}\nbind 127.0.0.1\nrequirepass {SENTINEL_PASSWORD}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._master} {self.quorum}\n"
                f'sentinel auth-pass {SERVICE} "{PASSWORD}"\n'
                f"sentinel down-after-milliseconds {SERVICE} {CALM}\n"
                f"sentinel failover-timeout {SERVICE} 1000\n"
            )
        return [str(self.binary), str(file), "--sentinel"]

    def answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.ask("PING"))
        return False

    def ask(self, *command: object) -> Any:
        return self._ask(command)

    def _ask(self, command: tuple[object, ...], **more: Any) -> Any:
        options = {"password": SENTINEL_PASSWORD, "socket_timeout": 5, "protocol": 2, **more}
        with redis.Redis(port=self.port, **options) as client:
            return client.execute_command(*command)

    @property
    def state(self) -> dict[str, Any]:
        """What it knows of the service."""
        return dict(self.ask("SENTINEL MASTER", SERVICE))


class TlsSentinel(Sentinel):
    """A Sentinel alone, which speaks TLS to everybody and trusts its own eyes."""

    quorum = 1

    def __init__(self, binary: Path, master: TlsRedis) -> None:
        self._certificate = master.certificate
        super().__init__(binary, master.port)

    @property
    def url(self) -> str:
        secrets = f"sentinel_password={SENTINEL_PASSWORD}&ssl_ca_certs={self._certificate}"
        return f"rediss+sentinel://127.0.0.1:{self.port}/{SERVICE}?{secrets}"

    def command(self) -> list[str]:
        options = [*_tls(self.port, self._certificate), "--tls-replication", "yes"]
        return [*super().command(), *options]

    def ask(self, *command: object) -> Any:
        return self._ask(command, ssl=True, ssl_ca_certs=str(self._certificate))


class Sentinels:
    """A master, its replica, and three Sentinels of which two must agree."""

    def __init__(self, binary: Path) -> None:
        self.servers = [Replicated(binary) for _ in range(2)]
        first, second = self.servers
        with second.client() as client:
            client.replicaof("127.0.0.1", first.port)
        self.sentinels = [Sentinel(binary, first.port) for _ in range(3)]
        wait_until(self.is_well, STARTING)

    @property
    def url(self) -> str:
        at = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        secret = f"?sentinel_password={SENTINEL_PASSWORD}"
        return f"redis+sentinel://:{QUOTED}@{at}/{SERVICE}/0{secret}"

    @property
    def master(self) -> Replicated:
        """The server that the last Sentinel takes for the master."""
        port = self.sentinels[-1].state["port"]
        return next(server for server in self.servers if server.port == port)

    def replaced(self, gone: RedisServer) -> bool:
        """Say whether the Sentinels name another master than this one."""
        return self.master is not gone

    def client(self) -> redis.Redis:
        """A plain client at the master, for looking past the code under test."""
        return self.master.client()

    def reset(self) -> None:
        """Bring it back to an empty master with its replica, whatever a test did to it."""
        for server in (*self.servers, *self.sentinels):
            if not server.running:
                server.start()
            server.cont()
        self._misses_after(CALM)
        wait_until(self.is_well, STARTING)
        with self.client() as client:
            client.flushall()

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()

    def be_sudden(self) -> None:
        """Let the Sentinels miss a silent master at once, until the next `reset`."""
        self._misses_after(SUDDEN)

    def is_well(self) -> bool:
        """Say whether the Sentinels agree on a master that is up and whose replica is in step."""
        with suppress(redis.RedisError, StopIteration):
            told = _replication(self.master)
            replicas = [told.get(f"slave{n}") for n in range(told["connected_slaves"])]
            states = [sentinel.state for sentinel in self.sentinels]
            return (
                told["role"] == "master"
                and [replica["state"] for replica in replicas] == ["online"]
                and len({state["port"] for state in states}) == 1
                and all(_sees_all(state) for state in states)
            )
        return False

    def _misses_after(self, milliseconds: int) -> None:
        for sentinel in self.sentinels:
            if sentinel.state["down-after-milliseconds"] != milliseconds:
                sentinel.ask("SENTINEL SET", SERVICE, "down-after-milliseconds", milliseconds)


def _sees_all(state: dict[str, Any]) -> bool:
    others = (state["num-other-sentinels"], state["num-slaves"])
    return others == (2, 1) and state["flags"] == "master"


def _replication(server: RedisServer) -> dict[str, Any]:
    with server.client() as client:
        return dict(client.info("replication"))


def user_rules(rights: str) -> list[str]:
    """Return the rules of a user with the tests' password, for the keys of Rollcall and of these tests."""
    keys = ["~rollcall:*", "~session:*"]
    return ["on", "#" + sha256(PASSWORD.encode()).hexdigest(), *keys, *rights.split()]


def made_certificate(directory: Path) -> Path:
    """Make a certificate for loopback that vouches for itself; its key is in the same file."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed")
    file = directory / "tls.pem"
    if not file.exists():
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        name = ["-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        made = ["openssl", "req", "-x509", *key, "-days", "2", *name]
        made += ["-keyout", str(file), "-out", f"{file}.crt"]
        subprocess.run(made, check=True, capture_output=True)
        with file.open("a") as whole:
            whole.write(Path(f"{file}.crt").read_text())
    return file


def _tls(port: int, certificate: Path) -> list[str]:
    at = str(certificate)
    files = ["--tls-cert-file", at, "--tls-key-file", at, "--tls-ca-cert-file", at]
    return ["--port", "0", "--tls-port", str(port), *files, "--tls-auth-clients", "no"]
