"""What every session store does, against real servers: one suite, each store in turn."""

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.sessions.store import DataKey, Saved, SessionExists, StoredSession, Version
from app.sessions.stores import ServedStore
from tests.servers import wait_until

HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=30)
per_store = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def new_key() -> DataKey:
    return DataKey(secrets.token_hex(16))


def held(store: ServedStore, key: DataKey) -> StoredSession:
    stored = store.load(key)
    assert stored is not None
    return stored


def gone(store: ServedStore, key: DataKey) -> Callable[[], bool]:
    return lambda: store.load(key) is None


def at_once(calls: Sequence[Callable[[], Saved]]) -> list[Saved]:
    """Run the calls in threads that start together and return their answers in order."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Saved]) -> Saved:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_what_was_created_is_loaded(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    assert held(any_store, key).payload == b"alice"


def test_a_key_that_never_existed_is_absent_from_every_method(any_store: ServedStore) -> None:
    key = new_key()
    assert any_store.load(key) is None
    assert any_store.load(key, extend_to=HOUR) is None
    assert any_store.present([key]) == {}
    assert any_store.delete([key]) == 0
    assert any_store.save(key, b"bob", Version(b"12345678"), HOUR) is Saved.GONE


def test_loading_with_an_extension_does_not_create(any_store: ServedStore) -> None:
    key = new_key()
    any_store.load(key, extend_to=HOUR)
    assert any_store.load(key) is None


def test_creating_twice_raises_and_keeps_the_first(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    with pytest.raises(SessionExists):
        any_store.create(key, b"bob", HOUR)
    assert held(any_store, key).payload == b"alice"


def test_a_save_with_the_version_read_replaces_the_payload(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"before", HOUR)
    version = held(any_store, key).version
    assert any_store.save(key, b"after", version, HOUR) is Saved.SAVED
    assert held(any_store, key).payload == b"after"


def test_a_save_with_an_old_version_conflicts_and_changes_nothing(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"first", HOUR)
    old = held(any_store, key).version
    any_store.save(key, b"second", old, HOUR)
    assert any_store.save(key, b"third", old, timedelta(hours=9)) is Saved.CONFLICT
    assert held(any_store, key).payload == b"second"
    assert any_store.present([key])[key] <= HOUR


def test_saving_the_same_payload_changes_the_version(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"same", HOUR)
    first = held(any_store, key).version
    any_store.save(key, b"same", first, HOUR)
    assert held(any_store, key).version != first


def test_a_save_never_creates_what_was_deleted(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    version = held(any_store, key).version
    assert any_store.delete([key]) == 1
    assert any_store.save(key, b"back", version, HOUR) is Saved.GONE
    assert any_store.save(key, b"back", version, None) is Saved.GONE
    assert any_store.load(key) is None


def test_a_save_never_creates_what_has_expired(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    any_store.load(key, extend_to=MOMENT)
    version = Version(b"12345678")
    wait_until(gone(any_store, key))
    assert any_store.save(key, b"back", version, HOUR) is Saved.GONE
    assert any_store.load(key) is None


def test_a_version_of_a_deleted_payload_does_not_fit_its_successor(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    version = held(any_store, key).version
    any_store.delete([key])
    any_store.create(key, b"bob", HOUR)
    assert any_store.save(key, b"alice again", version, HOUR) is Saved.CONFLICT
    assert held(any_store, key).payload == b"bob"


def test_what_has_expired_is_absent_from_every_method(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    version = held(any_store, key).version
    any_store.save(key, b"alice", version, MOMENT)
    wait_until(gone(any_store, key))
    assert any_store.load(key, extend_to=HOUR) is None
    assert any_store.present([key]) == {}
    assert any_store.delete([key]) == 0
    assert any_store.save(key, b"bob", version, None) is Saved.GONE
    assert any_store.load(key) is None


def test_a_time_that_is_already_up_leaves_nothing(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", timedelta(0))
    wait_until(gone(any_store, key))
    any_store.create(other := new_key(), b"bob", timedelta(seconds=-5))
    wait_until(gone(any_store, other))


def test_a_save_without_a_time_keeps_the_time_left(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"before", HOUR)
    before = any_store.present([key])[key]
    assert any_store.save(key, b"after", held(any_store, key).version, None) is Saved.SAVED
    after = any_store.present([key])[key]
    assert before - timedelta(seconds=5) < after <= before


def test_a_save_with_a_time_sets_the_time_left(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"before", HOUR)
    any_store.save(key, b"after", held(any_store, key).version, 3 * HOUR)
    assert 2 * HOUR < any_store.present([key])[key] <= 3 * HOUR


@pytest.mark.parametrize("to", [timedelta(minutes=5), timedelta(hours=8), timedelta(days=400)])
def test_a_load_can_move_the_time_left_both_ways(any_store: ServedStore, to: timedelta) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    before = held(any_store, key)
    assert any_store.load(key, extend_to=to) == before
    assert to - timedelta(seconds=5) < any_store.present([key])[key] <= to


def test_a_plain_load_leaves_the_time_left_alone(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"alice", HOUR)
    before = any_store.present([key])[key]
    held(any_store, key)
    assert any_store.present([key])[key] <= before


def test_present_answers_for_those_that_exist(any_store: ServedStore) -> None:
    keys = [new_key() for _ in range(1203)]
    for key in keys[::100]:
        any_store.create(key, b"alice", HOUR)
    found = any_store.present(keys)
    assert set(found) == set(keys[::100])
    assert all(timedelta(minutes=59) < left <= HOUR for left in found.values())


def test_present_and_delete_of_nothing_ask_for_nothing(any_store: ServedStore) -> None:
    assert any_store.present([]) == {}
    assert any_store.delete([]) == 0


def test_delete_counts_each_payload_once(any_store: ServedStore) -> None:
    keys = [new_key() for _ in range(1203)]
    for key in keys[:7]:
        any_store.create(key, b"alice", HOUR)
    kept = new_key()
    any_store.create(kept, b"bob", HOUR)
    assert any_store.delete([*keys, keys[0], keys[0]]) == 7
    assert any_store.present(keys) == {}
    assert held(any_store, kept).payload == b"bob"


def test_deleting_expired_payloads_leaves_the_others(any_store: ServedStore) -> None:
    kept, short = new_key(), [new_key() for _ in range(5)]
    any_store.create(kept, b"alice", HOUR)
    for key in short:
        any_store.create(key, b"bob", MOMENT)
    wait_until(lambda: not any_store.present(short))
    assert any_store.delete_expired() in (0, len(short))
    assert any_store.delete_expired() == 0
    assert held(any_store, kept).payload == b"alice"


@per_store
@given(payload=st.binary(max_size=3000))
def test_any_bytes_come_back_as_they_went(any_store: ServedStore, payload: bytes) -> None:
    key = new_key()
    any_store.create(key, payload, HOUR)
    first = held(any_store, key)
    assert first.payload == payload
    assert any_store.save(key, payload[::-1], first.version, None) is Saved.SAVED
    assert held(any_store, key).payload == payload[::-1]


@pytest.mark.parametrize("size", [0, 1, 4096, 1_000_000])
def test_payloads_of_every_size_come_back(any_store: ServedStore, size: int) -> None:
    key, payload = new_key(), secrets.token_bytes(size)
    any_store.create(key, payload, HOUR)
    assert held(any_store, key).payload == payload


steps = st.lists(st.sampled_from(["create", "save", "save late", "delete", "extend"]), max_size=12)


@per_store
@given(steps=steps)
def test_any_order_of_calls_does_what_a_dictionary_would(
    any_store: ServedStore, steps: list[str]
) -> None:
    key, oldest = new_key(), Version(b"00000000")
    expected: bytes | None = None
    for number, step in enumerate(steps):
        payload, before = str(number).encode(), any_store.load(key)
        assert expected == (None if before is None else before.payload)
        newest = oldest if before is None else before.version
        if step == "create" and before is None:
            any_store.create(key, payload, HOUR)
            expected = payload
        elif step == "create":
            with pytest.raises(SessionExists):
                any_store.create(key, payload, HOUR)
        elif step == "delete":
            assert any_store.delete([key]) == (before is not None)
            expected = None
        elif step == "extend":
            assert any_store.load(key, extend_to=HOUR) == before
        elif before is None:
            assert any_store.save(key, payload, newest, None) is Saved.GONE
        elif step == "save late":
            assert any_store.save(key, payload, oldest, None) is Saved.CONFLICT
        else:
            assert any_store.save(key, payload, newest, None) is Saved.SAVED
            oldest, expected = newest, payload


def test_of_many_saves_at_once_exactly_one_wins_each_version(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"start", HOUR)
    for _ in range(5):
        version = held(any_store, key).version
        payloads = [f"from thread {n}".encode() for n in range(6)]
        answers = at_once(
            [partial(any_store.save, key, payload, version, HOUR) for payload in payloads]
        )
        assert answers.count(Saved.SAVED) == 1
        assert answers.count(Saved.CONFLICT) == 5
        assert held(any_store, key).payload == payloads[answers.index(Saved.SAVED)]


def test_a_counter_raised_by_many_threads_loses_nothing(any_store: ServedStore) -> None:
    key = new_key()
    any_store.create(key, b"0", HOUR)

    def count() -> Saved:
        for _ in range(10):
            while True:
                stored = held(any_store, key)
                raised = str(int(stored.payload) + 1).encode()
                if any_store.save(key, raised, stored.version, None) is Saved.SAVED:
                    break
        return Saved.SAVED

    at_once([count] * 4)
    assert held(any_store, key).payload == b"40"


def test_a_save_and_a_delete_at_once_leave_nothing(any_store: ServedStore) -> None:
    for _ in range(10):
        key = new_key()
        any_store.create(key, b"alice", HOUR)
        version = held(any_store, key).version

        def delete(key: DataKey = key) -> Saved:
            assert any_store.delete([key]) == 1
            return Saved.GONE

        save = partial(any_store.save, key, b"late", version, HOUR)
        assert at_once([delete, save])[1] in (Saved.SAVED, Saved.GONE)
        assert any_store.load(key) is None


def test_overlapping_deletes_do_not_block_each_other(any_store: ServedStore) -> None:
    keys = [new_key() for _ in range(200)]
    for key in keys:
        any_store.create(key, b"alice", HOUR)
    counted: list[int] = []

    def delete(order: list[DataKey]) -> Saved:
        counted.append(any_store.delete(order))
        return Saved.GONE

    at_once([lambda: delete(keys), lambda: delete(keys[::-1]), lambda: delete(keys[::2])])
    assert sum(counted) == 200
