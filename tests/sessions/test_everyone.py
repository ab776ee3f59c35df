"""Everyone's sessions are frozen as a moment, not as a list: the set is what was live at it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from app.admin.counts import LiveCounts, live_counts
from app.audit.trail import Actor
from app.sessions import revocation, search
from app.sessions.filter import SessionFilter
from app.sessions.freeze import Frozen, Targets, freeze, review
from app.sessions.models import Cutoff, PendingPurge, Revocation, RevocationTarget
from app.sessions.receipt import receipt, shown
from app.sessions.revocation import confirm, resume, revoke
from app.sessions.transaction import Transaction, live
from tests.processes.conftest import waiters
from tests.processes.web import in_background
from tests.servers import wait_until
from tests.sessions.stores.test_mariadb import waiting_for_a_lock
from tests.sessions.test_revocation import acting, alive, commanding, start
from tests.sessions.test_upkeep import DAY, run
from tests.site import Site, clock_moved

CLI = Actor.cli("root")


def everyone(site: Site) -> Frozen:
    with commanding(site):
        return freeze(Targets(everyone=True), actor=CLI)


@contextmanager
def just_after(site: Site, statement: str, then: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread once the ledger has first run a statement that begins so."""
    done: list[str] = []

    def look(_connection: Any, _cursor: Any, ran: str, *_: Any) -> None:
        if ran.startswith(statement) and not done:
            done.append(ran)
            in_background(then).result(10)

    event.listen(site.system.ledger.engine, "after_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(site.system.ledger.engine, "after_cursor_execute", look)
    assert done


def waiting(site: Site) -> bool:
    """Tell whether anybody waits for another's lock."""
    if site.system.ledger.engine.dialect.name == "postgresql":
        return waiters(site) > 0
    return waiting_for_a_lock(site.app.config["DATABASE_URL"])()


def test_freezing_everyone_writes_no_list(any_site: Site) -> None:
    start(any_site, "alice", "bob")
    assert everyone(any_site).size == 2
    assert any_site.system.ledger.read(select(RevocationTarget.row_id)) == []


def test_who_signs_in_while_everyone_is_frozen_is_not_counted(shared_site: Site) -> None:
    start(shared_site, "alice")
    with just_after(shared_site, "INSERT INTO revocations", lambda: start(shared_site, "bob")):
        frozen = everyone(shared_site)
    with commanding(shared_site):
        done = revoke(frozen, actor=CLI, reason="incident")
    assert (frozen.size, done.ended, done.already_ended) == (1, 1, 0)
    assert [row.name for row in shared_site.rows(live())] == ["bob"]


@pytest.mark.parametrize("before", [False, True], ids=["the first ever", "not the first"])
def test_of_two_cutoffs_at_once_the_second_lets_nobody_in_whom_the_first_denies(
    shared_site: Site, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    if before:
        start(shared_site, "vera")
        with commanding(shared_site):
            revoke(everyone(shared_site), actor=CLI, reason="policy")
    ada = shared_site.signed_in("ada")
    start(shared_site, "alice")
    monkeypatch.setattr(revocation, "work", lambda *_: None)
    cut_off, is_cut, go_on = revocation.cut_off, Event(), Event()

    def slowly(tx: Transaction, row: Any) -> None:
        cut_off(tx, row)
        is_cut.set()
        go_on.wait(10)

    def confirm_as(actor: Any, set_: Frozen) -> None:
        with commanding(shared_site):
            confirm(set_.id, actor=actor, reason="incident")

    with acting(ada) as person:
        older = freeze(Targets(everyone=True), actor=person)
    start(shared_site, "bob")
    newer = everyone(shared_site)
    monkeypatch.setattr(revocation, "cut_off", slowly)
    first = in_background(lambda: confirm_as(CLI, newer))
    assert is_cut.wait(10)
    second = in_background(lambda: confirm_as(person, older))
    wait_until(lambda: waiting(shared_site) or second.done())
    assert not second.done()
    go_on.set()
    first.result(10)
    second.result(10)
    assert shared_site.rows(live()) == []
    assert len(shared_site.system.ledger.read(select(Cutoff.id))) == 1


def test_a_review_of_everyone_says_what_is_still_live_of_it(any_site: Site) -> None:
    ada = any_site.signed_in("ada")
    alice, bob, vera = start(any_site, "alice", "bob", "vera")
    with acting(ada) as person:
        frozen = freeze(Targets(everyone=True), actor=person)
        revoke([bob], actor=CLI, reason="other")
        start(any_site, "otto")
        seen = review(frozen.id, actor=person)
    assert seen is not None
    assert (seen.count, seen.users, seen.active, seen.staff, seen.admins) == (3, 2, 2, 1, 0)
    assert seen.by_store == {"redis": 1, "sql": 1}
    assert {row.reference for row in seen.rows} == {alice, vera}


def test_a_receipt_of_everyone_counts_who_had_left_before(any_site: Site) -> None:
    alice, bob, vera = start(any_site, "alice", "bob", "vera")
    frozen = everyone(any_site)
    with commanding(any_site):
        revoke([bob], actor=CLI, reason="other")
        done = revoke(frozen, actor=CLI, reason="incident")
    assert (done.ended, done.already_ended, done.waiting) == (2, 1, 0)
    assert (done.purged, done.purge_pending, done.present) == (2, 0, 0)
    assert {row.reference: row.reason_code for row in any_site.rows()} == {
        alice: "incident", bob: "other", vera: "incident",
    }  # fmt: skip
    ids = {row.id for row in any_site.rows() if row.reference in (alice, vera)}
    assert set(shown(any_site.system, frozen.id, 10)) == ids


def test_what_time_had_ended_before_the_freeze_is_not_called_revoked(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    with clock_moved(1801):
        (bob,) = start(any_site, "bob")
        frozen = everyone(any_site)
        with commanding(any_site):
            done = revoke(frozen, actor=CLI, reason="incident")
    assert (frozen.size, done.ended, done.already_ended) == (1, 1, 0)
    assert {row.reference: row.end_reason for row in any_site.rows()} == {
        alice: "idle_timeout", bob: "revoked",
    }  # fmt: skip


def test_a_sign_in_that_was_on_its_way_is_denied_not_counted_and_ends_with_the_others(
    any_site: Site,
) -> None:
    start(any_site, "alice")
    with commanding(any_site):
        done = revoke(everyone(any_site), actor=CLI, reason="incident", note="a leak", tell=True)
    start(any_site, "vera")
    with clock_moved(-60):
        (bob,) = start(any_site, "bob")
    with commanding(any_site):
        assert [row.user for row in search.find(SessionFilter()).rows] == ["vera"]
        assert search.count_of(SessionFilter())[0] == 1
        assert search.count_of(SessionFilter(status="active", store="redis"))[0] == 0
        assert live_counts() == LiveCounts({"redis": 0, "sql": 1}, active=1)
    with clock_moved(3600):
        run(any_site)
    (row,) = [row for row in any_site.rows() if row.reference == bob]
    assert (row.end_reason, row.reason_code, row.note, row.tell_user) == (
        "revoked", "incident", "a leak", True,
    )  # fmt: skip
    assert row.revocation_id == done.revocation_id
    assert any_site.events("session.revoked")[-1].reference == bob
    assert [row.end_reason for row in any_site.rows() if row.name == "vera"] == ["idle_timeout"]
    assert any_site.system.ledger.read(select(PendingPurge.row_id)) == []


def test_of_two_revocations_of_everyone_the_first_ends_what_it_froze(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = any_site.signed_in("ada")
    start(any_site, "alice")
    monkeypatch.setattr(revocation, "work", lambda *_: None)
    with acting(ada) as person:
        first = freeze(Targets(everyone=True), actor=person)
        confirm(first.id, actor=person, reason="incident")
    start(any_site, "bob")
    second = everyone(any_site)
    with commanding(any_site):
        confirm(second.id, actor=CLI, reason="policy")
    monkeypatch.undo()
    with any_site.app.app_context():
        revocation.work(any_site.system, second.id)
        assert len(alive(any_site)) == 3
        resume(any_site.system)
        done = [receipt(any_site.system, set_.id) for set_ in (first, second)]
    assert alive(any_site) == set()
    assert [(each.ended, each.already_ended) for each in done if each] == [(1, 0), (2, 0)]
    reasons = {row.name: row.reason_code for row in any_site.rows()}
    assert reasons == {"ada": "policy", "alice": "incident", "bob": "policy"}


def test_a_crash_between_batches_of_everyone_is_gone_on_from(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=50)
    start(site, *["alice"] * 7)
    monkeypatch.setattr(revocation, "BATCH", 3)

    def crash(*_: object) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(revocation, "purge", crash)
    frozen = everyone(site)
    with commanding(site), pytest.raises(RuntimeError, match="gone"):
        confirm(frozen.id, actor=CLI, reason="incident")
    half = receipt(site.system, frozen.id)
    assert half is not None
    assert (half.ended, half.already_ended, half.waiting) == (3, 0, 4)
    monkeypatch.undo()
    with site.app.app_context():
        assert resume(site.system) == 1
    done = receipt(site.system, frozen.id)
    assert done is not None
    assert (done.ended, done.purged, done.waiting, done.finished) == (7, 7, 0, True)
    assert len(site.events("session.revoked")) == 7


def test_a_batch_that_cannot_be_purged_beside_the_next_one_is_no_secret(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=50)
    start(site, *["alice"] * 7)
    monkeypatch.setattr(revocation, "BATCH", 3)
    purge, calls = revocation.purge, []

    def crash_later(system: object, rows: list[object]) -> object:
        calls.append(len(rows))
        if len(calls) > 1:
            raise RuntimeError("gone")
        return purge(system, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(revocation, "purge", crash_later)
    frozen = everyone(site)
    with commanding(site), pytest.raises(RuntimeError, match="gone"):
        confirm(frozen.id, actor=CLI, reason="incident")
    assert calls[:2] == [3, 3]


def test_a_receipt_of_everyone_stays_as_it_was_when_its_sessions_are_forgotten(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_HISTORY_DAYS=1)
    _alice, bob = start(site, "alice", "bob")
    frozen = everyone(site)
    with commanding(site):
        revoke([bob], actor=CLI, reason="other")
        confirm(frozen.id, actor=CLI, reason="incident")
    run(site, 2 * DAY)
    done = receipt(site.system, frozen.id)
    assert done is not None
    assert (done.ended, done.already_ended, done.waiting, done.purged) == (1, 1, 0, 1)
    assert site.system.ledger.read(text("SELECT count(*) FROM user_sessions"))[0][0] == 0


def test_who_was_committed_behind_the_batches_is_ended_too(any_site: Site) -> None:
    """A row has its id before its sign-in commits: the batches may have come by in between."""
    start(any_site, "alice", "bob")
    frozen = everyone(any_site)
    passed = max(row.id for row in any_site.rows())
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(update(Revocation).values(reached=passed))
    with commanding(any_site):
        done = revoke(frozen, actor=CLI, reason="incident")
    assert (done.ended, done.finished) == (2, True)
