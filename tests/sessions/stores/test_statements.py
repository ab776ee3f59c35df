"""A statement that the driver runs alone answers as it would through SQLAlchemy, and fails as safely."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from signal import SIGALRM, SIGCONT, SIGSTOP, pthread_kill, signal
from threading import main_thread
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)

from app.columns import UtcDateTime, clock
from app.sessions.stores import budget
from app.sessions.stores.engines import sql_engine
from app.sessions.stores.statements import Statement
from tests.processes.web import in_background
from tests.servers import wait_until
from tests.site import clock_moved

THINGS = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("whole", Boolean, nullable=False),
)
ALL = select(*THINGS.c).where(THINGS.c.id == bindparam("thing"))


class Thing(NamedTuple):
    """A row."""

    id: int
    payload: bytes
    made_at: Any
    ended_at: Any
    whole: bool


@pytest.fixture(params=["sqlite_url", "postgresql_url", "mariadb_url"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = sql_engine(request.getfixturevalue(request.param), pool_size=1)
    THINGS.metadata.create_all(made)
    with made.connect() as connection:
        values = {"id": 1, "payload": b"\0pear", "made_at": clock(), "whole": True}
        connection.execute(insert(THINGS).values(values))
    yield made
    made.dispose()


def test_a_row_is_what_sqlalchemy_makes_of_it(engine: Engine) -> None:
    with engine.connect() as connection:
        expected = connection.execute(ALL, {"thing": 1}).one()
    found = Statement(engine, ALL, Thing).first(thing=1)
    assert found == tuple(expected)
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_absence_is_none(engine: Engine) -> None:
    assert Statement(engine, ALL, Thing).first(thing=2) is None


def test_the_clock_is_read_anew_each_time(engine: Engine) -> None:
    statement = Statement(engine, select(clock(), clock("later")), lambda *times: times)
    before, _ = statement.first(later=0.0) or ()
    with clock_moved(3600):
        at, later = statement.first(later=60.0) or ()
    assert timedelta(minutes=59) < at - before < timedelta(minutes=61)
    assert timedelta(seconds=59) < later - at < timedelta(seconds=61)


def test_a_change_is_there_at_once_and_counted(engine: Engine) -> None:
    ending = (
        update(THINGS).where(THINGS.c.id == bindparam("thing")).values(ended_at=clock("seconds"))
    )
    ended = Statement(engine, ending, tuple)
    assert (ended.count(thing=1, seconds=1.0), ended.count(thing=2, seconds=1.0)) == (1, 0)
    with engine.connect() as connection:
        assert connection.execute(ALL, {"thing": 1}).one().ended_at is not None


def test_a_parameter_that_is_not_given_is_a_mistake_that_names_it(engine: Engine) -> None:
    with pytest.raises(KeyError, match="thing"):
        Statement(engine, ALL, Thing).first()


def test_a_mistake_of_ours_costs_no_connection(engine: Engine) -> None:
    before = connection_of(engine)
    lost = Table("lost", MetaData(), Column("id", Integer))
    with pytest.raises(Exception, match="lost"):
        Statement(engine, select(lost.c.id), tuple).first()
    assert connection_of(engine) is before


class Interrupted(BaseException):
    """What a signal's handler raises, as gunicorn's does to end a worker."""


@pytest.mark.parametrize(
    ("url", "sleep"), [("postgresql_url", func.pg_sleep), ("mariadb_url", func.sleep)]
)
def test_a_connection_with_an_answer_still_to_come_is_not_used_again(
    request: pytest.FixtureRequest, url: str, sleep: Any
) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    server = request.getfixturevalue(url)
    engine = sql_engine(server, pool_size=1)
    before = connection_of(engine)
    handled = signal(SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            in_background(lambda: alarm_while_busy(server, session_of(before)))
            Statement(engine, select(sleep(20)), tuple).first()
    finally:
        signal(SIGALRM, handled)
    assert connection_of(engine) is not before
    engine.dispose()


def alarm_while_busy(url: str, session: int) -> None:
    """Send this process SIGALRM once the server is at a statement of that connection's."""
    busy = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = :id AND state = 'active'",
        "mariadb": "SELECT count(*) FROM information_schema.processlist"
        " WHERE id = :id AND command = 'Query'",
    }
    engine = sql_engine(url)
    with engine.connect() as watching:
        asked = text(busy[engine.dialect.name])
        wait_until(lambda: watching.execute(asked, {"id": session}).scalar_one())
    engine.dispose()
    pthread_kill(main_thread().ident or 0, SIGALRM)


def test_a_silent_connection_takes_with_it_all_that_are_as_old(postgresql_url: str) -> None:
    engine = sql_engine(postgresql_url, pool_size=3)
    backends = backends_of(engine, 3)
    try:
        for backend in backends:
            os.kill(backend, SIGSTOP)
        with budget.limit(0.2), pytest.raises(psycopg.OperationalError, match="deadline"):
            Statement(engine, select(func.pg_backend_pid()), tuple).first()
        with budget.limit(2.0):
            assert backends_of(engine, 3).isdisjoint(backends)
    finally:
        for backend in backends:
            os.kill(backend, SIGCONT)
        engine.dispose()


def backends_of(engine: Engine, number: int) -> set[int]:
    """Return the server's processes behind so many connections, all out at once."""
    with ExitStack() as stack:
        connections = [stack.enter_context(engine.connect()) for _ in range(number)]
        return {each.execute(select(func.pg_backend_pid())).scalar_one() for each in connections}


def connection_of(engine: Engine) -> Any:
    """Return the driver's connection that the pool gives out next."""
    with engine.connect() as connection:
        return connection.connection.driver_connection


def session_of(connection: Any) -> int:
    """Return the number by which the server knows a driver's connection."""
    if isinstance(connection, psycopg.Connection):
        return connection.info.backend_pid
    return int(connection.thread_id())
