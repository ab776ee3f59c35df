"""The log: JSON in production, readable in development, and never a secret."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from app.auth.access import public
from app.sessions.handles import new_session_id
from app.sessions.interface import session
from tests.site import Site

LOGGER = "app.tests"


@pytest.fixture(autouse=True)
def root_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("app")
    handlers, level = root.handlers[:], ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """What has been logged since the last call, from JSON."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


Lines = Callable[[], list[dict[str, Any]]]


def test_production_logs_one_json_object_a_line(
    make_site: Callable[..., Site], lines: Lines
) -> None:
    make_site(ROLLCALL_ENV="production")
    logging.getLogger(LOGGER).info("pass_done expired=%d", 3)
    structlog.get_logger(LOGGER).warning("store_silent", store="redis")
    first, second = lines()
    assert (first["event"], first["level"], first["logger"]) == (
        "pass_done expired=3",
        "info",
        LOGGER,
    )
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["store"], second["level"]) == (
        "store_silent",
        "redis",
        "warning",
    )


def test_what_a_visitor_sends_begins_no_line_of_its_own(
    make_site: Callable[..., Site], lines: Lines
) -> None:
    site = make_site(ROLLCALL_ENV="production")
    forged = 'https://a\r\n{"event": "signed_in"}\x1b[2J'
    logging.getLogger(LOGGER).warning("said %s", forged)
    origin = {"Origin": "https://evil.example\\r\\n{}"}
    site.browser().client.post("/login", headers=origin)
    first, second = lines()
    assert first["event"] == f"said {forged}"
    assert second["event"].startswith("cross_site_refused")


def test_development_logs_for_people(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("app.cli.worker").info("worker_started pass_every=%d", 30)
    printed = capsys.readouterr().err
    assert "worker_started pass_every=30" in printed
    assert not printed.startswith("{")


def test_the_level_is_the_setting_s(make_site: Callable[..., Site], lines: Lines) -> None:
    make_site(ROLLCALL_ENV="production", LOG_LEVEL="WARNING")
    logging.getLogger(LOGGER).info("quiet")
    logging.getLogger("somebody.else").error("a library's fault")
    assert [line["event"] for line in lines()] == ["a library's fault"]
    make_site(ROLLCALL_ENV="production", LOG_LEVEL="DEBUG")
    logging.getLogger(LOGGER).debug("loud")
    logging.getLogger("somebody.else").info("a library's chatter")
    assert [line["event"] for line in lines()] == ["loud"]


def test_a_variable_that_is_nearly_a_setting_is_warned_of_without_its_value(
    make_site: Callable[..., Site], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METRIC_TOKEN", "hunter2-hunter2-hunter2")
    make_site(ROLLCALL_ENV="production")
    (line,) = lines()
    assert line["event"] == "setting_unknown name=METRIC_TOKEN nearest=METRICS_TOKEN"
    assert line["level"] == "warning"
    assert "hunter2" not in str(line)


def test_many_applications_in_one_process_log_each_line_once(
    make_site: Callable[..., Site], lines: Lines
) -> None:
    for _ in range(3):
        site = make_site(ROLLCALL_ENV="production")
    site.app.logger.warning("once")
    assert [line["event"] for line in lines()] == ["once"]


def test_a_line_names_the_request_and_the_session_if_it_is_known(
    make_site: Callable[..., Site], lines: Lines
) -> None:
    site = make_site()
    alice = site.signed_in("alice")
    site = make_site(ROLLCALL_ENV="production", SESSION_COOKIE_NAME="session", LOG_LEVEL="INFO")

    @public
    def view() -> str:
        logging.getLogger(LOGGER).info("before")
        if "ask" in site.app.config["ASK"]:
            assert session.principal is not None
            logging.getLogger(LOGGER).info("after")
        return "done"

    site.app.add_url_rule("/t/log", view_func=view)
    for ask in ("", "ask"):
        site.app.config["ASK"] = ask
        browser = site.browser()
        browser.client.set_cookie("session", alice.cookie or "")
        response = browser.get("/t/log")
        found = lines()
        assert {line["request"] for line in found} == {response.headers["X-Request-ID"]}
        assert "session" not in found[0]
        assert ("Cookie" in response.headers.get("Vary", "")) is bool(ask)
    assert found[-1]["session"] == alice.site.live("alice")[0].reference


def test_no_session_id_and_no_password_of_a_url_is_logged(
    make_site: Callable[..., Site], capsys: pytest.CaptureFixture[str]
) -> None:
    secret = new_session_id()
    for environment in ("production", "development"):
        make_site(ROLLCALL_ENV=environment)
        log = logging.getLogger(LOGGER)
        try:
            hidden_local = secret
            raise RuntimeError(f"cookie session={hidden_local}; redis://me:hunter2@host/0")
        except RuntimeError:
            log.exception("failed with %s", secret)
        printed = capsys.readouterr().err
        assert "RuntimeError" in printed
        assert secret not in printed
        assert "hunter2" not in printed
        assert "redis://me:***@host/0" in printed


def test_pytest_sees_what_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger(LOGGER).warning("seen by caplog")
    assert "seen by caplog" in caplog.text
