"""No lost update (invariant 9) and a new id at every change of trust (8), over two processes."""

import secrets

import pytest

from app.audit.trail import Actor
from app.auth.changes import change_role
from tests.processes.barrier import PATIENCE
from tests.processes.conftest import Deployment
from tests.processes.web import Person
from tests.site import PASSWORD

ROUNDS = 25


def data_of(at: Deployment, person: Person) -> dict[str, str]:
    data: dict[str, str] = person.get(at.webs[0], "/t/who").json["data"]
    return data


def test_two_processes_that_change_different_keys_both_keep_theirs(
    deployment: Deployment, mark: str
) -> None:
    alice = deployment.entered("alice")
    wanted: dict[str, str] = {}
    for number in range(ROUNDS):
        both = []
        for side, web in enumerate(deployment.webs):
            key, door = f"{'left' if side else 'right'}{number}", f"{mark}-{number}-{side}"
            wanted[key] = door
            both.append(alice.start(web, f"/t/set/{key}?mark={door}&door={door}"))
        doors = [deployment.barrier.arrived(f"{mark}-{number}-{side}") for side in (0, 1)]
        for door in doors:
            door.open()
        assert [each.result(PATIENCE).status for each in both] == [200, 200]
        assert data_of(deployment, alice) == wanted


def test_one_key_that_two_processes_change_takes_the_later_save(
    deployment: Deployment, mark: str
) -> None:
    alice = deployment.entered("alice")
    slow = alice.start(deployment.webs[0], f"/t/set/key?mark=slow&door={mark}")
    door = deployment.barrier.arrived(mark)
    assert alice.get(deployment.webs[1], "/t/set/key?mark=quick").status == 200
    door.open()
    assert slow.result(PATIENCE).status == 200
    assert data_of(deployment, alice) == {"key": "slow"}


@pytest.mark.parametrize(("kind", "status"), [("reads", 200), ("raises", 500), ("streams", 200)])
def test_a_quick_write_survives_whatever_a_slow_request_does(
    deployment: Deployment, mark: str, kind: str, status: int
) -> None:
    alice = deployment.entered("alice")
    slow = alice.start(deployment.webs[0], f"/t/hold/{kind}?mark={mark}&door={mark}")
    door = deployment.barrier.arrived(mark)
    assert alice.get(deployment.webs[1], "/t/set/key?mark=quick").status == 200
    door.open()
    if kind == "streams":
        deployment.barrier.arrived(mark).open()
    assert slow.result(PATIENCE).status == status
    wrote = {"reads": {}, "raises": {"before": mark, "after": mark}, "streams": {"before": mark}}
    assert data_of(deployment, alice) == {"key": "quick"} | wrote[kind]


@pytest.mark.admin
def test_a_demotion_survives_a_stale_request_in_flight(deployment: Deployment, mark: str) -> None:
    site = deployment.site
    ops = deployment.entered("ops")
    assert ops.get(deployment.webs[1], "/admin/sessions").status == 200
    (row,) = site.live("ops")
    in_flight = ops.start(deployment.webs[0], f"/t/hold/writes?mark={mark}&door={mark}")
    door = deployment.barrier.arrived(mark)
    user_id = site.user_id("ops")
    try:
        with site.app.app_context():
            assert change_role(user_id, "member", actor=Actor.cli("tests")) == 1
        door.open()
        assert in_flight.result(PATIENCE).cookies == {}
        assert [ops.is_at(web) for web in deployment.webs] == [None, None]
        assert site.payload(row) is None

        again = deployment.entered("ops")
        assert [again.ask(web, "GET", "/admin/sessions").status for web in deployment.webs] == [
            403,
            403,
        ]
    finally:
        with site.app.app_context():
            change_role(user_id, "operator", actor=Actor.cli("tests"))


def test_a_step_up_gives_a_new_id_and_keeps_what_a_slow_request_writes(
    deployment: Deployment, mark: str
) -> None:
    alice = deployment.entered("alice")
    old = Person(dict(alice.cookies))
    slow = old.start(deployment.webs[0], f"/t/set/slow?mark={mark}&door={mark}")
    door = deployment.barrier.arrived(mark)
    stepped_up = alice.post(deployment.webs[1], "/reauth", password=PASSWORD)
    assert stepped_up.status == 303
    name = deployment.cookie_name
    assert alice.cookies[name] == stepped_up.cookies[name] != old.cookies[name]
    assert [old.ask(web, "GET", "/t/who").json["name"] for web in deployment.webs] == [None, None]

    door.open()
    answer = slow.result(PATIENCE)
    assert answer.status == 200
    assert answer.cookies == {}
    assert data_of(deployment, alice) == {"slow": mark}
    assert [old.ask(web, "GET", "/t/who").json["name"] for web in deployment.webs] == [None, None]
    (row,) = deployment.site.live("alice")
    assert row.regenerations == 1


def test_a_planted_id_is_never_adopted(deployment: Deployment) -> None:
    name, planted = deployment.cookie_name, secrets.token_urlsafe(32)
    victim = Person({name: planted})
    assert victim.is_at(deployment.webs[0]) is None
    victim.enter(deployment.webs[0], "alice")
    assert victim.cookies[name] != planted
    attacker = Person({name: planted})
    assert [attacker.is_at(web) for web in deployment.webs] == [None, None]


def test_a_session_that_was_planted_ends_when_the_victim_signs_in(
    deployment: Deployment, mark: str
) -> None:
    attacker = deployment.entered("bob")
    victim = Person(dict(attacker.cookies))
    slow = attacker.start(deployment.webs[0], f"/t/set/slow?mark={mark}&door={mark}")
    door = deployment.barrier.arrived(mark)
    victim.enter(deployment.webs[1], "alice")
    assert victim.cookies[deployment.cookie_name] != attacker.cookies[deployment.cookie_name]
    door.open()
    assert slow.result(PATIENCE).cookies == {}
    assert [attacker.ask(web, "GET", "/t/who").json["name"] for web in deployment.webs] == [
        None,
        None,
    ]
    assert data_of(deployment, victim) == {}
