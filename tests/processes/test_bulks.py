"""Bulk revocations by two operators at once, on overlapping sets, beside sign-ins and the worker."""

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import insert

from app import create_app
from app.people.models import Role, User
from app.sessions import revocation, upkeep
from app.sessions.freeze import Targets, freeze
from app.sessions.handles import new_data_key, new_reference
from app.sessions.ledger import Principal
from app.sessions.models import Revocation, UserSession
from app.sessions.receipt import receipt
from app.sessions.transaction import live
from tests.processes.barrier import PATIENCE
from tests.processes.conftest import Square, holdings, settings_for, waiters
from tests.servers import wait_until
from tests.sessions.test_revocation import start
from tests.site import Site

PEOPLE = 250
SESSIONS = 12
"""Sessions of each: 3,000 in all."""
LIMIT = SESSIONS
SIGN_INS = 40


@pytest.fixture
def site(square: Square) -> Iterator[Site]:
    made = Site(create_app(settings_for(square.url, square.redis, SESSION_LIMIT=LIMIT)))
    yield made
    made.close()


def populate(site: Site) -> list[str]:
    """Sign many people in many times without a request of theirs; return the references, oldest first."""
    site.signed_in("alice")
    (row,) = site.live("alice")
    user = site.system.ledger.read(User.__table__.select().where(User.name == "alice"))[0]
    names = [f"person{number:03}" for number in range(PEOPLE)]
    references = []
    with site.system.ledger.transaction() as tx:
        copy = {k: v for k, v in user._mapping.items() if k != "id"}
        tx.connection.execute(insert(User), [{**copy, "name": n, "name_key": n} for n in names])
        ids = tx.connection.execute(User.__table__.select().where(User.name.in_(names)))
        people = [each.id for each in ids]
        column = set(UserSession.__table__.c.keys()) - {"id"}
        shared = {k: v for k, v in row._mapping.items() if k in column}
        values = []
        # One session of each person after the other, so that ranges of rows share all people.
        for number in range(SESSIONS * PEOPLE):
            own = {
                "reference": new_reference(),
                "handle": secrets.token_bytes(32),
                "data_key": new_data_key(),
                "user_id": people[number % PEOPLE],
                "store": ("redis", "sql")[number % 2],
            }
            references.append(own["reference"])
            values.append(shared | own)
        tx.connection.execute(insert(UserSession), values)
    for each in values[:: len(values) // 100]:
        ttl = row.idle_expires_at - row.started_at
        site.system.stores[each["store"]].create(each["data_key"], b"{}", ttl)
    return references


@contextmanager
def both_wait(square: Square, site: Site, name: str) -> Iterator[None]:
    """Hold a person's lock until both revocations of the block wait: each with all locks it could get."""
    if square.database == "sqlite":
        # One writer at a time: there is nothing to hold.
        yield
        return
    with site.system.ledger.transaction() as tx:
        tx.lock_users([site.user_id(name)])
        yield
        wait_until(lambda: waiters(site) == 2, PATIENCE)


def alive(site: Site) -> set[str]:
    return {row.reference for row in site.rows(live())}


def principal(site: Site, reference: str) -> Principal:
    """Return the person of a session."""
    (row,) = site.rows(UserSession.reference == reference)
    times = (row.started_at, row.stepped_up_at, row.last_seen_at)
    deadlines = (row.idle_expires_at, row.absolute_expires_at)
    asked_at = site.system.ledger.now()
    return Principal(row.user_id, row.name, Role.ADMIN, reference, *times, *deadlines, asked_at)


def test_overlapping_revocations_in_opposite_orders_end_each_session_once(
    square: Square, site: Site
) -> None:
    references = populate(site)
    third = len(references) // 3
    first, second = references[: 2 * third], references[third:][::-1]
    newcomers = [f"person{number:03}" for number in range(0, PEOPLE, PEOPLE // SIGN_INS)]
    orders = [
        square.order("revoke", order={"whom": [" ".join(first)]}),
        square.order("revoke", order={"whom": [" ".join(second)]}),
        square.order(
            "sign_in",
            order={"whom": newcomers, "times": SIGN_INS, "stop": "begin"},
            SESSION_LIMIT=LIMIT,
        ),
        square.order("pass", order={"times": 4, "stop": "begin"}),
    ]
    under_way = square.at_once(orders)
    with both_wait(square, site, f"person{PEOPLE - 1:03}"):
        under_way.start()
        doors = [square.barrier.arrived(f"crowd-{at}-begin") for at in (2, 3)]
    for door in doors:
        door.open()
    *_, entered, passed = under_way.finish()
    assert entered == {"signed in": SIGN_INS}
    assert passed == {"passed": 4}

    rows = [row for row in site.rows() if row.reference in set(references)]
    assert all(row.ended_at is not None for row in rows)
    ends = Counter(
        each.reference
        for verb in ("session.revoked", "session.superseded")
        for each in site.events(verb)
        if each.reference in set(references)
    )
    assert ends == Counter(references)
    assert len(site.rows(live())) == SIGN_INS + 1

    revoked = Counter(row.revocation_id for row in rows if row.end_reason == "revoked")
    assert set(revoked) <= {1, 2}
    assert sum(revoked.values()) + len(site.events("session.superseded")) == len(references)
    for row in site.system.ledger.read(Revocation.__table__.select()):
        got = receipt(site.system, row.id)
        assert got is not None
        assert got.finished
        assert got.ended == revoked[row.id]
        assert got.ended + got.already_ended == row.size == 2 * third
        assert (got.purged, got.present) == (got.ended, 0)

    revocation.resume(site.system)
    upkeep.run(site.system)
    assert len(holdings(site)) == SIGN_INS + 1


def test_signing_everyone_out_twice_at_once_lets_nobody_back_in(
    square: Square, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both operators' batches are still to come: each is denied by the other's cutoff."""
    references = [reference for name in ("ada", "ada") for reference in start(site, name)]
    actors = [principal(site, reference) for reference in references]
    monkeypatch.setattr(revocation, "work", lambda *_: None)
    with site.app.test_request_context():
        older = freeze(Targets(everyone=True), actor=actors[0])
        start(site, "alice")
        newer = freeze(Targets(everyone=True), actor=actors[1])
        later = start(site, "bob")
        revocation.revoke(newer, actor=actors[1], reason="incident")
        assert alive(site) == {references[1], *later}
        revocation.revoke(older, actor=actors[0], reason="incident")
    assert alive(site) == set(later)
