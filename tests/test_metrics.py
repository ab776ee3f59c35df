"""What /metrics says, and to whom: counts of what was committed, and never anybody's name or id."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, text

from app import metrics
from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.auth.changes import change_role, disable_user
from app.cli.passes import Passes
from app.monitoring import Asked
from app.sessions import revocation, upkeep
from app.sessions.models import EndReason, UserSession
from app.sessions.store import StoreUnavailable
from app.sessions.system import system
from app.sessions.upkeep import Pass
from tests.servers import RedisServer
from tests.sessions.test_revocation import commanding, start
from tests.site import PASSWORD, Browser, Site, clock_moved

MakeSite = Callable[..., Site]
TOKEN = "a-scraper-knows-this-and-nobody-else"
ADDRESS = "198.51.100.77"
ROOT = Path(__file__).parent.parent


def read(body: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of an exposition by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


class Scrapes:
    """What a site's metrics say now, and how far its counters moved since this was made."""

    def __init__(self, site: Site) -> None:
        self._browser = site.browser()
        self._before = self._read()

    def _read(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        response = self._browser.get("/metrics")
        assert response.status_code == 200
        return read(response.text)

    def now(self, name: str, **labels: str) -> float | None:
        return self._read().get((name, frozenset(labels.items())))

    def more(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return self._read().get(key, 0.0) - self._before.get(key, 0.0)


@pytest.fixture
def scrapes(site: Site) -> Scrapes:
    return Scrapes(site)


def test_live_sessions_are_counted_by_store_and_role(site: Site, scrapes: Scrapes) -> None:
    start(site, "alice", "bob", "ada")
    assert scrapes.now("rollcall_live_sessions", store="redis", role="member") == 2
    assert scrapes.now("rollcall_live_sessions", store="sql", role="admin") == 1
    assert scrapes.now("rollcall_live_sessions", store="sql", role="viewer") == 0
    with clock_moved(1801):
        assert scrapes.now("rollcall_live_sessions", store="redis", role="member") == 0


def test_sign_ins_are_counted_by_their_result(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT_POLICY_BY_ROLE="member=deny")
    scrapes = Scrapes(site)
    with commanding(site):
        disable_user(site.user_id("bob"), actor=Actor.cli("tests"))
    site.signed_in("alice")
    for name, password in (
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("bob", PASSWORD),
        ("alice", PASSWORD),
    ):
        site.browser().sign_in(name, password)
    results = ("ok", "wrong_password", "unknown_name", "disabled", "at_limit")
    assert [scrapes.more("rollcall_sign_ins_total", result=each) for each in results] == [1] * 5


def test_passwords_that_were_not_looked_at_are_counted(site: Site, scrapes: Scrapes) -> None:
    browser = site.browser(ip=ADDRESS)
    for _ in range(11):
        browser.sign_in("nobody", "wrong")
    assert scrapes.more("rollcall_throttled_total") == 1


def test_ends_and_revocations_are_counted_by_cause(site: Site, scrapes: Scrapes) -> None:
    def ended(cause: EndReason) -> float:
        return scrapes.more("rollcall_sessions_ended_total", cause=cause.value)

    start(site, "alice", "alice")
    assert ended(EndReason.SUPERSEDED) == 1
    (row,) = site.live("alice")
    with commanding(site):
        by = Actor.cli("tests")
        revocation.revoke([row.reference], actor=by, reason="incident")
        start(site, "bob")
        disable_user(site.user_id("bob"), actor=by)
        start(site, "vera")
        change_role(site.user_id("vera"), "operator", actor=by)
    assert ended(EndReason.REVOKED) == 1
    assert scrapes.more("rollcall_revocations_total", reason="incident") == 1
    assert ended(EndReason.USER_DISABLED) == 1
    assert ended(EndReason.ROLE_CHANGED) == 1
    start(site, "alice")
    with clock_moved(1801):
        upkeep.run(site.system)
    assert ended(EndReason.IDLE_TIMEOUT) == 1
    site.signed_in("alice").sign_out()
    assert ended(EndReason.SIGNED_OUT) == 1


def test_every_cause_of_an_end_is_there_from_the_start(scrapes: Scrapes) -> None:
    for cause in EndReason:
        assert scrapes.now("rollcall_sessions_ended_total", cause=cause.value) is not None


def test_a_new_id_for_the_same_session_is_counted(site: Site, scrapes: Scrapes) -> None:
    alice = site.signed_in("alice")
    alice.post("/reauth", {"password": PASSWORD})
    assert scrapes.more("rollcall_regenerations_total", cause="step_up") == 1


def test_an_event_counts_when_its_transaction_has_committed_and_not_before(
    site: Site, scrapes: Scrapes
) -> None:
    event = Event(Verb.LOST, reason=EndReason.LOST.value)

    def counted() -> tuple[float, float]:
        labels = {"verb": "session.lost", "reason": "lost", "result": "ok"}
        return (
            scrapes.more("rollcall_events_total", **labels),
            scrapes.more("rollcall_sessions_ended_total", cause="lost"),
        )

    with pytest.raises(ZeroDivisionError):
        with site.system.ledger.transaction() as tx:
            tx.record(Actor.system(), [event, event])
            raise ZeroDivisionError
    assert counted() == (0, 0)
    assert site.events() == []
    with site.system.ledger.transaction() as tx:
        tx.record(Actor.system(), [event, event])
        assert counted() == (0, 0)
    assert counted() == (2, 2)


@pytest.mark.parametrize("any_site", ["sqlite", "postgresql"], indirect=True)
def test_a_transaction_that_cannot_commit_counts_nothing(any_site: Site) -> None:
    """A deferred constraint, such as this one, is checked at the commit. MariaDB has none."""
    scrapes = Scrapes(any_site)
    engine = any_site.system.ledger.engine
    deferred = "x INTEGER REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED"
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text(f"CREATE TABLE late ({deferred})"))
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        with any_site.system.ledger.transaction() as tx:
            tx.record(Actor.system(), [Event(Verb.LOST, reason="lost")])
            tx.connection.execute(text("INSERT INTO late VALUES (123456)"))
    assert scrapes.more("rollcall_sessions_ended_total", cause="lost") == 0
    assert any_site.events() == []
    engine.dispose()


def test_a_reason_that_is_none_of_ours_makes_no_series_of_its_own(
    site: Site, scrapes: Scrapes
) -> None:
    with site.system.ledger.transaction() as tx:
        tx.record(Actor.system(), [Event(Verb.EXPORTED, reason="r" * 20, result="odd")])
    labels = {"verb": "data.exported", "reason": "other", "result": "other"}
    assert scrapes.more("rollcall_events_total", **labels) == 1
    assert "r" * 20 not in site.browser().get("/metrics").text


def test_purges_that_wait_for_their_store_are_counted(
    site: Site, scrapes: Scrapes, valkey: RedisServer
) -> None:
    start(site, "alice")
    (row,) = site.live("alice")
    valkey.kill()
    with commanding(site):
        revocation.revoke([row.reference], actor=Actor.cli("tests"), reason="incident")
    assert scrapes.now("rollcall_purges_waiting", store="redis") == 1
    assert scrapes.now("rollcall_purges_waiting", store="sql") == 0


def test_calls_to_servers_are_timed_by_store_and_operation(site: Site, scrapes: Scrapes) -> None:
    alice = site.signed_in("alice")
    alice.get("/")
    ada = site.signed_in("ada")
    ada.get("/admin/")

    def calls(store: str, operation: str) -> float:
        return scrapes.more("rollcall_store_seconds_count", store=store, operation=operation)

    for store in ("redis", "sql"):
        assert calls(store, "create") == 1
        assert calls(store, "load") >= 1
    assert calls("database", "read") > 0
    assert calls("database", "transaction") > 0
    assert calls("throttle", "count") > 0
    assert not any(calls(name, "other") for name in ("redis", "sql", "database", "throttle"))


@pytest.mark.admin
def test_a_request_is_timed_by_its_route_and_never_by_its_path(
    site: Site, scrapes: Scrapes
) -> None:
    browser = site.signed_in("ada")
    reference = site.live("ada")[0].reference

    def requests(endpoint: str, method: str, status: str) -> float:
        labels = {"endpoint": endpoint, "method": method, "status": status}
        return scrapes.more("rollcall_request_seconds_count", **labels)

    browser.get(f"/admin/sessions/{reference}")
    assert requests("admin.sessions.show", "GET", "2xx") == 1
    browser.get("/made-up-by-a-visitor")
    browser.get("/also-made-up")
    assert requests("none", "GET", "4xx") == 2
    browser.client.open("/healthz", method="BREW")
    assert requests("none", "other", "4xx") == 1
    assert requests("auth.submit_login", "POST", "3xx") == 1


def test_the_time_of_a_request_holds_the_saving_of_its_session(
    site: Site, scrapes: Scrapes, valkey: RedisServer
) -> None:
    alice = site.signed_in("alice")
    token = alice.token("/")
    with valkey.client() as client:
        client.config_set("maxmemory", "1")
        assert alice.client.post("/", data={"csrf_token": token, "note": "x"}).status_code == 503
    labels = {"endpoint": "account.save_note", "method": "POST", "status": "5xx"}
    assert scrapes.more("rollcall_request_seconds_count", **labels) == 1


def test_an_id_that_nobody_has_is_counted_and_an_ended_one_is_not(
    site: Site, scrapes: Scrapes
) -> None:
    alice = site.signed_in("alice")
    with site.system.ledger.transaction() as tx:
        tx.end([site.live("alice")[0].id], EndReason.REVOKED, Actor.system(), Verb.REVOKED)
    alice.get("/")
    assert scrapes.more("rollcall_unknown_session_ids_total") == 0
    guess(site.browser(), "g" * 43)
    guess(site.browser(), "not of the form of an id")
    assert scrapes.more("rollcall_unknown_session_ids_total") == 1


def guess(browser: Browser, value: str) -> int:
    browser.client.set_cookie(browser.site.app.config["SESSION_COOKIE_NAME"], value)
    return browser.get("/account/sessions").status_code


def test_no_name_address_reference_or_id_is_in_the_metrics(site: Site) -> None:
    """Invariant 5, and bounded labels."""
    alice = site.signed_in("alice", ip=ADDRESS)
    guessed = "Gx" * 21 + "G"
    guess(site.browser(ip=ADDRESS), guessed)
    site.browser(ip=ADDRESS).get(f"/{alice.cookie}")
    body = alice.get("/metrics").text
    (row,) = site.system.ledger.read(select(UserSession.reference, UserSession.data_key))
    for secret in (alice.cookie or "?", guessed, ADDRESS, row.reference, row.data_key, "alice"):
        assert secret not in body
    assert not re.search(r"(?<![\w-])[\w-]{43}(?![\w-])", body)


def test_what_cannot_be_counted_happens_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk under the counts fails nobody, and is said once."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    metrics._complain.cache_clear()
    for way in ("inc", "set"):
        monkeypatch.setattr(values.ValueClass, way, full)
    alice = site.browser()
    entered = alice.sign_in("alice")
    assert entered.status_code == 303
    assert "Set-Cookie" in entered.headers
    assert alice.get("/account/sessions").status_code == 200
    assert alice.sign_out().status_code == 303
    (row,) = site.rows()
    assert row.end_reason == EndReason.SIGNED_OUT
    assert not row.purge_pending
    assert guess(site.browser(), "g" * 43) == 303
    assert caplog.text.count("counting_failed") == 1
    assert "No space left on device" in caplog.text


def test_a_scrape_leaves_no_trace_of_a_session(site: Site) -> None:
    alice = site.signed_in("alice")
    before = site.live("alice")[0].last_seen_at
    with clock_moved(600):
        response = alice.get("/metrics")
    assert "Set-Cookie" not in response.headers
    assert "Cookie" not in response.headers.get("Vary", "")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert site.live("alice")[0].last_seen_at == before


def test_with_a_token_only_those_who_send_it_may_scrape(make_site: MakeSite) -> None:
    browser = make_site(METRICS_TOKEN=TOKEN).browser()

    def status(authorization: str) -> int:
        return browser.get("/metrics", headers={"Authorization": authorization}).status_code

    refused = browser.get("/metrics")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="metrics"'
    assert "rollcall_" not in refused.text
    assert status(f"Bearer {TOKEN}") == 200
    assert status(f"bearer {TOKEN}") == 200
    for wrong in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer é"):
        assert status(wrong) == 401, wrong


def test_a_silent_redis_leaves_a_scrape_that_says_so(
    site: Site, scrapes: Scrapes, valkey: RedisServer
) -> None:
    start(site, "ada")
    with valkey.frozen():
        assert scrapes.now("rollcall_up", dependency="redis") == 0
        assert scrapes.now("rollcall_breaker_open", store="redis") == 1
        assert scrapes.now("rollcall_up", dependency="database") == 1
        assert scrapes.now("rollcall_up", dependency="sql") == 1
        assert scrapes.now("rollcall_live_sessions", store="sql", role="admin") == 1
        assert scrapes.more("rollcall_store_failures_total", store="redis", kind="timed_out") > 0
        assert scrapes.more("rollcall_store_failures_total", store="redis", kind="not_asked") > 0


def test_a_silent_database_leaves_the_counts_of_the_process(
    site: Site, scrapes: Scrapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise StoreUnavailable("database")

    monkeypatch.setattr(type(site.system.ledger), "read", silent)
    assert scrapes.now("rollcall_up", dependency="database") == 0
    assert scrapes.now("rollcall_live_sessions", store="sql", role="admin") is None
    assert scrapes.now("rollcall_sign_ins_total", result="ok") is not None


def test_a_command_needs_no_folder_of_counts(tmp_path: Path) -> None:
    """Not even if the environment names the web server's."""
    environ = {"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "nowhere")}
    environ |= {"ROLLCALL_ENV": "development", "SECRET_KEY": "x", "SESSION_TYPE": "sqlalchemy"}
    environ |= {"DATABASE_URL": f"sqlite:///{tmp_path}/a.db", "FLASK_APP": "wsgi.py"}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "config"],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "nowhere").exists()


def described() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return every metric that there is: its type and labels by the name that the page gives it."""
    made = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    families = [(each.describe()[0], each._labelnames) for each in made]
    passes = Passes()
    passes.finished(Pass(), 0.1)
    for asked in (Asked(system), passes):
        families += [(each, tuple(each._labelnames)) for each in asked.collect()]  # type: ignore[attr-defined]
    return {
        each.name + "_total" * (each.type == "counter"): (each.type, tuple(labels))
        for each, labels in families
    }


def test_the_page_describes_every_metric_and_no_other(site: Site) -> None:
    with site.app.app_context():
        expected = described()
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(rollcall_\w+)` \| (\w+) \| (.*?) ?\| .+ \|$", page, re.MULTILINE)
    documented = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }
    assert documented == expected
    parts = {f"{name}{end}" for name in expected for end in ("", "_count", "_sum", "_bucket")}
    assert set(re.findall(r"\brollcall_\w+", page)) <= parts


def test_what_the_rules_ask_for_is_there_before_it_happens(site: Site) -> None:
    """The first of its kind is seen by `increase` and `rate` only if there was a 0 before it."""
    passes = Passes()
    passes.finished(Pass(), 0.1)
    everything = CollectorRegistry()
    everything.register(passes)
    script = "import app.monitoring as m; print(m.metrics.exposition().decode())"
    fresh = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    with site.app.app_context():
        everything.register(Asked(system))
        series = read(fresh.stdout) | read(generate_latest(everything).decode())
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.partition("rules worth having")[2].partition("\n## ")[0]
    rules = re.findall(r"^\| [^|]+ \| `(.+?)` \| .+ \|$", table, re.MULTILINE)
    assert len(rules) == 5
    asked = " ".join(rules).replace("\\|", "|")
    for name, matchers in re.findall(r"\b(rollcall_\w+)(?:\{([^}]*)\})?", asked):
        wanted = re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers)
        found = [labels for each, labels in series if each == name and fits(dict(labels), wanted)]
        assert found, (name, matchers)


def fits(labels: dict[str, str], wanted: list[tuple[str, str, str]]) -> bool:
    """Say whether a series has what a selector of PromQL asks for."""
    for name, operator, value in wanted:
        same = re.fullmatch(value if operator == "=~" else re.escape(value), labels.get(name, ""))
        if bool(same) is (operator == "!="):
            return False
    return True
