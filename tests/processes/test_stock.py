"""Stock Flask-Session revives a session that was deleted while a request ran: why Rollcall is not it.

The same barrier, views and servers as in `test_revocation`. These tests pass while the fault is there:
should one fail after an upgrade, upstream has mended it, and `docs/decisions.md` wants a new paragraph.
"""

from collections.abc import Callable

import pytest
import redis
from sqlalchemy import create_engine, text

from app.sessions.stores.engines import database_url
from tests.processes.barrier import PATIENCE
from tests.processes.conftest import redis_of, serving
from tests.processes.web import Person

BACKENDS = ("valkey", "redis", "sqlite", "postgresql")
KINDS = ("reads", "writes", "raises")


@pytest.fixture(params=BACKENDS)
def stock(request: pytest.FixtureRequest) -> tuple[dict[str, object], Callable[[str], int]]:
    """Return the settings of stock Flask-Session on a server, and what deletes a session there."""
    if request.param in ("valkey", "redis"):
        url = redis_of(request, request.param)
        assert url is not None

        def delete(session_id: str) -> int:
            with redis.Redis.from_url(url) as client:
                return int(client.delete(f"session:{session_id}"))

        return {"store": "redis", "url": url}, delete
    if request.param == "sqlite":
        url = f"sqlite:///{request.getfixturevalue('tmp_path')}/stock.db"
    else:
        url = request.getfixturevalue("postgresql_url")
    driven = database_url(url).render_as_string(hide_password=False)

    def delete_row(session_id: str) -> int:
        engine = create_engine(driven)
        with engine.begin() as connection:
            of_id = text("DELETE FROM sessions WHERE session_id = :id")
            deleted = connection.execute(of_id, {"id": f"session:{session_id}"}).rowcount
        engine.dispose()
        return deleted

    return {"store": "sqlalchemy", "url": driven}, delete_row


def test_stock_flask_session_brings_a_deleted_session_back(
    stock: tuple[dict[str, object], Callable[[str], int]],
) -> None:
    settings, delete = stock
    with serving("tests.processes.stock", settings) as (webs, barrier):
        for kind in KINDS:
            alice = Person()
            alice.enter(webs[0], "alice")
            in_flight = alice.start(webs[0], f"/t/hold/{kind}?door={kind}&mark={kind}")
            door = barrier.arrived(kind)
            assert delete(alice.cookies["session"]) == 1
            assert alice.is_at(webs[1]) is None

            door.open()
            in_flight.result(PATIENCE)
            assert [alice.is_at(web) for web in webs] == ["alice", "alice"], kind
