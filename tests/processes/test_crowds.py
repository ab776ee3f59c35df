"""Many at once, from four processes: sign-ins of one user over both stores, revocations of one session."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from app import create_app
from app.sessions import upkeep
from tests.processes.barrier import Barrier
from tests.processes.conftest import DATABASES, Deployment, settings_for
from tests.processes.crowd import Crowd
from tests.servers import RedisServer
from tests.site import Site

PROCESSES = 4
SIGN_INS = 200
REVOKES = 100


@dataclass
class Square:
    """A ledger, both stores and the site of four processes: two sign members in to each store."""

    url: str
    redis: str
    barrier: Barrier

    def site(self, **overrides: object) -> Site:
        return Site(create_app(settings_for(self.url, self.redis, **overrides)))

    def crowd(self, act: str, whom: str, times: int, **overrides: object) -> dict[str, int]:
        """Let the four processes act `times` times in all."""
        by_store = [
            settings_for(
                self.url,
                self.redis,
                SESSION_STORE_BY_ROLE={"member": store, "admin": "sql"},
                **overrides,
            )
            for store in ("redis", "sql") * (PROCESSES // 2)
        ]
        return Crowd(self.barrier).run(act, whom, times // PROCESSES, by_store)


@pytest.fixture(params=DATABASES)
def square(
    request: pytest.FixtureRequest,
    new_url: Callable[[str], str],
    valkey: RedisServer,
    barrier: Barrier,
) -> Square:
    return Square(new_url(request.param), valkey.url, barrier)


@pytest.fixture
def site(square: Square) -> Iterator[Site]:
    made = square.site()
    yield made
    made.close()


def payloads(square: Square, site: Site) -> int:
    return len(Deployment.holdings(Deployment(site, (), square.barrier, "")))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 3])
def test_sign_ins_at_once_leave_as_many_sessions_as_the_limit_allows(
    square: Square, site: Site, limit: int
) -> None:
    came = square.crowd("sign_in", "alice", SIGN_INS, SESSION_LIMIT=limit)
    assert came == {"signed in": SIGN_INS}

    live = site.live("alice")
    assert len(live) == limit
    assert len(site.events("session.signed_in")) == SIGN_INS
    assert len(site.events("session.superseded")) == SIGN_INS - limit
    ended = [row for row in site.rows() if row.ended_at is not None]
    assert {row.end_reason for row in ended} == {"superseded"}
    assert {row.store for row in site.rows()} == {"redis", "sql"}

    upkeep.run(site.system)
    assert payloads(square, site) == limit
    assert all(site.payload(row) is not None for row in live)


@pytest.mark.parametrize("square", ["mariadb"], indirect=True)
def test_sign_ins_at_once_on_mariadb_leave_one_session(square: Square, site: Site) -> None:
    test_sign_ins_at_once_leave_as_many_sessions_as_the_limit_allows(square, site, 1)


@pytest.mark.parametrize("limit", [1, 3])
def test_sign_ins_at_once_never_pass_a_limit_that_denies(
    square: Square, site: Site, limit: int
) -> None:
    came = square.crowd(
        "sign_in", "alice", SIGN_INS, SESSION_LIMIT=limit, SESSION_LIMIT_POLICY="deny"
    )
    assert came == {"signed in": limit, "denied": SIGN_INS - limit}
    assert [row.ended_at for row in site.rows()] == [None] * limit
    assert len(site.events("session.signed_in")) == limit
    assert len(site.events("session.sign_in_denied")) == SIGN_INS - limit
    assert site.events("session.sign_in_failed") == []

    upkeep.run(site.system)
    assert payloads(square, site) == limit


def test_revocations_of_one_session_at_once_end_it_once(square: Square, site: Site) -> None:
    square.crowd("sign_in", "alice", PROCESSES)
    (row,) = site.live("alice")
    came = square.crowd("revoke", row.reference, REVOKES)
    assert came == {"ended 1, already ended 0": 1, "ended 0, already ended 1": REVOKES - 1}
    assert len(site.events("session.revoked")) == 1
    assert len(site.events("revocation.confirmed")) == REVOKES
    assert site.live("alice") == []
    assert site.payload(row) is None
