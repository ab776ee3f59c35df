"""SIGKILL at every step of a sign-in, a revocation and a worker's pass: after the next pass all agree.

A step is a statement, a commit or a store's command. They are met one after the other until a process
survives, so a step that is added later is killed at too.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest
from sqlalchemy import delete, select, text, update

from app import create_app
from app.audit.models import AuditEvent, Verb
from app.auth import sign_in as signing_in
from app.columns import clock
from app.sessions import revocation, upkeep
from app.sessions.models import Cutoff, Revocation, RevocationTarget, UserSession
from app.sessions.receipt import receipt
from app.sessions.revocation import revoke
from app.sessions.store import DataKey
from app.sessions.timeouts import first_ttl
from tests.processes.conftest import DATABASES, settings_for
from tests.processes.killed import Mortals
from tests.servers import RedisServer
from tests.sessions.test_revocation import CLI, commanding, start
from tests.site import Site, clock_moved

Order = dict[str, object]
ENDS = {
    Verb.SIGNED_OUT, Verb.SUPERSEDED, Verb.EXPIRED, Verb.REVOKED, Verb.ENDED, Verb.LOST, Verb.DAMAGED
}  # fmt: skip


@dataclass
class Killed:
    """A site, and processes on the same servers that die when they are told to."""

    site: Site
    mortals: Mortals

    def at_every_step(
        self, act: str, prepare: Callable[[], Order], check: Callable[[], None]
    ) -> tuple[str, ...]:
        """Let a process die at each step of an act, do the worker's next pass, and check; return the steps."""
        self.mortals.run(act, None, **prepare())
        for at in count(1):
            wipe(self.site)
            death = self.mortals.run(act, at, **prepare())
            work(self.site)
            try:
                check()
            except AssertionError as wrong:
                wrong.add_note(f"killed before step {at}, {death.steps[-1]}")
                raise
            if death.survived:
                return death.steps
        raise AssertionError


def work(site: Site) -> None:
    """Do what a worker does after its start, once."""
    with site.app.app_context():
        upkeep.run(site.system)
        revocation.resume(site.system)


def wipe(site: Site) -> None:
    """Take away every session, event and payload."""
    site.system.stores["redis"]._client.flushdb()  # type: ignore[attr-defined]
    with site.system.ledger.transaction() as tx:
        for table in (RevocationTarget, Cutoff, UserSession, Revocation, AuditEvent):
            tx.connection.execute(delete(table))
        tx.connection.execute(text("DELETE FROM session_payloads"))


@pytest.fixture(scope="module", params=DATABASES)
def killed(
    request: pytest.FixtureRequest, new_url: Callable[[str], str], valkey_process: RedisServer
) -> Iterator[Killed]:
    """Each database in turn; members' sessions are in Valkey, staff's in SQL."""
    settings = settings_for(new_url(request.param), valkey_process.url, REQUEST_DEADLINE=60)
    site = Site(create_app(settings))
    with Mortals(settings) as mortals:
        yield Killed(site, mortals)
    wipe(site)
    site.close()


def assert_they_agree(site: Site) -> set[tuple[str, str]]:
    """Ledger, trail and stores tell the same story; return payloads that are nobody's, and go in time."""
    rows, events = site.rows(), site.events()
    begun = Counter(event.reference for event in events if event.verb == Verb.SIGNED_IN)
    ended = Counter(event.reference for event in events if event.verb in ENDS)
    assert begun == Counter(row.reference for row in rows)
    assert ended == Counter(row.reference for row in rows if row.ended_at is not None)
    assert not [row for row in rows if row.purge_pending]
    assert max(Counter(row.name for row in rows if row.ended_at is None).values(), default=0) <= 1

    of_rows = {(row.store, row.data_key) for row in rows if row.ended_at is None}
    held = payloads(site)
    assert of_rows <= held
    orphans = held - of_rows
    longest = first_ttl(site.system.policy.of("member"))
    for store, key in orphans:
        assert key not in {row.data_key for row in rows}
        time_left = site.system.stores[store].present([DataKey(key)])[DataKey(key)]
        assert timedelta(0) < time_left <= longest
    with clock_moved(longest.total_seconds()):
        site.system.stores["sql"].delete_expired()
    assert "sql" not in {store for store, _ in payloads(site) - of_rows}
    return orphans


def payloads(site: Site) -> set[tuple[str, str]]:
    """Return store and key of every payload that is held."""
    rows = site.system.ledger.read(text("SELECT data_key FROM session_payloads"))
    prefix = site.app.config["SESSION_KEY_PREFIX"]
    names = site.system.stores["redis"]._client.scan_iter(f"{prefix}*")  # type: ignore[attr-defined]
    in_redis = {("redis", name.decode().removeprefix(prefix)) for name in names}
    return in_redis | {("sql", row.data_key) for row in rows}


