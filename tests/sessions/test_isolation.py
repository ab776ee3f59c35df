"""The session layer keeps to itself: it commits nothing of the application's and holds no connection."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import cast

import pytest
from flask import session
from sqlalchemy import Update, insert, select, text, update

from app import create_app
from app.audit.trail import Actor
from app.auth import changes
from app.auth.sign_in import sign_in, sign_out, step_up
from app.columns import clock
from app.extensions import db
from app.people.models import User
from app.sessions.freeze import Targets, freeze
from app.sessions.isolation import UncommittedWork
from app.sessions.receipt import Receipt
from app.sessions.revocation import resume, revoke
from app.sessions.store import StoreUnavailable
from app.sessions.stores.engines import transaction
from tests.processes.conftest import waiters
from tests.processes.web import in_background
from tests.servers import RedisServer, wait_until
from tests.sessions.helpers import add_view
from tests.sessions.test_revocation import start
from tests.site import PASSWORD, Site, clock_moved, settings


def somebody(name: str = "eve") -> User:
    return User(
        name=name,
        name_key=name,
        role="member",
        active=True,
        password_hash="x",
        created_at=db.session.scalar(select(clock())),
        password_changed_at=db.session.scalar(select(clock())),
    )


def names(site: Site) -> set[str]:
    return {row.name for row in site.system.ledger.read(select(User.name))}


def test_what_a_view_flushed_and_never_committed_is_not_there_afterwards(any_site: Site) -> None:
    def flush() -> str:
        session["n"] = 1
        db.session.add(somebody())
        db.session.flush()
        return "flushed"

    add_view(any_site, "/flush", flush)
    browser = any_site.signed_in("alice")
    with clock_moved(120):
        assert browser.get("/flush").text == "flushed"
    assert "eve" not in names(any_site)
    with browser.client.session_transaction() as held:
        assert held["n"] == 1


def test_an_exception_after_a_flush_leaves_no_row(any_site: Site) -> None:
    def fail() -> str:
        session["n"] = 1
        db.session.add(somebody())
        db.session.flush()
        raise ZeroDivisionError

    any_site.app.config["PROPAGATE_EXCEPTIONS"] = False
    add_view(any_site, "/fail", fail)
    browser = any_site.signed_in("alice")
    with clock_moved(120):
        assert browser.get("/fail").status_code == 500
    assert "eve" not in names(any_site)


def test_what_a_view_committed_stays(any_site: Site) -> None:
    def commit() -> str:
        session["n"] = 1
        db.session.add(somebody())
        db.session.commit()
        return "committed"

    add_view(any_site, "/commit", commit)
    browser = any_site.signed_in("alice")
    with clock_moved(120):
        assert browser.get("/commit").text == "committed"
    assert "eve" in names(any_site)


def test_a_view_that_reads_with_db_session_may_use_its_session_and_be_touched(
    any_site: Site,
) -> None:
    def read() -> str:
        count = db.session.scalar(select(User.id).limit(1))
        session["n"] = count
        return "read"

    add_view(any_site, "/read", read)
    browser = any_site.signed_in("alice")
    with clock_moved(120):
        assert browser.get("/read").text == "read"
        (row,) = any_site.live("alice")
        assert (
            any_site.system.ledger.now() - row.last_seen_at < row.idle_expires_at - row.last_seen_at
        )


WRITES: dict[str, Callable[[], object]] = {
    "unflushed": lambda: db.session.add(somebody()),
    "flushed": lambda: (db.session.add(somebody()), db.session.flush()),
    "bulk": lambda: db.session.execute(update(User).values(disabled_at=None)),
    "insert": lambda: db.session.execute(
        insert(User).values(
            name="eve", name_key="eve", role="member", active=True, password_hash="x",
            created_at=clock(), password_changed_at=clock(),
        )
    ),
    "text": lambda: db.session.execute(text("UPDATE users SET disabled_at = NULL")),
    "changed": lambda: setattr(db.session.scalars(select(User)).first(), "name", "x"),
    "deleted": lambda: db.session.delete(db.session.scalars(select(User)).first()),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITES)
def test_signing_in_beside_uncommitted_writes_fails_and_names_the_remedy(
    any_site: Site, kind: str
) -> None:
    def view() -> str:
        alice = db.session.scalars(select(User).where(User.name == "alice")).one()
        db.session.expunge(alice)
        WRITES[kind]()
        with pytest.raises(UncommittedWork, match=r"db.session.commit\(\).*before sign_in\(\)"):
            sign_in(alice)
        db.session.rollback()
        sign_in(alice)
        return "in"

    add_view(any_site, "/in", view)
    assert any_site.browser().get("/in").text == "in"
    assert len(any_site.live("alice")) == 1
    assert "eve" not in names(any_site)


ACTS: dict[str, Callable[[], object]] = {
    "sign_out": sign_out,
    "step_up": lambda: step_up(PASSWORD),
    "freeze": lambda: freeze(Targets(everyone=True), actor=Actor.cli("test")),
    "freeze by revoke": lambda: revoke(["x"], actor=Actor.cli("test"), reason="other"),
    "create_user": lambda: changes.create_user("eve", "member", "x", actor=Actor.cli("t")),
    "disable_user": lambda: changes.disable_user(1, actor=Actor.cli("t")),
    "enable_user": lambda: changes.enable_user(1, actor=Actor.cli("t")),
    "change_role": lambda: changes.change_role(1, "viewer", actor=Actor.cli("t")),
    "reset_password": lambda: changes.reset_password(1, "x", actor=Actor.cli("t")),
    "change_own_password": lambda: changes.change_own_password("x", "y"),
    "end_own_session": changes.end_own_other_sessions,
}


@pytest.mark.parametrize("act", ACTS)
def test_every_act_beside_uncommitted_writes_fails_and_is_named(site: Site, act: str) -> None:
    def view() -> str:
        db.session.execute(text("UPDATE users SET disabled_at = NULL"))
        with pytest.raises(UncommittedWork, match=rf"before {act.split(' ', maxsplit=1)[0]}\(\)"):
            ACTS[act]()
        return "refused"

    add_view(site, "/act", view, signed_in=True)
    browser = site.signed_in("alice")
    assert browser.get("/act").text == "refused"
    assert browser.is_signed_in()
    assert [event.verb for event in site.events()] == ["session.signed_in"]


def test_committed_writes_are_no_hindrance(any_site: Site) -> None:
    def view() -> str:
        db.session.execute(text("UPDATE users SET disabled_at = NULL"))
        db.session.commit()
        sign_in(db.session.scalars(select(User).where(User.name == "alice")).one())
        return "in"

    add_view(any_site, "/in", view)
    assert any_site.browser().get("/in").text == "in"


def test_reads_are_no_hindrance(any_site: Site) -> None:
    def view() -> str:
        found = db.session.scalars(select(User).where(User.name == "alice")).one()
        sign_in(found)
        return "in"

    add_view(any_site, "/in", view)
    assert any_site.browser().get("/in").text == "in"


def test_no_connection_is_held_while_a_view_runs(any_site: Site) -> None:
    held: list[int] = []

    def look() -> str:
        session["n"] = 1
        pools = [any_site.system.ledger.engine.pool, any_site.system.stores["sql"]._engine.pool]  # type: ignore[attr-defined]
        held.extend(pool.checkedout() for pool in pools)
        held.append(db.engine.pool.checkedout())
        return "looked"

    add_view(any_site, "/look", look)
    for name in ("alice", "ada"):
        browser = any_site.signed_in(name)
        with clock_moved(120):
            browser.get("/look")
    assert held == [0] * 6


def test_a_pool_of_one_serves_a_view_that_uses_both_sessions(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.system._POOL", 1)
    site = make_site()

    def both() -> str:
        session["n"] = db.session.scalar(select(User.id).limit(1))
        db.session.add(somebody())
        db.session.commit()
        return str(session["n"])

    add_view(site, "/both", both)
    with site.app.app_context():
        for engine in (db.engine, site.system.ledger.engine, site.system.stores["sql"]._engine):  # type: ignore[attr-defined]
            engine.pool._max_overflow = 0
    browser = site.signed_in("ada")
    with clock_moved(120):
        assert browser.get("/both").text.isdecimal()
    assert "eve" in names(site)


def test_a_value_that_no_session_holds_is_a_500_page_and_saves_nothing(make_site):
    site: Site = make_site(TESTING=False, PROPAGATE_EXCEPTIONS=False)

    def write() -> str:
        session["basket"] = object()
        return "written"

    add_view(site, "/write", write, signed_in=True)
    alice = site.signed_in("alice")
    before = site.payload(site.live("alice")[0])
    answer = alice.get("/write")
    assert answer.status_code == 500
    assert "written" not in answer.text
    assert site.payload(site.live("alice")[0]) == before


@pytest.fixture
def contended(migrated_postgresql_url: str, valkey: RedisServer) -> Iterator[Site]:
    """A site on PostgreSQL that answers a fault with its page."""
    given = settings(migrated_postgresql_url, valkey.url, PROPAGATE_EXCEPTIONS=False)
    site = Site(create_app(given))
    yield site
    site.close()


def update_of(name: str) -> Update:
    return update(User).where(User.name == name).values(disabled_at=None)


def in_the_background(site: Site, references: list[str]) -> "Future[Receipt]":
    """Revoke sessions as a command does, which locks their users in id order."""

    def revoking() -> Receipt:
        with site.app.test_request_context():
            return revoke(references, actor=Actor.cli("test"), reason="incident")

    return cast("Future[Receipt]", in_background(revoking))


def test_a_view_that_a_deadlock_ends_is_a_503_and_the_revocation_is_whole(contended: Site) -> None:
    revoking: list[Future[Receipt]] = []

    def view() -> str:
        # Whoever looks for a deadlock first is the one whom it ends.
        db.session.execute(text("SET LOCAL deadlock_timeout = 20"))
        db.session.execute(update_of("bob"))
        revoking.append(in_the_background(contended, references))
        wait_until(lambda: waiters(contended) == 1)
        db.session.execute(update_of("alice"))
        return "both"

    add_view(contended, "/both", view)
    references = start(contended, "alice", "bob")
    answer = contended.browser().get("/both")
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    receipt = revoking[0].result(10)
    assert (receipt.ended, receipt.already_ended, receipt.finished) == (2, 0, True)
    assert len(contended.events("session.revoked")) == 2


def test_a_revocation_that_a_deadlock_ends_has_ended_nobody_and_is_resumed(contended: Site) -> None:
    references = start(contended, "alice", "bob", "vera")
    engine = contended.system.ledger.engine
    with transaction(engine) as views, transaction(engine) as another:
        views.execute(text("SET LOCAL deadlock_timeout = 20000"))
        views.execute(update_of("vera"))
        another.execute(update_of("bob"))
        revoking = in_the_background(contended, references)
        wait_until(lambda: waiters(contended) == 1)
        wanting = in_background(lambda: views.execute(update_of("alice")))
        wait_until(lambda: waiters(contended) == 2)
        another.commit()
        with pytest.raises(StoreUnavailable, match="waited too long for a lock"):
            revoking.result(10)
        wanting.result(10)
    assert [row.ended_at for row in contended.rows()] == [None] * 3
    assert contended.events("session.revoked") == []

    assert resume(contended.system) == 1
    assert {row.end_reason for row in contended.rows()} == {"revoked"}
    assert len(contended.events("session.revoked")) == 3
    assert resume(contended.system) == 0
