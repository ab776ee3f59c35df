"""A site of two processes while the master of its sessions is killed and replaced."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from app import create_app
from tests.faults.answers import DEADLINE
from tests.processes.conftest import serving, settings_for
from tests.processes.web import Answer, Person, Web
from tests.redis_servers import Cluster, ClusterNode, Replicated, Sentinels
from tests.servers import wait_until
from tests.site import Site

pytestmark = pytest.mark.admin

BOUND, RETURN = 1.0, 5.0


@dataclass
class Deployment:
    """Two processes, the same site seen from the test's own, and the servers of its sessions."""

    site: Site
    webs: tuple[Web, Web]
    servers: Cluster | Sentinels

    def holder_of(self, name: str) -> ClusterNode | Replicated:
        """Return the master that has the data of somebody's session."""
        if isinstance(self.servers, Sentinels):
            return self.servers.master
        (row,) = self.site.live(name)
        return self.servers.serving(self.site.app.config["SESSION_KEY_PREFIX"] + row.data_key)


@pytest.fixture(params=["cluster", "sentinels"])
def deployment(
    request: pytest.FixtureRequest, new_url: Callable[[str], str]
) -> Iterator[Deployment]:
    servers: Cluster | Sentinels = request.getfixturevalue(request.param)
    settings = settings_for(new_url("sqlite"), servers.url, REQUEST_DEADLINE=DEADLINE)
    with serving("tests.processes.served", settings) as (webs, _barrier):
        site = Site(create_app(settings))
        yield Deployment(site, webs, servers)
        site.close()


def timed(web: Web, person: Person, path: str) -> Answer:
    """Make a request in time; a page that asks no server tells how slow the machine is itself."""
    began = time.monotonic()
    answer = person.ask(web, "GET", path)
    took = time.monotonic() - began
    began = time.monotonic()
    Person().ask(web, "GET", "/healthz")
    assert took < BOUND + (time.monotonic() - began), f"{path} took {took:.2f} s"
    return answer


def replicated(deployment: Deployment, name: str) -> Person:
    """Sign somebody in until their data lies at a master that has a replica."""
    while True:
        person = Person()
        person.enter(deployment.webs[0], name)
        with deployment.holder_of(name).client() as client:
            if client.info("replication")["connected_slaves"]:
                return person


def test_a_master_that_is_killed_signs_nobody_out_and_brings_nobody_back(
    deployment: Deployment,
) -> None:
    one, other = deployment.webs
    alice, bob, ops = replicated(deployment, "alice"), Person(), Person()
    bob.enter(other, "bob")
    ops.enter(other, "ops")
    (bobs,) = deployment.site.live("bob")
    assert alice.get(one, "/t/set/note?mark=kept").status == 200
    for web in deployment.webs:
        assert alice.get(web, "/t/who").json["data"] == {"note": "kept"}
        assert ops.get(web, "/admin/sessions").status == 200
    master = deployment.holder_of("alice")
    with master.client() as client:
        assert client.wait(1, 5000) == 1

    deployment.servers.be_sudden()
    master.kill()
    assert timed(one, alice, "/t/who").status == 503
    ops.revoke(other, bobs.reference)
    began = time.monotonic()
    while not deployment.servers.replaced(master):
        for web in deployment.webs:
            assert timed(web, alice, "/t/who").status in (200, 503)
            assert timed(web, bob, "/t/who").json == {"name": None}
            assert timed(web, ops, "/admin/sessions").status == 200
        assert time.monotonic() - began < 30

    def is_well(web: Web) -> bool:
        answer = timed(web, alice, "/t/who")
        assert answer.status == 503 or answer.json["data"]["note"] == "kept"
        return answer.status == 200

    wait_until(lambda: is_well(one) and is_well(other), RETURN)
    assert alice.get(one, "/t/set/note2?mark=after").status == 200
    found = alice.get(other, "/t/who").json["data"]
    assert found == {"note": "kept", "note2": "after"}
    assert [bob.is_at(web) for web in deployment.webs] == [None, None]
