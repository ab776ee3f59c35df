"""The Redis store on a Cluster: keys of all masters, slots that move, nodes that fall silent."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

import config
from app.auth.throttle import Throttle, Throttled
from app.sessions.store import DataKey, Saved, StoreUnavailable
from app.sessions.stores.breaker import Breaker
from app.sessions.stores.budget import limit
from app.sessions.stores.connections import redis_client
from app.sessions.stores.redis import RedisStore
from tests.faults import watch
from tests.redis_servers import (
    QUOTED,
    RIGHTS,
    RIGHTS_IN_A_CLUSTER,
    USER,
    Cluster,
    ClusterNode,
    TlsClusterNode,
    user_rules,
)
from tests.servers import RedisServer, free_port, redis_binary, wait_until

HOUR = timedelta(hours=1)
BUDGET, BOUND, RETURN = 0.8, 1.0, 5.0
PREFIX = "session:"


@pytest.fixture
def store(cluster: Cluster) -> Iterator[RedisStore]:
    with store_at(cluster.url) as made:
        yield made


@contextmanager
def store_at(url: str) -> Iterator[RedisStore]:
    """A store whose breaker rests for so short that each call reaches the servers."""
    breaker = Breaker("redis", open_for=0.0)
    with closing(RedisStore("redis", redis_client(url), PREFIX, breaker=breaker)) as made:
        yield made


def key_at(cluster: Cluster, node: ClusterNode) -> DataKey:
    """Return a key that this master has."""
    keys = (DataKey(f"{number:032}") for number in range(1000))
    return next(key for key in keys if cluster.serving(PREFIX + key) is node)


def works(store: RedisStore, key: DataKey) -> bool:
    """Say whether the store answers for a key, in a request's time whatever happens."""
    began = watch.seconds()
    try:
        with limit(BUDGET):
            store.load(key)
    except StoreUnavailable:
        return False
    finally:
        assert watch.seconds() - began < BOUND
    return True


def test_one_call_finds_and_deletes_keys_of_every_master(
    cluster: Cluster, store: RedisStore
) -> None:
    keys = [DataKey(f"{number:032}") for number in range(1200)]
    for key in keys[::3]:
        store.create(key, b"alice", HOUR)
    assert len({cluster.serving(PREFIX + key).port for key in keys[:30:3]}) == 3
    with limit(BUDGET):
        assert set(store.present(keys)) == set(keys[::3])
        assert store.delete(keys) == 400
        assert store.present(keys) == {}


def test_the_script_is_sent_again_to_each_node_that_has_forgotten_it(
    cluster: Cluster, store: RedisStore
) -> None:
    for node in cluster.masters:
        key = key_at(cluster, node)
        store.create(key, b"before", HOUR)
        for _ in range(2):
            stored = store.load(key)
            assert stored is not None
            assert store.save(key, b"after", stored.version, None) is Saved.SAVED
            node.ask("SCRIPT FLUSH")


def test_failed_sign_ins_are_counted_on_the_cluster_for_all_processes(cluster: Cluster) -> None:
    url = cluster.url
    with closing(Throttle(redis_client(url), "throttle")) as here:
        for number in range(10):
            cluster.masters[number % 3].ask("SCRIPT FLUSH")
            here.failed("alice", "192.0.2.1", known=False)
    with closing(Throttle(redis_client(url), "throttle")) as there:
        with pytest.raises(Throttled):
            there.check("alice", "192.0.2.1", known=False)


def test_a_slot_that_moves_is_followed_while_it_moves_and_after(
    cluster: Cluster, store: RedisStore
) -> None:
    source, target = cluster.nodes[1], cluster.nodes[2]
    key = key_at(cluster, source)
    slot = source.ask("CLUSTER KEYSLOT", PREFIX + key)
    assert store.load(key) is None
    begin_to_move(slot, source, target)
    store.create(key, b"on the way", HOUR)
    assert set(store.present([key, key_at(cluster, cluster.replicated)])) == {key}
    assert target.ask("CLUSTER COUNTKEYSINSLOT", slot) == 1
    assign(cluster, slot, target)
    try:
        for _ in range(2):
            stored = store.load(key)
            assert stored is not None
            assert stored.payload == b"on the way"
            assert set(store.present([key])) == {key}
        assert store.delete([key]) == 1
    finally:
        begin_to_move(slot, target, source)
        assign(cluster, slot, source)
    assert store.load(key) is None


