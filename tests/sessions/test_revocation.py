"""What was confirmed is what happens: freeze, review, confirm, and nobody else's session ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from app import create_app
from app.audit.trail import Actor
from app.auth.sign_in import Verified, sign_in
from app.people.models import User
from app.sessions import revocation
from app.sessions.filter import SessionFilter
from app.sessions.freeze import NothingToRevoke, NotPermitted, Targets, freeze, review
from app.sessions.ledger import Principal
from app.sessions.models import Cutoff, Revocation
from app.sessions.receipt import Receipt, receipt
from app.sessions.revocation import Stale, confirm, resume, revoke
from app.sessions.store import StoreUnavailable
from app.sessions.stores import budget
from app.sessions.system import SessionSystem
from tests.servers import RedisServer
from tests.sessions.helpers import reference_of
from tests.site import Browser, Site, clock_at, clock_moved, settings

CLI = Actor.cli("root")


@contextmanager
def acting(browser: Browser) -> Iterator[Principal]:
    """Be the person of this browser for the block."""
    from app.sessions.interface import session

    cookie = f"{browser.site.app.config['SESSION_COOKIE_NAME']}={browser.cookie}"
    with browser.site.app.test_request_context("/", headers={"Cookie": cookie}):
        principal = session.principal
        assert principal is not None
        yield principal


@contextmanager
def commanding(site: Site) -> Iterator[None]:
    """Act as a command does."""
    with site.app.test_request_context("/"):
        yield


def start(site: Site, *names: str) -> list[str]:
    """Sign people in without the form, and return their references."""
    references = []
    for name in names:
        columns = select(User.id, User.name, User.role, User.password_hash)
        row = site.system.ledger.read(columns.where(User.name == name))[0]
        with site.app.test_request_context("/", environ_base={"REMOTE_ADDR": "10.0.0.1"}):
            verified = Verified(row.id, row.name, row.role, row.password_hash)
            references.append(sign_in(verified).reference)
    return references


def alive(site: Site) -> set[str]:
    return {row.reference for row in site.rows() if row.ended_at is None}


def test_freezing_ends_nobody(any_site: Site) -> None:
    references = start(any_site, "alice", "bob")
    with commanding(any_site):
        frozen = freeze(Targets(references=tuple(references)), actor=CLI)
    assert frozen.size == 2
    assert alive(any_site) == set(references)


def test_confirming_ends_exactly_what_was_frozen(any_site: Site) -> None:
    chosen = start(any_site, "alice", "bob")
    (spared,) = start(any_site, "vera")
    with commanding(any_site):
        frozen = freeze(Targets(references=tuple(chosen)), actor=CLI)
        done = revoke(frozen, actor=CLI, reason="incident", note="a leak")
    assert alive(any_site) == {spared}
    assert done.counts() == {
        "ended": 2, "already_ended": 0, "purged": 2, "purge_pending": 0, "present": 0,
    }  # fmt: skip
    assert done.finished
    for row in any_site.rows(User.name != "vera"):
        assert (row.end_reason, row.reason_code, row.note) == ("revoked", "incident", "a leak")
        assert (row.ended_by, row.revocation_id) == ("root", frozen.id)
        assert any_site.payload(row) is None


def test_a_session_that_began_after_the_freeze_survives(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_LIMIT=5)
    (old,) = start(site, "alice")
    for targets in (Targets(user_id=site.user_id("alice")), Targets(matching=SessionFilter())):
        with commanding(site):
            frozen = freeze(targets, actor=CLI)
            assert frozen.size == 1
        (new,) = start(site, "alice")
        with commanding(site):
            confirm(frozen.id, actor=CLI, reason="incident")
        assert alive(site) == {new}
    assert old != new


def test_one_that_ended_meanwhile_counts_as_already_ended(any_site: Site) -> None:
    alice, bob = start(any_site, "alice", "bob")
    with commanding(any_site):
        frozen = freeze(Targets(references=(alice, bob)), actor=CLI)
        revoke([alice], actor=CLI, reason="other")
        done = revoke(frozen, actor=CLI, reason="incident")
    assert (done.ended, done.already_ended) == (1, 1)
    assert any_site.rows()[0].reason_code == "other"
    revoked = any_site.events("session.revoked")
    assert [event.reference for event in revoked] == [alice, bob]


def test_revoking_twice_ends_once(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    with commanding(any_site):
        first = revoke([alice], actor=CLI, reason="incident")
        second = revoke([alice], actor=CLI, reason="policy")
    assert (first.ended, second.ended, second.already_ended) == (1, 0, 1)
    assert len(any_site.events("session.revoked")) == 1


def test_ones_own_session_is_held_back(any_site: Site) -> None:
    ada = any_site.signed_in("ada")
    own = reference_of(any_site, "ada")
    (alice,) = start(any_site, "alice")
    with acting(ada) as person:
        frozen = freeze(Targets(references=(own, alice)), actor=person)
        assert frozen.size == 1
        seen = review(frozen.id, actor=person)
        done = revoke(frozen, actor=person, reason="incident")
    assert seen is not None
    assert seen.held_back == done.held_back == own
    assert alive(any_site) == {own}
    assert ada.is_signed_in()


def test_ones_own_session_alone_is_nothing_to_revoke(site: Site) -> None:
    ada = site.signed_in("ada")
    with acting(ada) as person, pytest.raises(NothingToRevoke, match="your own session"):
        freeze(Targets(references=(person.reference,)), actor=person)


def test_an_operator_leaves_administrators_out(any_site: Site) -> None:
    ops = any_site.signed_in("ops")
    alice, ada = start(any_site, "alice", "ada")
    with acting(ops) as person:
        frozen = freeze(Targets(references=(alice, ada)), actor=person)
        seen = review(frozen.id, actor=person)
        done = revoke(frozen, actor=person, reason="incident")
    assert seen is not None
    assert (seen.left_out, done.left_out, done.ended) == (1, 1, 1)
    assert ada in alive(any_site)
    assert alice not in alive(any_site)


@pytest.mark.parametrize("by", ["reference", "user", "filter"])
def test_an_operator_cannot_end_an_administrators_session_by_any_choice(
    site: Site, by: str
) -> None:
    ops = site.signed_in("ops")
    (ada,) = start(site, "ada")
    targets = {
        "reference": Targets(references=(ada,)),
        "user": Targets(user_id=site.user_id("ada")),
        "filter": Targets(matching=SessionFilter(role="admin")),
    }[by]
    with acting(ops) as person, pytest.raises(NothingToRevoke, match="Only an administrator"):
        freeze(targets, actor=person)
    assert ada in alive(site)


@pytest.mark.parametrize("name", ["alice", "vera", "otto"])
def test_who_may_not_revoke_cannot_freeze_nor_confirm(site: Site, name: str) -> None:
    browser = site.signed_in(name)
    (bob,) = start(site, "bob")
    with commanding(site):
        frozen = freeze(Targets(references=(bob,)), actor=CLI)
    with acting(browser) as person:
        with pytest.raises(NotPermitted):
            freeze(Targets(references=(bob,)), actor=person)
        with pytest.raises(NotPermitted):
            confirm(frozen.id, actor=person, reason="incident")
        with pytest.raises(NotPermitted):
            revoke([bob], actor=person, reason="incident")
    assert bob in alive(site)


def test_only_an_administrator_ends_everyones_sessions(site: Site) -> None:
    ops = site.signed_in("ops")
    with acting(ops) as person, pytest.raises(NotPermitted):
        freeze(Targets(everyone=True), actor=person)


def test_a_review_is_stale_after_five_minutes(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    with commanding(any_site):
        frozen = freeze(Targets(references=(alice,)), actor=CLI)
        with clock_moved(301), pytest.raises(Stale, match="five minutes"):
            confirm(frozen.id, actor=CLI, reason="incident")
    assert alive(any_site) == {alice}
    (row,) = any_site.system.ledger.read(select(Revocation.created_at))
    with commanding(any_site), clock_at(any_site, row.created_at + timedelta(seconds=299)):
        assert revoke(frozen, actor=CLI, reason="incident").ended == 1


def test_another_persons_review_is_neither_shown_nor_confirmed(site: Site) -> None:
    ada, ops = site.signed_in("ada"), site.signed_in("ops")
    (alice,) = start(site, "alice")
    with acting(ada) as person:
        frozen = freeze(Targets(references=(alice,)), actor=person)
    with acting(ops) as person:
        assert review(frozen.id, actor=person) is None
        with pytest.raises(Stale, match="not yours"):
            confirm(frozen.id, actor=person, reason="incident")
    with commanding(site), pytest.raises(Stale):
        confirm(frozen.id, actor=CLI, reason="incident")
    assert alice in alive(site)


def test_a_review_is_confirmed_once(site: Site) -> None:
    (alice,) = start(site, "alice")
    with commanding(site):
        frozen = freeze(Targets(references=(alice,)), actor=CLI)
        confirm(frozen.id, actor=CLI, reason="incident")
        with pytest.raises(Stale, match="confirmed already"):
            confirm(frozen.id, actor=CLI, reason="policy")


def test_a_set_that_does_not_exist_is_stale(site: Site) -> None:
    with commanding(site), pytest.raises(Stale):
        confirm(4711, actor=CLI, reason="incident")


@pytest.mark.parametrize(
    "targets",
    [Targets(), Targets(references=("aaaaaaaaaa",)), Targets(user_id=4711), Targets(everyone=True)],
    ids=["none", "unknown", "a user without", "everyone of nobody"],
)
def test_where_there_is_nothing_to_revoke_it_says_so(any_site: Site, targets: Targets) -> None:
    with commanding(any_site), pytest.raises(NothingToRevoke):
        freeze(targets, actor=CLI)
    assert any_site.events() == []


def test_a_reason_that_is_no_code_is_refused_before_anything_happens(site: Site) -> None:
    (alice,) = start(site, "alice")
    with commanding(site), pytest.raises(ValueError, match="boredom"):
        revoke([alice], actor=CLI, reason="boredom")
    assert alive(site) == {alice}
    assert site.events("revocation.frozen") == []


def test_one_string_is_no_list_of_references(site: Site) -> None:
    (alice,) = start(site, "alice")
    with commanding(site), pytest.raises(TypeError, match="list"):
        revoke(alice, actor=CLI, reason="incident")


def test_each_step_is_recorded(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    with commanding(any_site):
        done = revoke([alice], actor=CLI, reason="lost_device", note="a tram")
    events = any_site.events()[1:]
    assert [event.verb for event in events] == [
        "revocation.frozen",
        "revocation.confirmed",
        "session.revoked",
        "revocation.finished",
    ]
    assert {event.revocation_id for event in events} == {done.revocation_id}
    assert {event.actor_name for event in events} == {"root"}
    assert (events[2].reference, events[2].reason, events[2].note) == (
        alice, "lost_device", "a tram",
    )  # fmt: skip


@pytest.mark.parametrize("tell", [True, False], ids=["ticked", "not ticked"])
def test_the_note_is_told_only_if_that_was_ticked(site: Site, tell: bool) -> None:
    browser = site.signed_in("alice")
    with commanding(site):
        revoke(
            [reference_of(site, "alice")],
            actor=CLI,
            reason="incident",
            note="<b>aha</b>",
            tell=tell,
        )
    page = browser.get("/account/sessions", follow_redirects=True).text
    assert "An administrator ended this session" in page
    assert ("aha" in page) is tell
    assert "<b>aha</b>" not in page


def test_a_revoked_session_stays_out_though_its_data_comes_back(
    site: Site, valkey: RedisServer
) -> None:
    browser = site.signed_in("alice")
    (row,) = site.live("alice")
    with valkey.client() as client:
        name = f"rollcall:session:{row.data_key}"
        snapshot = client.dump(name)
        with commanding(site):
            revoke([row.reference], actor=CLI, reason="incident")
        assert isinstance(snapshot, bytes)
        client.restore(name, 600_000, snapshot)
    assert not browser.is_signed_in()


def test_revoking_everyone_denies_all_at_once_and_spares_ones_own(any_site: Site) -> None:
    ada, alice = any_site.signed_in("ada"), any_site.signed_in("alice")
    start(any_site, "bob", "vera")
    with acting(ada) as person:
        frozen = freeze(Targets(everyone=True), actor=person)
        done = revoke(frozen, actor=person, reason="incident")
    assert (frozen.size, done.ended) == (3, 3)
    assert ada.is_signed_in()
    assert not alice.is_signed_in()
    assert any_site.signed_in("alice").is_signed_in()


def test_the_cutoff_denies_before_any_row_has_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, alice = site.signed_in("ada"), site.signed_in("alice")
    monkeypatch.setattr(revocation, "work", lambda *_: None)
    with acting(ada) as person:
        frozen = freeze(Targets(everyone=True), actor=person)
        done = revoke(frozen, actor=person, reason="incident")
    assert (done.ended, done.waiting, done.finished) == (0, 1, False)
    assert [row.ended_at for row in site.rows()] == [None, None]
    assert ada.is_signed_in()
    page = alice.get("/account/sessions", follow_redirects=True)
    assert "An administrator ended this session" in page.text
    assert site.signed_in("bob").is_signed_in()
    monkeypatch.undo()
    with site.app.app_context():
        assert resume(site.system) == 1
    assert [row.end_reason for row in site.rows()] == [None, "revoked", None]
    assert len(site.system.ledger.read(select(Cutoff.at))) == 1


def test_a_session_that_began_between_freeze_and_confirmation_of_everyone_survives(
    site: Site,
) -> None:
    ada = site.signed_in("ada")
    start(site, "alice")
    with acting(ada) as person:
        frozen = freeze(Targets(everyone=True), actor=person)
    (bob,) = start(site, "bob")
    with acting(ada) as person:
        confirm(frozen.id, actor=person, reason="incident")
    assert bob in alive(site)


class Crash(Exception):
    """A process that dies between two batches."""


def test_after_a_crash_between_batches_the_worker_goes_on(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=50)
    references = start(site, *["alice"] * 7)
    monkeypatch.setattr(revocation, "BATCH", 3)

    def crash(*_: Any) -> None:
        raise Crash

    monkeypatch.setattr(revocation, "purge", crash)
    with commanding(site):
        frozen = freeze(Targets(references=tuple(references)), actor=CLI)
        with pytest.raises(Crash):
            confirm(frozen.id, actor=CLI, reason="incident", note="n")
    assert len(alive(site)) == 4
    half = receipt(site.system, frozen.id)
    assert half is not None
    assert (half.ended, half.waiting, half.finished) == (3, 4, False)
    monkeypatch.undo()
    with site.app.app_context():
        assert resume(site.system) == 1
        assert resume(site.system) == 0
    assert alive(site) == set()
    done = receipt(site.system, frozen.id)
    assert done is not None
    assert (done.ended, done.waiting, done.finished) == (7, 0, True)
    assert len(site.events("session.revoked")) == 7
    assert {event.actor_name for event in site.events("session.revoked")} == {"root"}


def test_one_that_has_to_wait_keeps_no_other_from_being_gone_on_with(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = start(site, "alice", "bob")
    monkeypatch.setattr(revocation, "work", lambda *_: None)
    with commanding(site):
        first, second = (freeze(Targets(references=(one,)), actor=CLI) for one in (alice, bob))
        for frozen in (first, second):
            confirm(frozen.id, actor=CLI, reason="incident")
    monkeypatch.undo()
    work = revocation.work

    def wait_for_the_first(on: SessionSystem, revocation_id: int) -> None:
        if revocation_id == first.id:
            raise StoreUnavailable("database", "waited too long for a lock")
        work(on, revocation_id)

    monkeypatch.setattr(revocation, "work", wait_for_the_first)
    with site.app.app_context():
        assert resume(site.system) == 2
    assert alive(site) == {alice}


def test_however_long_a_batch_waits_there_is_time_for_the_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alice,) = start(site, "alice")

    def wait(*_: object) -> None:
        budget.charge(60)
        raise StoreUnavailable("database", "timed out")

    monkeypatch.setattr(revocation, "_batch", wait)
    with commanding(site), budget.limit(3):
        set_ = freeze(Targets(references=(alice,)), actor=CLI)
        confirm(set_.id, actor=CLI, reason="incident")
        assert (budget.remaining() or 0) > revocation._FOR_THE_ANSWER / 2
    half = receipt(site.system, set_.id)
    assert half is not None
    assert (half.ended, half.waiting, half.finished) == (0, 1, False)


def test_overlapping_revocations_end_each_session_once(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=50)
    references = start(site, *["alice"] * 6)
    with commanding(site):
        one = freeze(Targets(references=tuple(references[:4])), actor=CLI)
        two = freeze(Targets(references=tuple(references[2:])), actor=CLI)
        first = revoke(one, actor=CLI, reason="incident")
        second = revoke(two, actor=CLI, reason="policy")
    assert (first.ended, second.ended, second.already_ended) == (4, 2, 2)
    revoked = site.events("session.revoked")
    assert sorted(event.reference for event in revoked) == sorted(references)


def test_bulks_of_many_batches_end_all(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(SESSION_LIMIT=50)
    start(site, *["alice"] * 10)
    monkeypatch.setattr(revocation, "BATCH", 2)
    with commanding(site):
        frozen = freeze(Targets(matching=SessionFilter(user="alice")), actor=CLI)
        done = revoke(frozen, actor=CLI, reason="incident")
    assert (done.ended, done.purged, done.finished) == (10, 10, True)
    assert {row.revocation_id for row in site.rows()} == {frozen.id}


def test_without_their_events_no_session_ends(any_site: Site) -> None:
    (alice,) = start(any_site, "alice")
    with commanding(any_site):
        frozen = freeze(Targets(references=(alice,)), actor=CLI)
        with any_site.system.ledger.transaction() as tx:
            tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
        with pytest.raises(Exception, match="audit_events"):
            confirm(frozen.id, actor=CLI, reason="incident")
        with pytest.raises(Exception, match="audit_events"):
            freeze(Targets(references=(alice,)), actor=CLI)
    assert alive(any_site) == {alice}
    assert receipt(any_site.system, frozen.id) is None
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE elsewhere RENAME TO audit_events"))
    sizes = any_site.system.ledger.read(text("SELECT count(*) FROM revocations"))
    assert sizes[0][0] == 1


def test_a_filter_of_a_whole_store_is_reviewed_as_one(any_site: Site) -> None:
    ada = any_site.signed_in("ada")
    start(any_site, "alice", "bob")
    with acting(ada) as person:
        frozen = freeze(Targets(matching=SessionFilter(store="redis")), actor=person)
        seen = review(frozen.id, actor=person)
    assert seen is not None
    assert (seen.count, seen.users, seen.by_store) == (2, 2, {"redis": 2})
    assert seen.needs_count
    assert seen.needs_step_up


@pytest.fixture(params=["sqlite", "postgresql"])
def roomy_site(request: pytest.FixtureRequest, valkey: RedisServer) -> Iterator[Site]:
    """A site where a user may have many sessions, on each database in turn."""
    url = request.getfixturevalue(f"migrated_{request.param}_url")
    site = Site(create_app(settings(url, valkey.url, SESSION_LIMIT=50)))
    yield site
    site.close()


@pytest.mark.parametrize(
    ("names", "grave"),
    [(["alice"], False), (["alice"] * 10, False), (["alice"] * 11, True), (["vera"], True)],
    ids=["one member", "ten", "eleven", "staff"],
)
def test_a_review_asks_for_more_where_more_is_at_stake(
    roomy_site: Site, names: list[str], grave: bool
) -> None:
    site = roomy_site
    ada = site.signed_in("ada")
    references = start(site, *names)
    with acting(ada) as person:
        frozen = freeze(Targets(references=tuple(references)), actor=person)
        seen = review(frozen.id, actor=person)
    assert seen is not None
    assert (seen.needs_count, seen.needs_step_up) == (grave, grave)


def test_a_reference_is_found_in_capitals_too(site: Site) -> None:
    (alice,) = start(site, "alice")
    with commanding(site):
        done: Receipt = revoke([alice.upper()], actor=CLI, reason="incident")
    assert done.ended == 1


def test_ended_sessions_are_not_among_the_matching(site: Site) -> None:
    start(site, "alice")
    start(site, "alice")
    with commanding(site):
        assert freeze(Targets(user_id=site.user_id("alice")), actor=CLI).size == 1
        assert freeze(Targets(matching=SessionFilter(user="alice")), actor=CLI).size == 1


def test_an_operator_s_list_without_a_filter_is_everyone_s_and_refused(site: Site) -> None:
    start(site, "alice", "bob")
    ops = site.signed_in("ops")
    with acting(ops) as principal, pytest.raises(NotPermitted):
        freeze(Targets(matching=SessionFilter()), actor=principal)


def test_all_of_a_store_is_a_whole_store_however_it_was_filtered(site: Site) -> None:
    start(site, "alice", "bob")
    ops = site.signed_in("ops")
    with acting(ops) as principal:
        frozen = freeze(Targets(matching=SessionFilter(role="member")), actor=principal)
        shown = review(frozen.id, actor=principal)
    assert shown is not None
    assert shown.needs_step_up


def test_a_set_is_bound_to_the_session_that_froze_it(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_LIMIT=3)
    first, second = site.signed_in("ada"), site.signed_in("ada")
    (_, other) = [row.reference for row in site.live("ada")]
    with acting(first) as principal:
        frozen = freeze(Targets(references=(other,)), actor=principal)
    with acting(second) as principal, pytest.raises(Stale):
        confirm(frozen.id, actor=principal, reason="incident")
    assert second.is_signed_in()


def test_a_session_that_time_had_ended_is_not_called_revoked(any_site: Site) -> None:
    start(any_site, "alice")
    with commanding(any_site), clock_moved(1801):
        done = revoke([reference_of(any_site, "alice")], actor=CLI, reason="incident")
    assert (done.ended, done.already_ended, done.present) == (0, 1, 0)
    assert any_site.rows()[0].end_reason == "idle_timeout"
