"""Revoked stays revoked (invariant 1): a revocation against a request in flight, over two processes."""

from concurrent.futures import Future

import pytest

from app.audit.trail import Actor
from app.auth.changes import disable_user, enable_user
from app.columns import AnyRow
from tests.processes.barrier import PATIENCE
from tests.processes.conftest import Deployment
from tests.processes.web import Answer, Person

pytestmark = pytest.mark.admin

IN_FLIGHT = {"reads": 200, "writes": 200, "raises": 500, "streams": 200, "looks_late": 401}
"""What a request in flight does, and how it ends: it may finish, but one that looks late is told."""

kinds = pytest.mark.parametrize("kind", IN_FLIGHT)


def held(at: Deployment, person: Person, kind: str, mark: str) -> "Future[Answer]":
    """Start a request at the first server that stops at the barrier."""
    return person.start(at.webs[0], f"/t/hold/{kind}?door={mark}&mark={mark}")


def is_nobody(at: Deployment, person: Person) -> bool:
    """Say whether no server knows this person's cookie; asking leaves the cookies alone."""
    asked = [person.ask(web, "GET", "/t/who") for web in at.webs]
    refused = [person.ask(web, "GET", "/account/sessions?format=json") for web in at.webs]
    return all(answer.json == {"name": None} for answer in asked) and all(
        answer.status == 401 for answer in refused
    )


def assert_gone(at: Deployment, row: AnyRow, mark: str) -> None:
    """Nothing of the session, and nothing that its late request wrote, is in any store."""
    assert at.site.payload(row) is None
    assert not [payload for payload in at.holdings() if mark.encode() in payload]


@kinds
def test_a_revoked_session_stays_revoked_whatever_its_request_in_flight_does(
    deployment: Deployment, kind: str, mark: str
) -> None:
    alice, ops = deployment.entered("alice"), deployment.entered("ops")
    (row,) = deployment.site.live("alice")
    assert row.store == deployment.store
    in_flight = held(deployment, alice, kind, mark)
    door = deployment.barrier.arrived(mark)

    receipt = ops.revoke(deployment.webs[1], row.reference)
    assert (receipt["ended"], receipt["purged"], receipt["present"]) == (1, 1, 0)
    assert is_nobody(deployment, alice)

    door.open()
    if kind == "streams":
        deployment.barrier.arrived(mark).open()
    answer = in_flight.result(PATIENCE)
    assert answer.status == IN_FLIGHT[kind]
    assert answer.cookies.get(deployment.cookie_name, "") == ""
    assert is_nobody(deployment, alice)
    assert_gone(deployment, row, mark)
    (after,) = [r for r in deployment.site.rows() if r.id == row.id]
    assert after.end_reason == "revoked"


def test_a_stream_that_has_begun_writes_nothing_after_a_revocation(
    deployment: Deployment, mark: str
) -> None:
    alice, ops = deployment.entered("alice"), deployment.entered("ops")
    (row,) = deployment.site.live("alice")
    in_flight = held(deployment, alice, "streams", mark)
    deployment.barrier.arrived(mark).open()
    begun = deployment.barrier.arrived(mark)
    stored = deployment.site.payload(row)
    assert stored is not None
    assert mark.encode() in stored

    ops.revoke(deployment.webs[1], row.reference)
    begun.open()
    answer = in_flight.result(PATIENCE)
    assert answer.text == f"first {mark}"
    assert answer.cookies == {}
    assert is_nobody(deployment, alice)
    assert_gone(deployment, row, mark)


def test_a_sign_in_by_the_form_elsewhere_ends_the_session_of_a_request_in_flight(
    deployment: Deployment, mark: str
) -> None:
    alice, elsewhere = deployment.entered("alice"), Person()
    (row,) = deployment.site.live("alice")
    in_flight = held(deployment, alice, "writes", mark)
    door = deployment.barrier.arrived(mark)
    signed_in = elsewhere.post(
        deployment.webs[1], "/login", username="alice", password="correct horse battery staple"
    )
    assert signed_in.status == 303
    door.open()
    assert in_flight.result(PATIENCE).cookies == {}
    assert is_nobody(deployment, alice)
    assert elsewhere.is_at(deployment.webs[0]) == "alice"
    assert_gone(deployment, row, mark)


def test_a_sign_out_beats_a_request_of_the_same_browser_in_flight(
    deployment: Deployment, mark: str
) -> None:
    alice = deployment.entered("alice")
    (row,) = deployment.site.live("alice")
    old = Person(dict(alice.cookies))
    in_flight = held(deployment, alice, "writes", mark)
    door = deployment.barrier.arrived(mark)
    out = alice.post(deployment.webs[1], "/logout", form="/account/sessions")
    assert out.cookies[deployment.cookie_name] == ""
    door.open()
    assert in_flight.result(PATIENCE).cookies == {}
    assert is_nobody(deployment, old)
    assert_gone(deployment, row, mark)


def test_a_disabled_users_request_in_flight_leaves_nothing(
    deployment: Deployment, mark: str
) -> None:
    site = deployment.site
    alice = deployment.entered("alice")
    (row,) = site.live("alice")
    in_flight = held(deployment, alice, "writes", mark)
    door = deployment.barrier.arrived(mark)
    try:
        with site.app.app_context():
            assert disable_user(row.user_id, actor=Actor.cli("tests")) == 1
        assert is_nobody(deployment, alice)
        door.open()
        assert in_flight.result(PATIENCE).cookies == {}
        assert is_nobody(deployment, alice)
        assert_gone(deployment, row, mark)
    finally:
        with site.app.app_context():
            enable_user(row.user_id, actor=Actor.cli("tests"))
