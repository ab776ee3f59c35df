"""Sign-in, reading, writing and revocation on each way of running Redis or Valkey."""

from collections.abc import Callable
from contextlib import closing

import pytest
from flask.typing import ResponseReturnValue

from app.auth.throttle import Throttle, Throttled
from app.sessions.interface import session
from app.sessions.stores.connections import redis_client
from tests.sessions.helpers import add_view
from tests.site import CHROME, Site

KINDS = {
    "password": ("password_redis", "url"),
    "user": ("password_redis", "user_url"),
    "tls": ("tls_redis", "url"),
    "socket": ("redis_server", "socket_url"),
    "cluster": ("cluster", "url"),
    "sentinel": ("sentinels", "url"),
}


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of each kind in turn, empty."""
    server, name = KINDS[request.param]
    return str(getattr(request.getfixturevalue(server), name))


def noted() -> ResponseReturnValue:
    """Answer what the session held, and hold one more."""
    before = session.get("notes", 0)
    session["notes"] = before + 1
    return {"notes": before}


@pytest.mark.admin
def test_a_session_is_begun_changed_superseded_and_revoked(
    url: str, make_site: Callable[..., Site]
) -> None:
    site = make_site(REDIS_URL=url)
    add_view(site, "/notes", noted, signed_in=True)
    first, ops = site.signed_in("alice"), site.signed_in("ops")
    assert [first.get("/notes").json["notes"] for _ in range(3)] == [0, 1, 2]
    (before,) = site.live("alice")
    assert before.store == "redis"
    assert site.payload(before) is not None
    assert ops.get("/readyz").json["dependencies"]["redis"]["ok"] is True

    second = site.signed_in("alice", CHROME)
    assert not first.is_signed_in()
    assert site.payload(before) is None
    listed = ops.get("/admin/sessions?format=json").json
    assert listed["unavailable"] == []
    assert [row["present"] for row in listed["sessions"]] == [True, True]

    (row,) = site.live("alice")
    ops.revoke(row.reference)
    assert not second.is_signed_in()
    assert site.payload(row) is None
    ends = [each.end_reason for each in site.rows() if each.name == "alice"]
    assert ends == ["superseded", "revoked"]


def test_failed_sign_ins_and_ids_are_counted_for_all_processes(url: str) -> None:
    with (
        closing(Throttle(redis_client(url), "rollcall:throttle")) as here,
        closing(Throttle(redis_client(url), "rollcall:throttle")) as there,
    ):
        for _ in range(10):
            here.failed("alice", "192.0.2.1", known=False)
        with pytest.raises(Throttled):
            there.check("alice", "192.0.2.1", known=False)
        both = (here, there)
        counts = [each.ask(lambda limiter: limiter.storage.incr("id", 60)) for each in both]
        assert counts == [1, 2]
