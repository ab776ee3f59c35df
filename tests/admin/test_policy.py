"""The policy page: each value in force, where it comes from, and why it may be unsafe; never a secret."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from app.admin.unsafe import _RULES, reasons
from tests.site import SECRET, Site

pytestmark = pytest.mark.admin


def unsafe(site: Site, **values: Any) -> dict[str, str]:
    """Return what is flagged with these values in place of the site's own."""

    class Given:
        def __init__(self, name: str, value: object) -> None:
            self.name = name
            self.value = values.get(name, value)

    return reasons(Given(s.name, s.value) for s in site.app.config["ROLLCALL_SETTINGS"])  # type: ignore[misc]


def test_each_setting_is_shown_with_its_value_and_its_source(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(SESSION_IDLE_TIMEOUT_BY_ROLE={"admin": 600}, STEP_UP_AGE=7200)
    vera = site.signed_in("vera")
    body: Any = vera.get("/admin/policy?format=json").json
    by_name = {row["name"]: row for row in body["settings"]}
    assert set(by_name) == {s.name for s in site.app.config["ROLLCALL_SETTINGS"]}
    assert by_name["STEP_UP_AGE"]["value"] == "7200"
    assert (by_name["STEP_UP_AGE"]["unit"], by_name["STEP_UP_AGE"]["source"]) == (
        "seconds", "override",
    )  # fmt: skip
    assert by_name["SESSION_LIMIT"]["source"] == "default"
    assert {row["role"]: row["idle_seconds"] for row in body["policy"]}["admin"] == 600
    page = vera.get("/admin/policy").text
    assert "7200 s<" in page
    assert "More than an hour: grave actions hardly ever ask for the password." in page
    assert "given by the program" in page
    rows = {
        row["name"]: row
        for row in csv.DictReader(io.StringIO(vera.get("/admin/policy?format=csv").text))
    }
    assert rows["STEP_UP_AGE"]["unsafe"].startswith("More than an hour")
    by_role = rows["admin.idle_seconds"]
    assert (by_role["group"], by_role["value"]) == ("by_role", "600")
    assert rows["member.store"]["value"] == "redis"


def test_no_secret_is_shown_in_any_form(make_site: Callable[..., Site]) -> None:
    token = "scrape-me-0123456789"
    site = make_site(SECRET_KEY_FALLBACKS=["old-" + SECRET], METRICS_TOKEN=token)
    vera = site.signed_in("vera")
    for form in ("", "?format=json", "?format=csv"):
        said = vera.get(f"/admin/policy{form}").text
        assert SECRET not in said
        assert token not in said
        assert f"set, {len(SECRET)} characters" in said


def test_what_is_unsafe_is_flagged_and_what_is_not_is_left_alone(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    good = {
        "ROLLCALL_ENV": "production", "SESSION_COOKIE_SECURE": True, "TRUSTED_HOSTS": ("a.example",),
        "SESSION_COOKIE_NAME": "__Host-session", "METRICS_TOKEN": "x" * 16, "DATABASE_URL": "postgresql://db",
        "REQUEST_DEADLINE": 0.8,
    }  # fmt: skip
    assert unsafe(site, **good) == {}
    hours = dict.fromkeys(("member", "viewer", "operator", "auditor", "admin"), 90_000)
    bad = {
        "ROLLCALL_ENV": "development", "FLASK_DEBUG": True, "SECRET_KEY": "short",
        "SESSION_COOKIE_SECURE": False, "SESSION_COOKIE_HTTPONLY": False,
        "SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_DOMAIN": "example.org",
        "SESSION_IDLE_TIMEOUT_BY_ROLE": hours, "SESSION_ABSOLUTE_TIMEOUT_BY_ROLE": hours,
        "SESSION_TOUCH_INTERVAL": 90_000, "SESSION_LIMIT_BY_ROLE": hours, "STEP_UP_AGE": 4000,
        "AUDIT_RETENTION_DAYS": 30, "LOG_LEVEL": "DEBUG", "REQUEST_DEADLINE": 5.0,
        "DATABASE_URL": "sqlite:///a", "SESSION_COOKIE_NAME": "session", "TRUSTED_HOSTS": (),
        "METRICS_TOKEN": "",
    }  # fmt: skip
    needs_production = {"DATABASE_URL", "SESSION_COOKIE_NAME", "TRUSTED_HOSTS", "METRICS_TOKEN"}
    for name, value in bad.items():
        needed = {"ROLLCALL_ENV": "production"} if name in needs_production else {}
        assert set(unsafe(site, **good | needed | {name: value})) == {name}
    assert {name for name, _is_unsafe, _why in _RULES} == set(bad)


def test_everyone_is_signed_out_from_here_by_who_may(site: Site) -> None:
    for name in ("alice", "ops"):
        site.signed_in(name)
    assert "Sign everyone out" not in site.signed_in("otto").get("/admin/policy").text
    ada = site.signed_in("ada")
    assert "Sign everyone out…" in ada.get("/admin/policy").text
    frozen = ada.post("/admin/revocations", {"all_matching": "1"}, form="/admin/policy")
    ada.post(frozen.location, {"reason": "incident", "count": "3"})
    assert [row.name for row in site.rows() if row.ended_at is None] == ["ada"]
