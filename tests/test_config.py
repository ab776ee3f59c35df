"""The settings: read once, checked together, each problem by name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from flask_session.defaults import Defaults

import config
from app.people.models import Role
from app.sessions.stores.connections import redis_client
from app.sessions.timeouts import LimitPolicy

KEY = "k3y-0f-th1s-t3st-thAt-n0body-us3s-els3where"
GOOD = {"SECRET_KEY": KEY, "DATABASE_URL": "sqlite:///a.db", "REDIS_URL": "redis://localhost/0"}


def load(_overrides=None, **environ):
    return config.load(_overrides, environ={**GOOD, **environ}, instance=Path("/nowhere"))


def problems(_overrides=None, **environ):
    with pytest.raises(config.ConfigError) as raised:
        load(_overrides, **environ)
    return raised.value.problems


def test_the_defaults_are_those_of_the_documentation():
    values = load()
    assert values["ROLLCALL_ENV"] == "production"
    assert values["SESSION_IDLE_TIMEOUT_BY_ROLE"] == {"member": 1800} | dict.fromkeys(
        config.ROLES[1:], 900
    )
    assert values["SESSION_STORE_BY_ROLE"] == {"member": "redis"} | dict.fromkeys(
        config.ROLES[1:], "sql"
    )
    assert set(values["SESSION_ABSOLUTE_TIMEOUT_BY_ROLE"].values()) == {43200}
    assert set(values["SESSION_LIMIT_BY_ROLE"].values()) == {1}
    assert values["SESSION_COOKIE_NAME"] == "__Host-session"
    assert values["SESSION_COOKIE_SECURE"] is True


def test_the_roles_and_policies_are_those_of_the_application():
    assert list(config.ROLES) == [role.value for role in Role]
    assert load(SESSION_LIMIT_POLICY="deny")["SESSION_LIMIT_POLICY"] == LimitPolicy.DENY


def test_an_override_wins_over_the_environment_and_none_unsets_it():
    assert load({"SESSION_LIMIT": 3}, SESSION_LIMIT="2")["SESSION_LIMIT"] == 3
    assert load({"SESSION_LIMIT": None}, SESSION_LIMIT="2")["SESSION_LIMIT"] == 1


def test_an_override_that_is_no_setting_of_ours_is_passed_through():
    assert load({"TESTING": True})["TESTING"] is True


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SESSON_LIMIT", "SESSION_LIMIT"),
        ("SESSION_LIMIT_BY_ROL", "SESSION_LIMIT_BY_ROLE"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("SECRET_KEY_FILES", "SECRET_KEY_FILE"),
    ],
)
def test_an_override_with_a_misspelled_name_stops_the_start_and_the_right_one_is_named(name, meant):
    assert problems({name: "hunter2"}) == (f"{name}: no such setting; allowed: {meant}",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ROLLCALL_EVN", "ROLLCALL_ENV"),
        ("SESSION_LIMIT_BY_ROL", "SESSION_LIMIT_BY_ROLE"),
        ("SESSION_IDLE_TIMEOUTS", "SESSION_IDLE_TIMEOUT"),
        ("STEP_UP_AGES", "STEP_UP_AGE"),
    ],
)
def test_a_misspelled_name_that_only_we_use_stops_the_start(name, meant, tmp_path):
    said = (f"{name}: no such setting; allowed: {meant}",)
    assert problems(**{name: "hunter2"}) == said
    (tmp_path / "run.env").write_text(f"{name}=3\n")
    with pytest.raises(config.ConfigError) as raised:
        config.load(None, GOOD, tmp_path)
    assert raised.value.problems == said
    assert load(**{name: ""})["ROLLCALL_UNKNOWN"] == {}


def test_a_name_that_others_may_use_is_kept_to_be_warned_of_and_stops_nobody():
    near = {"SESSON_LIMIT": "SESSION_LIMIT", "TRUSTED_HOST": "TRUSTED_HOSTS"}
    assert load(**dict.fromkeys(near, "3"))["ROLLCALL_UNKNOWN"] == near


@pytest.mark.parametrize(
    "name",
    [
        "SESSION_MANAGER", "SESSION_ID", "XDG_SESSION_TYPE", "XDG_SESSION_ID", "DESKTOP_SESSION",
        "SESSION_DRIVER", "SECRET_KEY_BASE", "SQLALCHEMY_DATABASE_URI", "ROLLCALL_HOST",
        "ROLLCALL_SECRETS", "ROLLCALL_SERVICE_PORT", "FLASK_APP", "PATH",
    ],
)  # fmt: skip
def test_a_variable_of_somebody_else_is_no_business_of_ours(name):
    assert load(**{name: "3"})["ROLLCALL_UNKNOWN"] == {}


def test_no_setting_of_flask_or_flask_session_is_taken_for_a_misspelled_one_of_ours():
    upstream = [name for name in vars(Defaults) if name.startswith("SESSION_")]
    assert "SESSION_PERMANENT" in upstream
    ours = {setting.name for setting in config.SETTINGS}
    given = dict.fromkeys({*upstream, *Flask.default_config} - ours)
    assert given.items() <= load(given).items()


def test_a_value_by_role_replaces_the_default_and_the_others_use_the_common_one():
    values = load(SESSION_IDLE_TIMEOUT="600", SESSION_IDLE_TIMEOUT_BY_ROLE="admin=300, auditor=400")
    by_role = {"member": 600, "viewer": 600, "operator": 600, "auditor": 400, "admin": 300}
    assert values["SESSION_IDLE_TIMEOUT_BY_ROLE"] == by_role


def test_without_redis_everybody_is_in_sql():
    values = load(SESSION_TYPE="sqlalchemy", REDIS_URL="")
    assert set(values["SESSION_STORE_BY_ROLE"].values()) == {"sql"}


def test_a_store_of_redis_without_a_redis_names_the_setting():
    assert problems(REDIS_URL="") == (
        "REDIS_URL: missing; SESSION_TYPE=sqlalchemy does without Redis",
    )


@pytest.mark.parametrize(
    "backend", ["filesystem", "cachelib", "memcached", "mongodb", "dynamodb", "null"]
)
def test_a_store_that_is_not_offered_stops_the_start(backend):
    (problem,) = problems(SESSION_TYPE=backend)
    assert problem.startswith(f"SESSION_TYPE: got {backend!r}; allowed: redis or sqlalchemy")
    assert backend == "null" or f"({backend}: " in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROLLCALL_ENV", "staging"),
        ("SITE_NAME", "x" * 41),
        ("SITE_NAME", "Red \x1b[31mteam"),
        ("SITE_NAME", "two\nlines"),
        ("SITE_NAME", "\u202ebackwards"),
        ("FLASK_DEBUG", "perhaps"),
        ("DATABASE_URL", "oracle://localhost/x"),
        ("DATABASE_URL", "not a url"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///file:x?mode=memory&uri=true"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://localhost:door"),
        ("REDIS_URL", "redis://localhost:65536"),
        ("REDIS_URL", "redis://localhost?decode_responses=true"),
        ("REDIS_URL", "redis://localhost?ssl_ca_certs=/ca.pem"),
        ("REDIS_URL", "rediss://localhost?ssl_check_hostname=perhaps"),
        ("REDIS_URL", "redis://localhost?db=first"),
        ("REDIS_URL", "redis://localhost/first"),
        ("REDIS_URL", "redis://a,b:2/0"),
        ("REDIS_URL", "redis://[::1"),
        ("REDIS_URL", "redis+cluster://"),
        ("REDIS_URL", "redis+cluster://localhost"),
        ("REDIS_URL", "redis+cluster://a:1,b:65536"),
        ("REDIS_URL", "redis+cluster://a:1,"),
        ("REDIS_URL", "redis+cluster://a:1/1"),
        ("REDIS_URL", "redis+cluster://a:1?ssl_ca_certs=/ca.pem"),
        ("REDIS_URL", "rediss+cluster://a:1?sentinel_password=x"),
        ("REDIS_URL", "redis+sentinel://a:1,b:2"),
        ("REDIS_URL", "redis+sentinel://a:1/mymaster/first"),
        ("REDIS_URL", "redis+sentinel://a:1/mymaster?db=1"),
        ("REDIS_URL", "redis+sentinel:///mymaster"),
        ("REDIS_URL", "unix+cluster:///run/redis.sock"),
        ("SESSION_STORE_BY_ROLE", "member=files"),
        ("SESSION_IDLE_TIMEOUT", "0"),
        ("SESSION_IDLE_TIMEOUT", "1800.5"),
        ("SESSION_IDLE_TIMEOUT", "half an hour"),
        ("SESSION_IDLE_TIMEOUT_BY_ROLE", "king=900"),
        ("SESSION_IDLE_TIMEOUT_BY_ROLE", "admin=900,admin=800"),
        ("SESSION_IDLE_TIMEOUT_BY_ROLE", "900"),
        ("SESSION_LIMIT", "-1"),
        ("SESSION_LIMIT_POLICY", "kill"),
        ("SESSION_TOUCH_INTERVAL", "-1"),
        ("SESSION_KEY_PREFIX", "a b"),
        ("SESSION_SERIALIZATION_FORMAT", "pickle"),
        ("SESSION_SQLALCHEMY_TABLE", "x; drop table users"),
        ("SESSION_COOKIE_NAME", "a;b"),
        ("SESSION_COOKIE_PATH", "admin"),
        ("SESSION_COOKIE_SAMESITE", "Sometimes"),
        ("REQUEST_DEADLINE", "nan"),
        ("TRUSTED_PROXIES", "all"),
        ("LOG_LEVEL", "LOUD"),
        ("PORT", "65536"),
        ("METRICS_TOKEN", "too short"),
        ("WORKER_METRICS_ADDRESS", "8001"),
        ("WORKER_METRICS_ADDRESS", "::1:8001"),
        ("WORKER_METRICS_ADDRESS", "localhost:65536"),
    ],
)
def test_a_bad_value_names_the_setting_and_what_is_allowed(name, value):
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"{name}: ")
    assert "allowed: " in problem


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache/1",
        "rediss://:p%40ss@cache:6380?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/valkey/valkey.sock?db=2",
        "redis+cluster://10.0.0.1:7000,[::1]:7001",
        "rediss+cluster://ada:p%40ss@a.example:7000,b.example:7000/?ssl_check_hostname=false",
        "redis+sentinel://a:26379,b:26379/mymaster",
        "rediss+sentinel://:p@a:1,b:2/my.master/3?sentinel_password=s&ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_each_form_of_redis_url_is_taken_and_makes_a_client(url):
    taken = load(REDIS_URL=url)["REDIS_URL"]
    assert taken == url
    redis_client(taken).close()


def test_each_form_of_redis_url_in_the_docs_is_taken():
    page = (config.ROOT / "docs" / "stores.md").read_text()
    words = {"HOST": "h", "PORT": "6379", "DB": "1", "SERVICE": "mymaster", "PATH": "run/s"}
    forms = re.findall(r"`((?:rediss?|unix)(?:\+\w+)?://[^`]*[A-Z][^`]*)`", page)
    assert len(forms) >= 6
    for form in forms:
        url = re.sub(r"[A-Z]+", lambda word: words.get(word[0], "x"), form)
        assert load(REDIS_URL=url)["REDIS_URL"] == url
        redis_client(url).close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:hunter2@a:1,b:2?sentinel_password=hunter2",
        "redis://:hunter2/x@localhost:1/0",
    ],
)
def test_a_redis_url_that_is_refused_is_told_what_is_allowed_and_not_repeated(url):
    (problem,) = problems(REDIS_URL=url)
    assert "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize("name", ["7", "Tea & Milk", "會話管理", "x" * 40])
def test_a_site_name_may_be_of_any_language(name):
    assert load(SITE_NAME=f" {name} ")["SITE_NAME"] == name


def test_all_problems_are_told_at_once():
    names = [p.partition(":")[0] for p in problems(PORT="x", SESSION_LIMIT="0", SECRET_KEY="")]
    assert names == ["SESSION_LIMIT", "PORT", "SECRET_KEY"]


def test_a_secret_is_never_shown():
    with pytest.raises(config.ConfigError) as raised:
        load(DATABASE_URL="oracle://u:hunter2@h/d", SECRET_KEY="hunter2", REDIS_URL="x:hunter2")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "key", ["", "short", "change-me" * 5, "your_secret_key" * 3, "a" * 64, "abab" * 16]
)
def test_production_refuses_a_missing_short_or_placeholder_key(key):
    (problem,) = problems(SECRET_KEY=key)
    assert problem.startswith("SECRET_KEY: ")


def test_production_refuses_a_short_key_among_the_fallbacks():
    (problem,) = problems(SECRET_KEY_FALLBACKS=f"{KEY}old,short")
    assert problem.startswith("SECRET_KEY_FALLBACKS: ")


def test_production_refuses_debug_mode():
    assert problems(FLASK_DEBUG="1") == ("FLASK_DEBUG: got True; allowed in production: false",)


def test_production_refuses_an_idle_timeout_above_the_absolute_one_for_any_role():
    (problem,) = problems(SESSION_ABSOLUTE_TIMEOUT_BY_ROLE="auditor=600")
    assert problem == "SESSION_IDLE_TIMEOUT: 900 s for auditor; allowed: at most the absolute 600 s"


def test_production_refuses_a_touch_interval_that_would_end_busy_sessions():
    (problem,) = problems(SESSION_IDLE_TIMEOUT="60")
    assert problem.startswith("SESSION_TOUCH_INTERVAL: not below the idle timeout of member")


@pytest.mark.parametrize("missing", ["SECRET_KEY", "DATABASE_URL"])
@pytest.mark.parametrize("environment", ["production", "development"])
def test_a_key_and_a_database_are_asked_for_everywhere(missing, environment):
    (problem,) = problems(**{missing: "", "ROLLCALL_ENV": environment})
    assert problem.startswith(f"{missing}: missing")


@pytest.mark.parametrize(
    "setting",
    [
        {"SESSION_COOKIE_DOMAIN": "example.org"},
        {"SESSION_COOKIE_PATH": "/app"},
        {"SESSION_COOKIE_SECURE": "false"},
    ],
)
def test_a_host_cookie_that_a_browser_would_drop_is_refused(setting):
    names = {problem.partition(":")[0] for problem in problems(**setting)}
    assert names == {"SESSION_COOKIE_NAME", "VISITOR_COOKIE_NAME"}


def test_the_two_cookies_need_two_names():
    (problem,) = problems(VISITOR_COOKIE_NAME="__Host-session")
    assert problem.startswith("VISITOR_COOKIE_NAME: ")


def test_development_drops_the_prefix_and_secure():
    values = load(ROLLCALL_ENV="development")
    assert values["SESSION_COOKIE_SECURE"] is False
    assert (values["SESSION_COOKIE_NAME"], values["VISITOR_COOKIE_NAME"]) == ("session", "visitor")


def test_development_with_tls_keeps_both():
    values = load(ROLLCALL_ENV="development", SESSION_COOKIE_SECURE="true")
    assert values["SESSION_COOKIE_NAME"] == "__Host-session"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("mariadb://u:p@h/d", "mariadb+pymysql://u:p@h/d"),
        ("sqlite:////var/lib/a.db", "sqlite:////var/lib/a.db"),
        ("sqlite:///a.db", f"sqlite:///{config.ROOT}/instance/a.db"),
    ],
)
def test_a_database_url_gets_the_driver_that_is_installed(given, used):
    assert load(DATABASE_URL=given)["DATABASE_URL"] == used


def test_a_secret_can_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text(f"{KEY}-in-a-file\n")
    values = load(SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "key"))
    assert values["SECRET_KEY"] == f"{KEY}-in-a-file"


def test_a_secret_given_twice_or_in_a_file_that_is_not_there_is_refused(tmp_path):
    assert problems(SECRET_KEY_FILE=str(tmp_path / "key")) == (
        "SECRET_KEY: set twice; allowed: it or SECRET_KEY_FILE, not both",
    )
    (problem,) = problems(SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "key"))
    assert problem.startswith("SECRET_KEY: SECRET_KEY_FILE cannot be read")


def test_keys_of_forms_are_the_old_ones_and_the_new_one_and_never_expire():
    values = load(SECRET_KEY_FALLBACKS=f"{KEY}1,{KEY}2")
    assert values["WTF_CSRF_SECRET_KEY"] == [f"{KEY}1", f"{KEY}2", KEY]
    assert values["WTF_CSRF_TIME_LIMIT"] is None


def test_flask_sees_what_make_run_uses_unless_the_environment_says_otherwise(tmp_path):
    (tmp_path / "run.env").write_text(
        f"ROLLCALL_ENV=development\nSECRET_KEY={KEY}\nSESSION_TYPE=sqlalchemy\n"
        "DATABASE_URL='sqlite:////a b/run.db'\nSESSION_LIMIT=5\n"
        """SESSION_CARRY_OVER='basket, reader'"'"'s place'\n"""
    )
    values = config.load(None, {"SESSION_LIMIT": "2"}, tmp_path)
    assert values["DATABASE_URL"] == "sqlite:////a b/run.db"
    assert values["SESSION_CARRY_OVER"] == ("basket", "reader's place")
    assert values["ROLLCALL_ENV"] == "development"
    assert values["SESSION_LIMIT"] == 2
    with pytest.raises(config.ConfigError):
        config.load(None, {"ROLLCALL_ENV": "production"}, tmp_path)
    with pytest.raises(config.ConfigError):
        config.load({"ROLLCALL_ENV": "production"}, {}, tmp_path)


def test_a_secret_of_the_environment_does_not_contradict_the_file_that_make_run_uses(tmp_path):
    (tmp_path / "run.env").write_text(
        f"ROLLCALL_ENV=development\nSECRET_KEY_FILE={tmp_path}/key\nSESSION_TYPE=sqlalchemy\n"
        "DATABASE_URL=sqlite:////run.db\n"
    )
    assert config.load(None, {"SECRET_KEY": KEY}, tmp_path)["SECRET_KEY"] == KEY


def test_a_flask_command_tells_a_bad_setting_in_words():
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SESSION_")}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "users", "create", "vera"],
        env={**environ, **GOOD, "ROLLCALL_ENV": "production", "SESSION_LIMIT": "none"},
        cwd=config.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "SESSION_LIMIT: got 'none'; allowed: a whole number from 1 to 10000" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_setting_is_checked_by_itself():
    assert config.one("PORT", {}) == 8000
    assert config.one("PORT", {"PORT": "8100", "WEB_CONCURRENCY": "many"}) == 8100
    with pytest.raises(config.ConfigError, match="WEB_CONCURRENCY: got 'many'"):
        config.one("WEB_CONCURRENCY", {"WEB_CONCURRENCY": "many"})


@pytest.mark.parametrize(("name", "value"), [("PORT", "eighty"), ("WEB_CONCURRENCY", "0")])
def test_gunicorn_names_a_bad_setting_without_a_traceback(name, value, tmp_path):
    file = str(config.ROOT / "gunicorn.conf.py")
    command = [sys.executable, "-m", "gunicorn", "-c", file, "--check-config", "wsgi:app"]
    environ = {"PATH": os.environ["PATH"], name: value}
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"{name}: got '{value}'; allowed: a whole number" in done.stderr
    assert "Traceback" not in done.stderr
