"""Statistics: samples by the worker, totals that are the ledger's, ranges, and charts with their tables."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from app.admin import charts, reports
from app.admin.charts import Column, Upright
from app.admin.ranges import BadRange, Range, read_range
from app.audit.trail import Actor
from app.sessions import sampling, upkeep
from app.sessions.models import SessionSample
from app.sessions.revocation import revoke
from tests.sessions.test_revocation import commanding, start
from tests.site import CHROME, Browser, Site, clock_moved

pytestmark = pytest.mark.admin

HOUR = 3600
NOW = datetime(2026, 11, 21, 11, 30, tzinfo=UTC)


def samples(site: Site) -> list[Any]:
    table = SessionSample.__table__
    return list(site.system.ledger.read(select(table).order_by(table.c.at, table.c.store)))


def work(site: Site) -> None:
    with site.app.app_context():
        upkeep.run(site.system)


def test_a_column_is_the_fullest_moment_of_its_slot(site: Site) -> None:
    begin = site.system.ledger.now().replace(minute=0, second=0, microsecond=0)
    begin -= timedelta(hours=5)
    with site.system.ledger.transaction() as tx:
        for minutes, (redis, sql) in ((1, (3, 0)), (20, (2, 3)), (40, (4, 0)), (61, (1, 0))):
            at = begin + timedelta(minutes=minutes)
            for store, live in (("redis", redis), ("sql", sql)):
                values = {"at": at, "store": store, "live": live, "active": 0}
                tx.connection.execute(insert(SessionSample).values(values))
    body: Any = site.signed_in("vera").get("/admin/statistics?format=json").json
    found = [(row["store"], row["live"]) for row in body["concurrency"]]
    assert found == [("redis", 2), ("sql", 3), ("redis", 1), ("sql", 0)]


@pytest.fixture
def lived(any_site: Site) -> Site:
    """A site where two days have passed: people came, went, were revoked, and the worker looked on."""
    for hours, names in ((60, ["alice"]), (40, ["alice", "bob"]), (30, ["alice", "vera"])):
        with clock_moved(-hours * HOUR):
            references = start(any_site, *names)
            work(any_site)
        with clock_moved(-hours * HOUR + 600), commanding(any_site):
            if hours == 40:
                revoke(references, actor=Actor.cli("root"), reason="incident")
    with clock_moved(-20 * HOUR):
        work(any_site)
    with clock_moved(-400):
        start(any_site, "bob")
    work(any_site)
    return any_site


def test_the_totals_are_the_ledger_s(lived: Site) -> None:
    ada = lived.signed_in("ada")
    body: Any = ada.get("/admin/statistics?format=json").json
    begin, end = (datetime.fromisoformat(body[name]) for name in ("from", "to"))
    rows = lived.rows()
    ended = [row for row in rows if row.ended_at and begin <= row.ended_at < end]
    assert body["ends"] == Counter(row.end_reason for row in ended)
    assert body["ends"] == {"idle_timeout": 3, "revoked": 2}
    began = Counter(row.started_at.hour for row in rows if begin <= row.started_at < end)
    assert body["sign_ins_by_hour"] == [began[hour] for hour in range(24)]
    assert sum(body["sign_ins_by_hour"]) == len(rows) - 1
    live = [row for row in rows if row.ended_at is None]
    for name, seen in (("age", "started_at"), ("idle", "last_seen_at")):
        width = body[name][1]["from_seconds"]
        counted = Counter(int((end - getattr(row, seen)).total_seconds() // width) for row in live)
        assert [bar["sessions"] for bar in body[name]] == [
            counted[i] for i in range(len(body[name]))
        ]
    assert body["clients"] == {"unknown client": 1, "Firefox 140 on Linux": 1}
    sampled = body["concurrency"]
    assert [(row["store"], row["live"]) for row in sampled] == [
        ("redis", 2), ("sql", 0), ("redis", 1), ("sql", 1), ("redis", 0), ("sql", 0), ("redis", 1), ("sql", 0),
    ]  # fmt: skip
    for row in sampled:
        at = datetime.fromisoformat(row["at"])
        there = [
            one
            for one in rows
            if one.store == row["store"] and one.started_at <= at < (one.ended_at or end)
        ]
        assert row["live"] == len(there)

    any_range_counts_what_lies_in_it(lived, ada)


def any_range_counts_what_lies_in_it(lived: Site, ada: Browser) -> None:
    now = lived.system.ledger.now()

    def asked(begin: float, end: float) -> Any:
        times = {"from": now - timedelta(hours=begin), "to": now - timedelta(hours=end)}
        query = {name: at.isoformat() for name, at in times.items()}
        return ada.get("/admin/statistics", query_string={**query, "format": "json"}).json

    assert asked(41, 39)["ends"] == {"idle_timeout": 1, "revoked": 2}
    assert sum(asked(41, 39)["sign_ins_by_hour"]) == 2
    assert asked(29, 21)["ends"] == {}
    assert asked(29, 21)["concurrency"] == []
    assert sum(asked(72, 35)["sign_ins_by_hour"]) == 3


def test_the_page_draws_each_number_with_a_title_and_a_table_behind_it(site: Site) -> None:
    with clock_moved(-7200):
        references = start(site, "alice", "bob")
        work(site)
    with clock_moved(-7100), commanding(site):
        done = revoke(references, actor=Actor.cli("root"), reason="incident")
    ada = site.signed_in("ada")
    page = ada.get("/admin/statistics").text
    titles = re.findall(r"<title>(.*?)</title>", page)
    assert [title for title in titles if title.endswith(", Redis 2, SQL 0")]
    assert [t for t in titles if t.startswith(f"Revocation #{done.revocation_id} by root, ")]
    assert page.count("Show as table") == 4
    assert 'href="/admin/sessions?reason=revoked">Revoked</a>' in page
    assert f'href="/admin/revocations/{done.revocation_id}"' in page
    overview = ada.get("/admin/").text
    assert ", Redis 2, SQL 0</title>" in overview
    assert f'Revocations: <a href="/admin/revocations/{done.revocation_id}"' in overview
    lines = list(csv.DictReader(io.StringIO(ada.get("/admin/statistics?format=csv").text)))
    assert {"figure": "ends", "at": "", "what": "revoked", "count": "2"} in lines
    assert [line["count"] for line in lines if line["figure"] == "live"] == ["2", "0"]


BAD_RANGES = {
    "from=yesterday": 'aria-describedby="f-from-error"',
    "to=2026-01-01T00:00": "Give a beginning too.",
    "from=2999-01-01T00:00": "The beginning must lie in the past.",
    "from=2026-01-02T00:00&to=2026-01-01T00:00": 'aria-describedby="f-to-error"',
    "from=2020-01-01T00:00": "At most 366 days at once.",
    "last=1y": "24h, 48h, 7d, 30d",
    "last=7d&from=2026-01-02T00:00": "Give either",
    "colour=red": "There is no filter “colour”.",
}


def test_a_bad_range_is_refused_beside_its_field(site: Site) -> None:
    vera = site.signed_in("vera")
    for query, beside in BAD_RANGES.items():
        response = vera.get(f"/admin/statistics?{query}")
        assert response.status_code == 400, query
        assert beside in response.text, query
        assert "<svg role" not in response.text
    told = vera.get("/admin/statistics?format=json&from=x")
    assert told.status_code == 400
    assert told.json is not None
    assert told.json["field"] == "from"


def test_a_range_has_slots_of_a_round_length() -> None:
    for last, step, slots in (("24h", 1800, 48), ("48h", 3600, 49), ("7d", 10800, 57)):
        within = read_range({"last": last}, NOW)
        assert (within.step, len(within.slots())) == (step, slots)
    whole = Range(NOW - timedelta(hours=3, minutes=30), NOW - timedelta(minutes=30))
    assert [whole.slot_begins(whole.slots()[i]) for i in (0, -1)] == [
        whole.begin, whole.end - timedelta(seconds=whole.step),
    ]  # fmt: skip
    assert (whole.share(whole.begin), whole.share(whole.end)) == (0, 1)
    assert read_range({"from": "2026-11-21T10:00:00+02:00"}, NOW).begin.hour == 8
    with pytest.raises(BadRange):
        read_range({"from": "9999-12-31T23:00:00-12:00"}, NOW)


def test_a_chart_is_as_high_as_its_values_say() -> None:
    drawn = charts.chart(
        ["a", "b"],
        [Column("one", "1", (30, 10)), Column("two", "", (0, 20))],
        [Upright(0.5, "#1", "")],
    )
    assert [value for _y, value in drawn.ticks] == [0, 10, 20, 30, 40]
    first, second = drawn.bars
    assert [(part.series, part.height) for part in first.parts] == [(1, 120.0), (2, 40.0)]
    assert first.parts[1].y == drawn.ticks[-1][0] == charts.TOP
    assert [(part.series, part.height) for part in second.parts] == [(2, 80.0)]
    assert (first.title, second.x, drawn.marks[0].x) == ("one, a 30, b 10", 50, 50)
    assert charts.chart([], []).ticks[-1] == (charts.TOP, 4)


def test_a_line_over_a_chart_is_named_wherever_there_is_room() -> None:
    def named(*shares: float, text: str = "#12") -> list[str]:
        lines = [Upright(share, text, "") for share in shares]
        marks = charts.chart([], [], lines).marks
        return [mark.label.anchor if mark.label else "" for mark in marks]

    assert named() == []
    assert named(0.2, 0.5) == ["start", "start"]
    assert named(0.5, 0.53) == ["end", "start"]
    assert named(0.02, 0.05, 0.98) == ["start", "", "end"]
    assert named(0.5, 0.52, 0.54) == ["end", "start", ""]
    assert named(0.5, 0.64) == ["end", "start"]
    assert named(0.3, 0.5, text="12 小時") == ["end", "start"]


def test_a_time_in_which_nobody_counted_is_not_shown_as_zero(site: Site) -> None:
    now = site.system.ledger.now()
    # In the middle of an hour: none begins between the count and the pages.
    with clock_moved(1800 - 60 * now.minute - now.second):
        ada = site.signed_in("ada")
        work(site)
        pages = [ada.get(path).text for path in ("/admin/", "/admin/statistics?last=48h")]
    for page in pages:
        rows = re.findall(
            r"<tr><th scope=\"row\">[^<]+UTC</th>(.*?)</tr>", page.split("Hour</th>")[0]
        )
        words = [re.sub(r"<[^>]+>", " ", row).split() for row in rows]
        assert words == [["no", "sample"] * 2] * 48 + [["0", "1"]]
        assert page.count(", no sample</title>") == 48


def test_the_worker_samples_every_five_minutes_and_forgets_with_the_history(site: Site) -> None:
    start(site, "alice", "vera")
    work(site)
    work(site)
    with clock_moved(290):
        work(site)
    assert [(row.store, row.live, row.active) for row in samples(site)] == [
        ("redis", 1, 1), ("sql", 1, 1), ("redis", 1, 1), ("sql", 1, 1),
    ]  # fmt: skip
    with clock_moved(89 * 24 * HOUR):
        sampling.forget_samples(site.system)
    assert len(samples(site)) == 4
    with clock_moved(90 * 24 * HOUR + 10):
        sampling.forget_samples(site.system)
    assert len(samples(site)) == 2


def test_clients_that_are_not_named_are_counted_in_every_form(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_MOST_CLIENTS", 1)
    for name in ("alice", "bob"):
        site.signed_in(name, CHROME)
    ada = site.signed_in("ada")
    assert "all others" in ada.get("/admin/statistics").text
    body: Any = ada.get("/admin/statistics?format=json").json
    assert (body["clients"], body["other_clients"]) == ({"Chrome 149 on Windows": 2}, 1)
    lines = list(csv.DictReader(io.StringIO(ada.get("/admin/statistics?format=csv").text)))
    assert lines[-1] == {"figure": "other_clients", "at": "", "what": "", "count": "1"}


def test_a_clock_that_was_ahead_does_not_stop_the_samples(site: Site) -> None:
    with clock_moved(HOUR):
        work(site)
    work(site)
    assert len(samples(site)) == 4


def test_the_overview_says_when_the_worker_counted_last(site: Site) -> None:
    ada = site.signed_in("ada")
    page = ada.get("/admin/").text
    assert "The worker has not counted the sessions yet" in page
    for query in ("age=%3C1h", "ended=%3C24h&amp;reason=revoked"):
        assert f'href="/admin/sessions?{query}"' in page
    work(site)
    assert "The worker counted the sessions at" in ada.get("/admin/").text
    with clock_moved(600):
        page = ada.get("/admin/").text
    assert "The worker has counted nothing since" in page
    assert "1 check needs a look." in page


def test_what_there_is_no_time_for_is_left_out_and_says_so(make_site: Callable[..., Site]) -> None:
    site = make_site(REQUEST_DEADLINE=0.19)  # less than a report is begun with
    ada = site.signed_in("ada")
    page = ada.get("/admin/statistics")
    assert page.status_code == 200
    assert "The database was too slow for all of it" in page.text
    assert page.text.count("Not counted: the database took too long.") == 6
    assert "No sample" not in page.text
    body: Any = ada.get("/admin/statistics?format=json").json
    assert {body[name] for name in ("concurrency", "ends", "age", "clients")} == {None}
    assert "Not complete" in ada.get("/admin/statistics?format=csv").text.splitlines()[-1]


def test_a_range_before_what_is_kept_says_so(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_HISTORY_DAYS=8)
    ada = site.signed_in("ada")
    said = "Samples and ended sessions are kept for 8 days"
    assert said in ada.get("/admin/statistics?last=30d").text
    assert said not in ada.get("/admin/statistics?last=7d").text
    assert "Not complete" not in ada.get("/admin/statistics?last=7d&format=csv").text