def assert_receipts_are_right(site: Site) -> None:
    """What was confirmed is done, each end with its event; what was not confirmed did nothing."""
    for row in site.system.ledger.read(select(Revocation.__table__)):
        events = site.events()
        verbs = Counter(event.verb for event in events if event.revocation_id == row.id)
        if row.confirmed_at is None:
            assert verbs == {Verb.REVOCATION_FROZEN: 1}
            assert receipt(site.system, row.id) is None
            continue
        done = receipt(site.system, row.id)
        assert done is not None
        assert done.finished
        assert done.read_back_at is not None
        assert (done.waiting, done.purge_pending, done.present) == (0, 0, 0)
        assert (done.ended, done.purged, done.already_ended) == (row.size, row.size, 0)
        assert verbs == {
            Verb.REVOCATION_FROZEN: 1,
            Verb.REVOCATION_CONFIRMED: 1,
            Verb.REVOKED: row.size,
            Verb.REVOCATION_FINISHED: 1,
        }


@pytest.mark.parametrize("name", ["alice", "vera"], ids=["in Redis", "in SQL"])
def test_a_sign_in_that_is_killed_at_any_step_leaves_one_session(killed: Killed, name: str) -> None:
    """The new one or the old one; a payload that its row never followed expires by itself."""
    site = killed.site
    browsers = count()
    left: Counter[int] = Counter()

    def check() -> None:
        orphans = assert_they_agree(site)
        (live,) = site.live(name)
        began = len(site.rows())
        assert len(orphans) <= (1 if began == 1 else 0)
        assert (live.id == min(row.id for row in site.rows())) is (began == 1)
        left[began] += 1

    def prepare() -> Order:
        start(site, name)
        return {"whom": name, "browser": f"browser {next(browsers)}"}

    steps = killed.at_every_step("sign in", prepare, check)
    assert left[1] > 10
    assert left[2] > 5
    assert {"ledger: COMMIT", "answer"} < set(steps)
    assert [step for step in steps if step.startswith("store: ")]


@pytest.mark.parametrize(
    ("killed", "whose"),
    [("sqlite", "three sessions"), ("postgresql", "everyone's")],
    indirect=["killed"],
    scope="module",
)
def test_a_revocation_that_is_killed_at_any_step_is_done_by_the_next_worker_or_never_began(
    killed: Killed, whose: str
) -> None:
    site = killed.site
    came: Counter[int] = Counter()

    def prepare() -> Order:
        references = start(site, "alice", "bob", "vera")
        return {"references": references if whose == "three sessions" else []}

    def check() -> None:
        assert assert_they_agree(site) == set()
        assert_receipts_are_right(site)
        confirmed = bool(site.events(Verb.REVOCATION_CONFIRMED))
        live = [row for row in site.rows() if row.ended_at is None]
        assert len(live) == (0 if confirmed else 3)
        came[len(live)] += 1

    steps = killed.at_every_step("revoke", prepare, check)
    assert came[3] > 5
    assert came[0] > 20
    assert steps.count("ledger: COMMIT") >= 5


@pytest.mark.parametrize("killed", ["sqlite"], indirect=True, scope="module")
def test_a_worker_that_is_killed_at_any_step_leaves_the_rest_to_the_next(
    killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies in the expiring, in the purging, in what is lost, and between batches of a revocation."""
    site = killed.site

    def prepare() -> Order:
        with clock_moved(-2000):
            start(site, "vera")
        with monkeypatch.context() as patch:
            patch.setattr(signing_in, "purge", lambda *_: {})
            patch.setattr(revocation, "work", lambda *_: None)
            references = start(site, "otto", "otto", "alice", "bob")[2:]
            with commanding(site):
                revoke(references, actor=CLI, reason="incident")
        start(site, "ops")
        (row,) = site.live("ops")
        site.system.stores[row.store].delete([row.data_key])
        with site.system.ledger.transaction() as tx:
            lost = update(UserSession).where(UserSession.id == row.id)
            tx.connection.execute(lost.values(missing_since=clock(-60)))
        return {}

    def check() -> None:
        assert assert_they_agree(site) == set()
        assert_receipts_are_right(site)
        assert {(row.name, row.end_reason) for row in site.rows()} == {
            ("vera", "idle_timeout"),
            ("otto", "superseded"),
            ("otto", None),
            ("alice", "revoked"),
            ("bob", "revoked"),
            ("ops", "lost"),
        }

    steps = killed.at_every_step("work", prepare, check)
    assert steps.count("ledger: COMMIT") >= 8
