"""How long a transaction waits for a lock: within the request's deadline, and long where there is none."""

import pytest
from sqlalchemy import Engine

from app.sessions.stores import budget
from app.sessions.stores.engines import sql_engine, transaction

POSTGRESQL = "SHOW lock_timeout"
MARIADB = "SELECT CONCAT(@@innodb_lock_wait_timeout, ' ', @@max_statement_time)"
SQLITE = "PRAGMA busy_timeout"


def asked(engine: Engine, question: str) -> str:
    with transaction(engine) as connection:
        return str(connection.exec_driver_sql(question).scalar_one())


@pytest.fixture
def postgresql_engine(postgresql_url: str) -> Engine:
    return sql_engine(postgresql_url)


def test_a_transaction_on_postgresql_without_a_deadline_stands_in_line(
    postgresql_engine: Engine,
) -> None:
    assert asked(postgresql_engine, POSTGRESQL) == "30s"
    postgresql_engine.dispose()


def test_a_transaction_on_postgresql_waits_no_longer_than_its_request_may(
    postgresql_engine: Engine,
) -> None:
    with budget.limit(0.8):
        assert asked(postgresql_engine, POSTGRESQL) == "500ms"
    with budget.limit(0.2):
        milliseconds = int(asked(postgresql_engine, POSTGRESQL).removesuffix("ms"))
        assert 0 < milliseconds <= 160
    assert asked(postgresql_engine, POSTGRESQL) == "30s"
    postgresql_engine.dispose()


def test_a_transaction_on_mariadb_waits_in_whole_seconds_which_its_statements_undercut(
    mariadb_url: str,
) -> None:
    engine = sql_engine(mariadb_url)
    assert asked(engine, MARIADB) == "30 0.000000"
    with budget.limit(0.8):
        lock, statement = asked(engine, MARIADB).split()
        assert lock == "1"
        assert 0 < float(statement) <= 0.64
    assert asked(engine, MARIADB) == "30 0.000000"
    engine.dispose()


def test_a_transaction_on_sqlite_waits_alike(sqlite_url: str) -> None:
    engine = sql_engine(sqlite_url)
    assert asked(engine, SQLITE) == "30000"
    with budget.limit(0.8):
        assert 0 < int(asked(engine, SQLITE)) <= 800
    assert asked(engine, SQLITE) == "30000"
    engine.dispose()
