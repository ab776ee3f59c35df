"""A store that tells of the past: an old snapshot, a stale replica, nothing at all. The ledger decides."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app import create_app
from app.sessions import upkeep
from app.sessions.revocation import resume, revoke
from app.sessions.store import DataKey
from app.sessions.timeouts import first_ttl
from tests.servers import RedisServer, wait_until
from tests.sessions.helpers import bring_back, with_cookie
from tests.sessions.test_revocation import CLI, commanding, start
from tests.sessions.test_upkeep import run
from tests.site import Browser, Site, settings


def work(site: Site) -> None:
    """Do what the worker does, once."""
    with site.app.app_context():
        upkeep.run(site.system)
        resume(site.system)


def assert_it_came_back_for_nobody(site: Site, key: DataKey) -> None:
    """The data is there again, no worker needs it gone, and it goes by itself within its own time."""
    work(site)
    left = site.system.stores["redis"].present([key])
    longest = first_ttl(site.system.policy.of("member"))
    assert all(timedelta(0) < time_left <= longest for time_left in left.values())


def append_only_files(server: RedisServer) -> Path:
    return server.directory / "appendonlydir"


def test_an_old_snapshot_revives_nobody_and_signs_nobody_out(
    site: Site, valkey: RedisServer, tmp_path: Path
) -> None:
    """S35, A5: revoked, signed out and superseded stay so; who stayed works on, with older data."""
    alice, bob = site.signed_in("alice"), site.signed_in("bob")
    (revoked,) = site.live("alice")
    valkey.kill()
    shutil.copytree(append_only_files(valkey), tmp_path / "snapshot")
    bring_back(site, valkey)
    with commanding(site):
        assert revoke([revoked.reference], actor=CLI, reason="incident").purged == 1
    assert site.payload(revoked) is None

    valkey.kill()
    shutil.rmtree(append_only_files(valkey))
    shutil.copytree(tmp_path / "snapshot", append_only_files(valkey))
    bring_back(site, valkey)
    assert site.payload(revoked) is not None
    for _ in range(2):
        assert not alice.is_signed_in()
        assert bob.is_signed_in()
        assert_it_came_back_for_nobody(site, revoked.data_key)
    assert [row.end_reason for row in site.rows()] == ["revoked", None]
    assert len(site.events("session.revoked")) == 1


def test_a_stale_replica_that_is_promoted_revives_nobody(
    migrated_sqlite_url: str, valkey: RedisServer, redis_server: RedisServer
) -> None:
    """The replica is cut off, the revocation happens, and then the replica takes over."""
    before = Site(create_app(settings(migrated_sqlite_url, redis_server.url)))
    after = Site(create_app(settings(migrated_sqlite_url, valkey.url)))
    alice, bob = before.signed_in("alice"), before.signed_in("bob")
    (revoked,) = before.live("alice")
    with valkey.client() as replica:
        replica.replicaof("127.0.0.1", str(redis_server.port))
        wait_until(lambda: len(replica.keys("rollcall:session:*")) == 2)
        replica.replicaof("NO", "ONE")
    with commanding(before):
        assert revoke([revoked.reference], actor=CLI, reason="incident").purged == 1
    assert before.payload(revoked) is None

    assert after.payload(revoked) is not None
    for _ in range(2):
        assert not moved(alice, after).is_signed_in()
        assert moved(bob, after).is_signed_in()
        assert_it_came_back_for_nobody(after, revoked.data_key)
    assert [row.end_reason for row in after.rows()] == ["revoked", None]
    before.close()
    after.close()


def moved(person: Browser, to: Site) -> Browser:
    """Return a browser with a person's cookie at another site of the same ledger."""
    assert person.cookie is not None
    return with_cookie(to, person.cookie)


@pytest.mark.admin
def test_an_emptied_redis_ends_nobody_until_somebody_decides(
    make_site: Callable[..., Site], valkey: RedisServer
) -> None:
    """They get a 503 that says so; the worker raises its alarm, and an operator gives the data up."""
    site = make_site()
    alice, bob, ops = site.signed_in("alice"), site.signed_in("bob"), site.signed_in("ops")
    with valkey.client() as client:
        client.flushall()
    for at in (0, 30, 300):
        done = run(site, at)
        assert (done.lost, len(done.alarms)) == (0, 1)
        for person in (alice, bob):
            page = person.get("/account/sessions")
            assert page.status_code == 503
            assert "The data of your session is missing" in page.text
            assert person.cookie is not None
    (alarm,) = site.events("worker.alarm")
    assert alarm.reason == "redis"
    assert "lacks the data of 2 of 2 live sessions" in ops.get("/admin/").text

    review = ops.post(
        "/admin/revocations?store=redis", {"all_matching": "1"}, form="/admin/sessions"
    ).location
    assert ops.post(review, {"reason": "other", "count": "2"}).status_code == 303
    assert {row.name: row.end_reason for row in site.rows()} == {
        "alice": "revoked",
        "bob": "revoked",
        "ops": None,
    }
    assert alice.get("/account/sessions").status_code == 303
    assert run(site, 330).alarms == []
    assert site.signed_in("alice").is_signed_in()


def test_an_emptied_redis_that_gets_its_data_back_is_as_before(
    site: Site, valkey: RedisServer
) -> None:
    start(site, "alice", "bob")
    held = {}
    with valkey.client() as client:
        for name in client.keys("rollcall:session:*"):
            held[name] = client.dump(name)
        client.flushall()
        assert run(site, 0).alarms
        for name, value in held.items():
            assert isinstance(value, bytes)
            client.restore(name, 600_000, value)
    done = run(site, 30)
    assert (done.alarms, done.missing, done.lost) == ([], 0, 0)
    assert [(row.ended_at, row.missing_since) for row in site.rows()] == [(None, None)] * 2
