"""A receipt says no more than a second look into the stores has seen."""

from collections.abc import Sequence
from typing import Any

import pytest

from app.audit.trail import Actor
from app.sessions import upkeep
from app.sessions.freeze import Targets, freeze
from app.sessions.receipt import receipt
from app.sessions.revocation import resume, retry_purge, revoke
from tests.servers import RedisServer
from tests.sessions.helpers import bring_back, reference_of
from tests.sessions.test_revocation import commanding, start
from tests.site import Site

CLI = Actor.cli("root")


def deaf(site: Site, name: str) -> type:
    """Make a real store answer every delete and do nothing; return the class it had."""
    store = site.system.stores[name]
    kind = type(store)

    class Deaf(kind):  # type: ignore[misc, valid-type]
        """A store that says yes to a delete and keeps the data."""

        def delete(self, keys: Sequence[Any]) -> int:
            return len(keys)

    store.__class__ = Deaf
    return kind


@pytest.mark.parametrize("name", ["alice", "vera"], ids=["in Redis", "in SQL"])
def test_a_store_that_ignores_deletes_is_seen_to_hold_the_data(site: Site, name: str) -> None:
    (reference,) = start(site, name)
    (row,) = site.live(name)
    kind = deaf(site, row.store)
    with commanding(site):
        done = revoke([reference], actor=CLI, reason="incident")
    assert done.counts() == {
        "ended": 1, "already_ended": 0, "purged": 0, "purge_pending": 1, "present": 1,
    }  # fmt: skip
    assert site.rows()[0].end_reason == "revoked"
    site.system.stores[row.store].__class__ = kind
    with commanding(site):
        again = retry_purge(done.revocation_id)
    assert again is not None
    assert (again.present, again.purged, again.purge_pending) == (0, 1, 0)
    assert site.payload(row) is None


def test_a_silent_store_leaves_the_purge_pending_until_the_worker_has_done_it(
    site: Site, valkey: RedisServer
) -> None:
    browser = site.signed_in("alice")
    (row,) = site.live("alice")
    valkey.kill()
    with commanding(site):
        done = revoke([row.reference], actor=CLI, reason="incident")
    assert (done.ended, done.purged, done.purge_pending, done.finished) == (1, 0, 1, True)
    assert not browser.is_signed_in()
    with site.app.app_context():
        still = upkeep.run(site.system)
    assert (still.purged, still.purge_pending, still.silent) == (0, 1, ["redis"])
    bring_back(site, valkey)
    assert site.payload(row) is not None
    with site.app.app_context():
        assert upkeep.run(site.system).purged == 1
    later = receipt(site.system, done.revocation_id)
    assert later is not None
    assert (later.purged, later.purge_pending) == (1, 0)
    assert site.payload(row) is None


def test_a_receipt_counts_each_store(site: Site, valkey: RedisServer) -> None:
    references = start(site, "alice", "bob", "vera")
    valkey.kill()
    with commanding(site):
        done = revoke(references, actor=CLI, reason="incident")
    parts = {name: (p.ended, p.purged, p.pending) for name, p in done.by_store.items()}
    assert parts == {"redis": (2, 0, 2), "sql": (1, 1, 0)}


def test_a_set_that_is_not_confirmed_has_no_receipt(site: Site) -> None:
    (reference,) = start(site, "alice")
    with commanding(site):
        frozen = freeze(Targets(references=(reference,)), actor=CLI)
    assert receipt(site.system, frozen.id) is None
    assert receipt(site.system, 4711) is None
    with site.app.app_context():
        assert resume(site.system) == 0
    assert reference_of(site, "alice") == reference


def test_a_receipt_keeps_what_was_said(site: Site) -> None:
    (reference,) = start(site, "alice")
    with commanding(site):
        frozen = freeze(Targets(references=(reference,)), actor=CLI)
        done = revoke(frozen, actor=CLI, reason="policy", note="n" * 3000, tell=True)
    assert (done.reason, done.tell, done.actor_name) == ("policy", True, "root")
    assert done.note == "n" * 2000
    assert done.finished_at is not None
    assert done.read_back_at is not None
    assert done.read_back_at >= done.finished_at >= done.confirmed_at


def test_one_that_had_ended_before_is_not_counted_as_ended(site: Site) -> None:
    (reference,) = start(site, "alice")
    start(site, "alice")
    with commanding(site):
        done = revoke([reference], actor=CLI, reason="incident")
    assert done.counts() == {
        "ended": 0, "already_ended": 1, "purged": 0, "purge_pending": 0, "present": 0,
    }  # fmt: skip
    assert site.rows()[0].end_reason == "superseded"
