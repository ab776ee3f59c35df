"""The budget of a request, the breaker, and what engines and clients are made of."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Engine, text

from app.sessions.store import StoreUnavailable
from app.sessions.stores import breaker as breakers
from app.sessions.stores import budget, engines
from app.sessions.stores.breaker import Breaker, BreakerState
from app.sessions.stores.engines import database_url, engine_options, sql_engine, transaction


def test_without_a_budget_nothing_is_cut_short() -> None:
    assert budget.remaining() is None
    assert budget.timeout(5.0) == 5.0


@dataclass
class Clock:
    """The clock of budgets and breakers, which goes on when the test says so."""

    at: float = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (budget, breakers):
        monkeypatch.setattr(module, "monotonic", lambda: made.at)
    return made


def test_only_waiting_is_charged(clock: Clock) -> None:
    with budget.limit(0.5):
        clock.pass_by(0.1)
        assert budget.remaining() == 0.5
        with budget.waiting():
            clock.pass_by(0.1)
        assert budget.remaining() == pytest.approx(0.4)


def test_a_wait_inside_a_wait_is_charged_once_and_seen_while_it_runs(clock: Clock) -> None:
    with budget.limit(0.5):
        with budget.waiting(), budget.waiting():
            clock.pass_by(0.1)
            assert budget.remaining() == pytest.approx(0.4)
        assert budget.remaining() == pytest.approx(0.4)


def test_a_spent_budget_raises_before_the_next_wait() -> None:
    with budget.limit(0.5):
        budget.charge(0.6)
        assert budget.remaining() == 0.0
        with pytest.raises(budget.DeadlineExceeded):
            budget.timeout(5.0)


def test_a_chunk_of_a_stream_gets_a_budget_of_its_own() -> None:
    budget.start(0.5)
    budget.charge(0.5)
    budget.start(0.5)
    assert budget.remaining() == 0.5
    budget.clear()
    assert budget.remaining() is None


def test_a_budget_belongs_to_its_thread() -> None:
    seen: list[float | None] = []
    with budget.limit(0.5):
        thread = threading.Thread(target=lambda: seen.append(budget.remaining()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_an_open_breaker_lets_one_probe_through(clock: Clock) -> None:
    breaker = Breaker("redis", open_for=0.0)
    with pytest.raises(StoreUnavailable), breaker.answering():
        clock.pass_by(0.11)
        raise budget.DeadlineExceeded
    assert breaker.state.value == "half-open"
    refused = pytest.raises(StoreUnavailable, match="not asked again")
    with breaker.answering(), refused, breaker.answering():
        pytest.fail("two probes at once")
    assert breaker.state.value == "closed"


def test_a_probe_that_another_server_ends_makes_way_for_the_next(clock: Clock) -> None:
    breaker = Breaker("redis", open_for=0.0)
    with pytest.raises(StoreUnavailable), breaker.answering():
        clock.pass_by(0.11)
        raise budget.DeadlineExceeded
    with pytest.raises(StoreUnavailable, match="database"), breaker.answering():
        raise StoreUnavailable("database", "it refused")
    with breaker.answering():
        pass
    assert breaker.state.value == "closed"


def test_a_breaker_opens_for_what_was_waited_and_not_for_what_the_program_took(
    clock: Clock,
) -> None:
    breaker = Breaker("redis")
    with budget.limit(1.0):
        with pytest.raises(StoreUnavailable), breaker.answering():
            clock.pass_by(0.5)
            raise budget.DeadlineExceeded
        assert breaker.state is BreakerState.CLOSED
        with pytest.raises(StoreUnavailable), breaker.answering(), budget.waiting():
            clock.pass_by(0.5)
            raise budget.DeadlineExceeded
    assert breaker.state is BreakerState.OPEN


def test_a_call_without_time_says_nothing_of_its_server(clock: Clock) -> None:
    breaker = Breaker("sql")

    def too_late() -> None:
        with budget.limit(0.0), pytest.raises(StoreUnavailable), breaker.answering():
            clock.pass_by(0.5)
            budget.timeout(1.0)

    too_late()
    assert breaker.state is BreakerState.CLOSED
    with pytest.raises(StoreUnavailable), breaker.answering():
        clock.pass_by(0.5)
        raise budget.DeadlineExceeded
    assert breaker.state is BreakerState.OPEN
    clock.pass_by(1.0)
    too_late()
    assert breaker.state is BreakerState.HALF_OPEN, "it was no probe"
    with breaker.answering():
        """The next one is."""
    assert breaker.state is BreakerState.CLOSED


def test_the_programs_own_errors_pass_the_breaker_and_leave_it_closed() -> None:
    breaker = Breaker("redis")
    with pytest.raises(ZeroDivisionError), breaker.answering():
        raise ZeroDivisionError
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://ada@db/rollcall", "postgresql+psycopg"),
        ("postgresql://ada@db/rollcall", "postgresql+psycopg"),
        ("postgresql+psycopg://ada@db/rollcall", "postgresql+psycopg"),
        ("mysql://ada@db/rollcall", "mariadb+pymysql"),
        ("mariadb://ada@db/rollcall", "mariadb+pymysql"),
        ("sqlite:///rollcall.db", "sqlite"),
    ],
)
def test_a_database_url_gets_the_driver_that_keeps_the_budget(given: str, used: str) -> None:
    assert database_url(given).drivername == used


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_sqlite_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="memory"):
        sql_engine(url)


@pytest.mark.parametrize("url", ["oracle://ada:secret@db/x", "no url, secret", ""])
def test_another_database_is_refused_without_repeating_the_url(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://") as raised:
        sql_engine(url)
    assert "secret" not in str(raised.value)


SLEEP = {"postgresql_url": "SELECT pg_sleep(10)", "mariadb_url": "SELECT SLEEP(10)"}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = sql_engine(request.getfixturevalue(f"{request.param}_url"), pool_size=3)
    with made.connect() as connection:
        connection.execute(text("CREATE TABLE tally (n INTEGER)"))
        connection.execute(text("INSERT INTO tally VALUES (0)"))
    yield made
    made.dispose()


def tally(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT n FROM tally")).scalar_one())


def test_a_single_statement_is_committed_at_once(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("UPDATE tally SET n = 1"))
        assert tally(engine) == 1


def test_a_transaction_is_seen_when_it_ends(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE tally SET n = 1"))
        assert tally(engine) == 0
    assert tally(engine) == 1


def test_a_transaction_that_raises_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), transaction(engine) as connection:
        connection.execute(text("UPDATE tally SET n = 1"))
        raise ZeroDivisionError
    assert tally(engine) == 0
    with transaction(engine) as connection:
        connection.execute(text("UPDATE tally SET n = 2"))
    assert tally(engine) == 2


@pytest.mark.parametrize("more", [False, True], ids=["all it wants", "less"])
def test_a_transaction_can_be_begun_again_and_again_within_a_budget(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    """It may wait for a lock for as long as it would, or for its share of a small budget."""
    if more:
        monkeypatch.setattr(engines, "LOCK_TIMEOUT", 100.0)
    for n in range(12):
        with budget.limit(30), transaction(engine) as connection:
            connection.execute(text("UPDATE tally SET n = :n"), {"n": n})
    assert tally(engine) == 11


@pytest.mark.parametrize("database", ["postgresql_url", "mariadb_url"])
def test_a_row_lock_is_waited_for_no_longer_than_the_budget(
    database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOCK_TIMEOUT", 100.0)
    engine, breaker = sql_engine(request.getfixturevalue(database)), Breaker("database")
    create = text("CREATE TABLE tally (n INTEGER)")
    with engine.connect() as connection:
        connection.execute(create)
        connection.execute(text("INSERT INTO tally VALUES (0)"))
    change = text("UPDATE tally SET n = n + 1")
    with transaction(engine) as holder:
        holder.execute(change)
        with budget.limit(2.0):
            with (
                pytest.raises(StoreUnavailable, match="lock"),
                breaker.answering(),
                transaction(engine) as connection,
            ):
                connection.execute(change)
            assert (budget.remaining() or 0) > 0
    engine.dispose()
    assert breaker.state is BreakerState.CLOSED


def test_transactions_that_read_and_write_run_one_after_the_other(engine: Engine) -> None:
    lock = "" if engine.dialect.name == "sqlite" else " FOR UPDATE"

    def count() -> None:
        for _ in range(10):
            with transaction(engine) as connection:
                n = connection.execute(text("SELECT n FROM tally" + lock)).scalar_one()
                connection.execute(text("UPDATE tally SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally(engine) == 30


@pytest.mark.parametrize("database", SLEEP)
def test_a_slow_query_ends_on_the_server_and_is_not_taken_for_a_dead_one(
    database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(database)
    engine, breaker = sql_engine(url, statement_timeout=0.2), Breaker("database")
    with (
        budget.limit(8.0),
        pytest.raises(StoreUnavailable),
        breaker.answering(),
        engine.connect() as connection,
    ):
        connection.execute(text(SLEEP[database]))
    engine.dispose()
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("within", [Engine.connect, transaction])
@pytest.mark.parametrize("database", SLEEP)
def test_a_slow_query_that_begins_late_is_not_taken_for_a_dead_server_either(
    database: str,
    within: Callable[[Engine], AbstractContextManager[Connection]],
    request: pytest.FixtureRequest,
) -> None:
    url = request.getfixturevalue(database)
    engine, breaker = sql_engine(url, statement_timeout=4.0), Breaker("database")
    session = "pg_backend_pid()" if database == "postgresql_url" else "CONNECTION_ID()"
    of_server = text(f"SELECT {session}")
    with budget.limit(5.0), engine.connect() as connection:
        before = connection.execute(of_server).scalar_one()
    with budget.limit(8.0), pytest.raises(StoreUnavailable), breaker.answering():
        budget.charge(6.5)
        with within(engine) as connection:
            connection.execute(text(SLEEP[database]))
    assert breaker.state is BreakerState.CLOSED
    with budget.limit(8.0), engine.connect() as connection:
        assert connection.execute(of_server).scalar_one() == before
        connection.execute(text(SLEEP[database].replace("10", "1.3")))
    engine.dispose()


def test_sqlite_connections_write_ahead_and_check_foreign_keys(sqlite_url: str) -> None:
    engine = sql_engine(sqlite_url)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize("database", ["sqlite_url", *SLEEP])
def test_flask_sqlalchemy_takes_the_options(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(database)
    app, db = Flask("app", instance_path=str(tmp_path)), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url(url)
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(url)
    db.init_app(app)
    with app.app_context():
        db.session.execute(text("CREATE TABLE tally (n INTEGER)"))
        db.session.commit()
        db.session.execute(text("INSERT INTO tally VALUES (1)"))
        db.session.rollback()
        assert db.session.execute(text("SELECT count(*) FROM tally")).scalar_one() == 0
        if database in SLEEP:
            with (
                budget.limit(0.1),
                pytest.raises(StoreUnavailable),
                Breaker("database").answering(),
            ):
                db.session.execute(text(SLEEP[database]))
        db.session.remove()
        db.engine.dispose()


def test_a_block_within_the_budget_is_held_to_less_and_charged():
    with budget.limit(1.0):
        with budget.within(0.4):
            assert budget.remaining() == pytest.approx(0.4, abs=0.01)
            budget.charge(0.3)
        assert budget.remaining() == pytest.approx(0.7, abs=0.01)
        with budget.within(5.0):
            assert budget.remaining() == pytest.approx(0.7, abs=0.01)


def test_what_a_block_within_the_budget_waits_inside_a_wait_is_charged_once(clock: Clock) -> None:
    with budget.limit(1.0):
        with budget.waiting(), budget.within(0.5), budget.waiting():
            clock.pass_by(0.1)
        assert budget.remaining() == pytest.approx(0.9)


def test_a_block_without_a_budget_stays_without():
    with budget.within(0.4):
        assert budget.remaining() is None