def begin_to_move(slot: int, source: ClusterNode, target: ClusterNode) -> None:
    target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.node_id)
    source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.node_id)


def assign(cluster: Cluster, slot: int, to: ClusterNode) -> None:
    """Give a slot that is on its way to its new master, whose word then counts most; tell all masters."""
    masters = sorted(cluster.masters, key=lambda node: node is not to)
    for node in masters:
        node.ask("CLUSTER SETSLOT", slot, "NODE", to.node_id)


def test_while_one_node_hangs_the_others_answer_and_its_keys_fail_in_time(
    cluster: Cluster, store: RedisStore
) -> None:
    silent, other = cluster.nodes[1], cluster.nodes[2]
    lost, kept = key_at(cluster, silent), key_at(cluster, other)
    store.create(lost, b"alice", HOUR)
    with silent.frozen():
        for _ in range(2):
            assert not works(store, lost)
            assert works(store, kept)
    wait_until(lambda: works(store, lost), RETURN)
    assert store.present([lost])


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_new_process_finds_the_cluster_though_a_node_is_gone(
    cluster: Cluster, fault: str
) -> None:
    kept = key_at(cluster, cluster.nodes[2])
    getattr(cluster.nodes[1], fault)()
    for _ in range(4):
        with store_at(cluster.url) as store:
            assert works(store, kept)


def test_requests_at_once_do_not_wait_for_each_other_at_a_silent_node(
    cluster: Cluster, store: RedisStore
) -> None:
    silent = cluster.nodes[1]
    lost, kept = key_at(cluster, silent), key_at(cluster, cluster.nodes[2])
    assert works(store, kept)
    with silent.frozen(), ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda key: works(store, key), [lost, kept] * 4))
    assert not any(answers[::2])


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_replica_that_is_promoted_is_found_within_five_seconds(
    cluster: Cluster, store: RedisStore, fault: str
) -> None:
    master = cluster.replicated
    key = key_at(cluster, master)
    store.create(key, b"alice", HOUR)
    with master.client() as client:
        assert client.wait(1, 5000) == 1
    cluster.be_sudden()
    getattr(master, fault)()
    began = time.monotonic()
    while not cluster.replaced(master):
        works(store, key)
        assert time.monotonic() - began < 30
    wait_until(lambda: works(store, key), RETURN)
    stored = store.load(key)
    assert stored is not None
    assert store.save(key, b"after", stored.version, None) is Saved.SAVED


def test_the_rights_that_the_docs_ask_for_are_enough(cluster: Cluster) -> None:
    page = (config.ROOT / "docs" / "stores.md").read_text()
    assert f"`{RIGHTS}`" in page
    assert f"`{RIGHTS_IN_A_CLUSTER}`" in page
    rules = user_rules(f"{RIGHTS} {RIGHTS_IN_A_CLUSTER}")
    for node in cluster.nodes:
        node.ask("ACL SETUSER", USER, *rules)
    source, target = cluster.nodes[1], cluster.nodes[2]
    key = key_at(cluster, source)
    slot = source.ask("CLUSTER KEYSLOT", PREFIX + key)
    with store_at(cluster.url.replace("://", f"://{USER}:{QUOTED}@")) as store:
        begin_to_move(slot, source, target)
        try:
            store.create(key, b"alice", HOUR)
            stored = store.load(key)
            assert stored is not None
            assert store.save(key, b"after", stored.version, HOUR) is Saved.SAVED
            assert set(store.present([key])) == {key}
            assert store.delete([key]) == 1
        finally:
            for node in (source, target):
                node.ask("CLUSTER SETSLOT", slot, "STABLE")


def test_a_cluster_that_nobody_answers_for_fails_in_time() -> None:
    with store_at(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}") as store:
        assert not works(store, DataKey("a" * 32))
        with pytest.raises(StoreUnavailable, match="not reachable"):
            store.load(DataKey("a" * 32))


def test_a_server_that_is_no_cluster_is_named_so(redis_server: RedisServer) -> None:
    with store_at(f"redis+cluster://127.0.0.1:{redis_server.port}") as store:
        with pytest.raises(StoreUnavailable, match="reported a fault"):
            store.load(DataKey("a" * 32))


def test_a_cluster_is_reached_over_tls() -> None:
    node = TlsClusterNode(redis_binary())
    with closing(node), store_at(node.url) as store:
        key = DataKey("a" * 32)
        store.create(key, b"alice", HOUR)
        assert set(store.present([key])) == {key}
