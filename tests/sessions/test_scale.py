"""With many sessions: what a list asks uses an index, and what ends many asks per batch, not per session."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import ColumnElement, delete, event, func, insert, select, text

from app import create_app
from app.admin import counts, reports
from app.admin.ranges import read_range
from app.audit.trail import Actor
from app.columns import now
from app.sessions import frozen, revocation, search, upkeep
from app.sessions.filter import SessionFilter
from app.sessions.freeze import Targets, freeze
from app.sessions.models import Cutoff, Revocation, UserSession
from app.sessions.revocation import revoke
from app.sessions.stores.engines import PLANNED_ANEW
from benchmarks.population import BRANCH, CLIENT, DESK, Population, populate
from tests.servers import RedisServer, drop_postgresql_database, unique_name
from tests.sessions.test_revocation import commanding, start
from tests.site import Site, copied_postgresql, settings

CLI = Actor.cli("root")
LIVE = 6000

FILTERS = {
    "no filter": {},
    "a user": {"user": "person0000777"},
    "the beginning of a name": {"q": "person00007"},
    "ten letters": {"q": "person0007"},
    "a large network": {"ip": BRANCH},
    "a small network": {"ip": DESK},
    "a client": {"client": CLIENT},
    "administrators": {"role": "admin"},
    "members": {"role": "member"},
    "a store": {"store": "sql"},
    "unused for long": {"idle": ">2h"},
    "signed in long ago": {"age": ">8h"},
    "what needs a look": {"flag": "any"},
    "overdue": {"state": "overdue"},
    "ended": {"state": "ended"},
    "ended of a user": {"state": "ended", "user": "person0000777"},
}


@pytest.fixture(scope="module")
def many(
    postgresql_admin_url: str, postgresql_template: str, valkey_process: RedisServer
) -> Iterator[Site]:
    """A site with thousands of sessions, on PostgreSQL as deploy/postgresql sets it up for an SSD."""
    name = unique_name()
    url = copied_postgresql(postgresql_admin_url, postgresql_template, name)
    with psycopg.connect(postgresql_admin_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET random_page_cost = 1.1'.encode())
    valkey_process.reset()
    site = Site(create_app(settings(url, valkey_process.url, SESSION_LIMIT=3)))
    populate(site.app, valkey_process.url, LIVE)
    yield site
    site.close()
    drop_postgresql_database(postgresql_admin_url, name)


@contextmanager
def plans(site: Site, options: str = "COSTS") -> Iterator[list[str]]:
    """Collect PostgreSQL's plan of each statement of the block."""
    found: list[str] = []

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            with cursor.connection.cursor() as own:
                own.execute(f"EXPLAIN ({options}) {statement}", parameters, prepare=False)
                found.append("\n".join(row[0] for row in own.fetchall()))

    event.listen(site.system.ledger.engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(site.system.ledger.engine, "before_cursor_execute", explain)


def pages(found: list[str]) -> int:
    """Return how many pages a statement read, as its plan says first."""
    (plan,) = found
    (buffers, *_) = re.findall(r"Buffers: shared (.*)", plan)
    return sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", buffers))


def test_on_sqlite_no_list_and_no_count_of_live_sessions_looks_among_the_ended(site: Site) -> None:
    """SQLite takes those without an end for a few of that index, not for most of all there are."""
    found: list[str] = []

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        found.append(" ".join(row[3] for row in rows))

    start(site, "alice")
    event.listen(site.system.ledger.engine, "before_cursor_execute", explain)
    with commanding(site):
        assert search.find(SessionFilter()).total == 1
    count, page = found
    assert "ix_user_sessions_ended " not in f"{count} {page} "
    assert "ix_user_sessions_live_last_seen" in page
    assert "ORDER BY" not in page, "the index is in the list's order"


@contextmanager
def statements(site: Site) -> Iterator[list[str]]:
    """Collect the ledger's statements of the block, an executemany's once for each of its rows."""
    found: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        found.extend([statement] * (len(parameters) if many else 1))

    event.listen(site.system.ledger.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(site.system.ledger.engine, "before_cursor_execute", note)


def test_the_population_is_in_the_ledger_and_in_its_stores(many: Site) -> None:
    with commanding(many):
        page = search.find(SessionFilter(), limit=200)
        ended = search.find(SessionFilter(state="ended"), limit=200)
        stored = upkeep.run(many.system)
    assert (page.total, ended.total) == (LIVE, LIVE // 10)
    assert page.users == Population(LIVE, LIVE // 10, LIVE * 4 // 5).people
    assert {row.store for row in page.rows} == {"redis", "sql"}
    assert all(row.present for row in page.rows)
    assert stored == upkeep.Pass()


@pytest.mark.parametrize("query", FILTERS.values(), ids=FILTERS)
def test_a_page_of_a_list_is_found_by_an_index(many: Site, query: dict[str, str]) -> None:
    with commanding(many), plans(many) as found:
        search.page_of(SessionFilter.from_query(query), 50)
    assert len(found) == 1
    assert "Seq Scan on user_sessions" not in found[0]
    assert "Index" in found[0]


@pytest.mark.parametrize("query", FILTERS.values(), ids=FILTERS)
def test_a_count_reads_no_table_of_sessions_from_end_to_end(
    many: Site, query: dict[str, str]
) -> None:
    with commanding(many), plans(many) as found:
        search.count_of(SessionFilter.from_query(query))
    assert len(found) == 1
    assert "Seq Scan on user_sessions" not in found[0]


def test_counting_all_that_are_live_reads_an_index_only(many: Site) -> None:
    with commanding(many), plans(many) as found:
        search.count_of(SessionFilter())
    assert re.search(r"Index Only Scan using \w+ on user_sessions user_sessions_1", found[0])
    assert "ix_user_sessions_started_at" not in found[0].partition("InitPlan 4")[0]


FEW = {
    "of a store": [UserSession.store == "sql"],
    "of a store, from one id on": [UserSession.store == "redis", UserSession.id > 6500],
    "past the idle deadline": [UserSession.idle_expires_at <= now()],
    "past the absolute deadline": [UserSession.absolute_expires_at <= now()],
    "begun before a time": [UserSession.started_at <= now(-9 * 3600)],
}


@pytest.mark.parametrize("which", FEW.values(), ids=FEW)
def test_few_of_the_live_ones_are_found_where_the_index_has_them(
    many: Site, which: list[ColumnElement[bool]]
) -> None:
    """PostgreSQL names the index either way: how many pages it reads tells whether it began there."""
    few = select(func.count()).where(UserSession.ended_at.is_(None), *which)
    with plans(many, "ANALYZE, BUFFERS") as found:
        many.system.ledger.read(few.execution_options(**PLANNED_ANEW))
    assert "Index Only Scan" in found[0]
    assert pages(found) < 8


def test_a_cutoff_that_denies_nobody_any_more_costs_a_count_next_to_nothing(many: Site) -> None:
    def read() -> int:
        with commanding(many), plans(many, "ANALYZE, BUFFERS") as found:
            assert search.count_of(SessionFilter())[0] == LIVE
        return pages(found)

    without = read()
    with many.system.ledger.transaction() as tx:
        tx.connection.execute(insert(Cutoff).values(id=1, at=tx.now() - timedelta(days=1)))
    try:
        assert read() < without + 10
    finally:
        with many.system.ledger.transaction() as tx:
            tx.connection.execute(delete(Cutoff))


def test_what_began_and_ended_of_late_is_counted_by_indexes_only(many: Site) -> None:
    with commanding(many), plans(many) as found:
        counts.started_lately()
        counts.revoked_lately()
        assert sum(reports.sign_ins_by_hour(read_range({"last": "24h"}, many.system.ledger.now())))
    assert len(found) == 4
    assert not [plan for plan in found if "Seq Scan" in plan or "Heap" in plan]
    assert not [plan for plan in found if "Index Scan" in plan]


def test_what_needs_a_look_is_counted_by_the_index_of_the_few_that_can(many: Site) -> None:
    with commanding(many), plans(many) as found:
        search.count_of(SessionFilter(flag="any"))
    assert "ix_user_sessions_flagged" in found[0]


def test_the_page_after_half_of_the_list_starts_there(many: Site) -> None:
    rows = select(UserSession.id, UserSession.last_seen_at).where(UserSession.ended_at.is_(None))
    newest = rows.order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
    middle = many.system.ledger.read(newest.offset(LIVE // 2).limit(1))[0]
    after = search.cursor_after(SessionFilter(), middle)
    with commanding(many), plans(many) as found:
        search.page_of(SessionFilter(), 50, after)
    (condition,) = [line for line in found[0].splitlines() if "Index Cond: (ROW(" in line]
    assert "last_seen_at" in condition


def test_the_worker_finds_what_to_do_by_indexes(many: Site) -> None:
    with commanding(many), plans(many) as found:
        upkeep.run(many.system)
    assert found
    assert not [plan for plan in found if "Seq Scan on user_sessions" in plan]


def test_the_ids_of_a_batch_are_read_once_and_not_for_each_row_of_the_table(many: Site) -> None:
    ledger = many.system.ledger
    with plans(many) as found:
        rows = ledger.read(select(UserSession.id).where(ledger.among(UserSession.id, [3, 1, 2])))
    assert {row.id for row in rows} == {1, 2, 3}
    assert "'{1,2,3}'::bigint[]" in found[0], "a cast of a text stands there as one"


def test_a_batch_for_everyone_is_found_by_an_index(many: Site) -> None:
    with commanding(many):
        set_ = freeze(Targets(everyone=True), actor=CLI)
        of = many.system.ledger.read(select(Revocation.__table__).where(Revocation.id == set_.id))[
            0
        ]
        with plans(many) as found:
            next_ones = frozen.waiting(of, UserSession.id).where(UserSession.id > 500)
            many.system.ledger.read(next_ones.order_by(UserSession.id).limit(100))
    assert set_.size == LIVE
    assert "Seq Scan" not in found[0]
    assert "Sort" not in found[0]


def test_a_statement_of_a_list_is_planned_for_the_values_that_it_has(many: Site) -> None:
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%last_seen_at%'"
    with commanding(many):
        for _ in range(12):
            search.find(SessionFilter(role="member"))
    assert many.system.ledger.read(text(prepared))[0][0] == 0


@pytest.fixture(params=["sqlite", "postgresql"])
def roomy(request: pytest.FixtureRequest, valkey: RedisServer) -> Iterator[Site]:
    """A site where a user may have many sessions, on each database in turn."""
    url = request.getfixturevalue(f"migrated_{request.param}_url")
    site = Site(create_app(settings(url, valkey.url, SESSION_LIMIT=100)))
    yield site
    site.close()


def test_ending_many_asks_the_ledger_as_often_as_ending_two(roomy: Site) -> None:
    asked = []
    for number in (2, 40):
        references = start(roomy, *["alice", "bob"] * (number // 2))
        with commanding(roomy), statements(roomy) as found:
            assert revoke(references, actor=CLI, reason="incident").ended == number
        asked.append(len(found))
    assert asked[0] == asked[1]


def test_each_batch_asks_the_ledger_as_often_as_the_one_before(
    roomy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "BATCH", 10)
    asked = []
    for batches in (2, 3, 4):
        start(roomy, *["alice"] * (10 * batches - 5))
        with commanding(roomy), statements(roomy) as found:
            set_ = freeze(Targets(user_id=roomy.user_id("alice")), actor=CLI)
            assert revoke(set_, actor=CLI, reason="incident").ended == 10 * batches - 5
        asked.append(len(found))
    assert asked[2] - asked[1] == asked[1] - asked[0] < 25
