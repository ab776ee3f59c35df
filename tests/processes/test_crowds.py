"""Many at once, from four processes: sign-ins of one user over both stores, revocations of one session.

A thousand on PostgreSQL, fewer where each commit waits for the one before; TEST_SIGN_INS says another number.
"""

import os

import pytest

from app.sessions import upkeep
from tests.processes.conftest import PROCESSES, Square, holdings
from tests.site import Site

REVOKES = 100


def sign_ins(square: Square) -> int:
    fewer = 1000 if square.database == "postgresql" else 240
    return int(os.environ.get("TEST_SIGN_INS") or fewer)


@pytest.mark.parametrize("limit", [1, 3])
def test_sign_ins_at_once_leave_as_many_sessions_as_the_limit_allows(
    square: Square, site: Site, limit: int
) -> None:
    times = sign_ins(square)
    came = square.crowd("sign_in", "alice", times, SESSION_LIMIT=limit)
    assert came == {"signed in": times}

    live = site.live("alice")
    assert len(live) == limit
    assert len(site.events("session.signed_in")) == times
    assert len(site.events("session.superseded")) == times - limit
    ended = [row for row in site.rows() if row.ended_at is not None]
    assert {row.end_reason for row in ended} == {"superseded"}
    assert {row.store for row in site.rows()} == {"redis", "sql"}

    upkeep.run(site.system)
    assert len(holdings(site)) == limit
    assert all(site.payload(row) is not None for row in live)


@pytest.mark.parametrize("square", ["mariadb"], indirect=True)
def test_sign_ins_at_once_on_mariadb_leave_one_session(square: Square, site: Site) -> None:
    test_sign_ins_at_once_leave_as_many_sessions_as_the_limit_allows(square, site, 1)


@pytest.mark.parametrize("limit", [1, 3])
def test_sign_ins_at_once_never_pass_a_limit_that_denies(
    square: Square, site: Site, limit: int
) -> None:
    times = sign_ins(square)
    came = square.crowd("sign_in", "alice", times, SESSION_LIMIT=limit, SESSION_LIMIT_POLICY="deny")
    assert came == {"signed in": limit, "denied": times - limit}
    assert [row.ended_at for row in site.rows()] == [None] * limit
    assert len(site.events("session.signed_in")) == limit
    assert len(site.events("session.sign_in_denied")) == times - limit
    assert site.events("session.sign_in_failed") == []

    upkeep.run(site.system)
    assert len(holdings(site)) == limit


def test_revocations_of_one_session_at_once_end_it_once(square: Square, site: Site) -> None:
    square.crowd("sign_in", "alice", PROCESSES)
    (row,) = site.live("alice")
    came = square.crowd("revoke", row.reference, REVOKES)
    assert came == {"ended 1, already ended 0": 1, "ended 0, already ended 1": REVOKES - 1}
    assert len(site.events("session.revoked")) == 1
    assert len(site.events("revocation.confirmed")) == REVOKES
    assert site.live("alice") == []
    assert site.payload(row) is None
