"""`flask config`: what is in force and who said so, without a secret; and the problems when nothing starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL

import config
from app import create_app
from app.sessions.system import system_of
from app.settings import server_of

KEY = "a-key-0f-th1s-t3st-that-nobody-us3s-els3where"
# Nobody answers at these addresses: the command asks no server.
GIVEN = {
    "ROLLCALL_ENV": "development",
    "SECRET_KEY": KEY,
    "DATABASE_URL": "postgresql://rollcall:hunter2@127.0.0.1:1/people?sslpassword=hunter3",
    "REDIS_URL": "rediss://:hunter4@127.0.0.1:1/0",
}


def run(*arguments: str, **overrides: object) -> Result:
    app = create_app({**GIVEN, **overrides})
    try:
        return app.test_cli_runner().invoke(args=["config", *arguments])
    finally:
        system_of(app).close()


def settings(*arguments: str, **overrides: object) -> dict[str, dict[str, Any]]:
    done = run("--json", *arguments, **overrides)
    assert done.exit_code == 0, done.output
    return {row["name"]: row for row in json.loads(done.stdout)["settings"]}


def loaded(
    environ: dict[str, str], instance: Path = Path("/nowhere")
) -> dict[str, tuple[str, bool]]:
    effective: Any = config.load(None, environ, instance)["ROLLCALL_SETTINGS"]
    return {each.name: (each.source, each.changed) for each in effective}


def test_every_setting_is_printed_under_its_heading_and_in_line() -> None:
    lines = run().stdout.splitlines()
    headings = [line.rstrip(":") for line in lines if not line.startswith(("*", " "))]
    assert headings == list(config.GROUPS)
    rows = [line for line in lines if line.startswith(("*", " "))]
    assert [row[2:].split()[0] for row in rows] == [s.name for s in config.SETTINGS]
    column = next(row.index("override") for row in rows if "override" in row)
    assert {row[column - 2 : column] for row in rows} == {"  "}
    assert all(row[column] != " " for row in rows)


def test_what_is_not_a_default_is_marked_and_can_be_had_alone() -> None:
    lines = run(SESSION_LIMIT=3).stdout.splitlines()
    marked = {line.split()[1] for line in lines if line.startswith("*")}
    assert marked == {*GIVEN, "SESSION_LIMIT", "SESSION_LIMIT_BY_ROLE"}
    assert set(settings("--changed", SESSION_LIMIT=3)) == marked
    assert {line[0] for line in run("--changed").stdout.splitlines() if ":" not in line[-1]} == {
        "*"
    }


def test_values_are_those_in_force() -> None:
    rows = settings(SESSION_IDLE_TIMEOUT=600, TRUSTED_HOSTS="a.example.org,b.example.org")
    assert rows["SESSION_IDLE_TIMEOUT"]["value"] == "600"
    assert rows["SESSION_IDLE_TIMEOUT"]["unit"] == "seconds"
    by_role = rows["SESSION_IDLE_TIMEOUT_BY_ROLE"]
    assert by_role["value"] == "member=600,viewer=900,operator=900,auditor=900,admin=900"
    assert (by_role["source"], by_role["changed"]) == ("default, SESSION_IDLE_TIMEOUT", True)
    assert rows["TRUSTED_HOSTS"]["value"] == "a.example.org,b.example.org"
    assert rows["SESSION_COOKIE_NAME"]["value"] == "session"
    assert rows["SESSION_COOKIE_NAME"]["source"] == "default of development"
    assert rows["SESSION_COOKIE_SECURE"]["value"] == "false"
    assert rows["SESSION_COOKIE_DOMAIN"]["value"] is None


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--changed"]])
def test_no_secret_is_shown(arguments: list[str]) -> None:
    more = {"SECRET_KEY_FALLBACKS": [f"{KEY}1"], "ADMIN_PASSWORD": "hunter5"}
    printed = run(*arguments, **more).output
    assert "hunter" not in printed
    assert "rollcall:" not in printed.replace("rollcall:session:", "")
    assert KEY not in printed
    assert f"set, {len(KEY)} characters" in printed
    assert "set, under 32 characters" in printed
    assert "postgresql+psycopg://***@127.0.0.1:1/people?***" in printed
    assert "rediss://***@127.0.0.1:1/0" in printed


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12))
def test_no_part_of_a_password_in_a_url_is_shown(middle: str) -> None:
    password = f"S3cr{middle}et9"
    for url in (
        URL.create("postgresql", "user", password, "db", 5432, "x").render_as_string(False),
        f"redis://user:{password}@127.0.0.1:6379/0",
        f"redis://:{password}@127.0.0.1:6379/0?password={password}",
        f"unix:///run/valkey.sock?password={password}",
        f"redis+cluster://:{password}@a:1,b:2",
        f"redis+sentinel://:{password}@a:1,b:2/mymaster/0?sentinel_password={password}",
    ):
        assert "S3cr" not in server_of(url)
        assert "et9" not in server_of(url)


def test_the_servers_of_a_cluster_and_of_sentinels_are_shown() -> None:
    assert server_of("redis+cluster://:pw@a:1,[::1]:2") == "redis+cluster://***@a:1,[::1]:2"
    shown = server_of("rediss+sentinel://a:1,b:2/mymaster/0?sentinel_password=pw")
    assert shown == "rediss+sentinel://a:1,b:2/mymaster/0?***"


PIECE = "qZ7"
LIKE_A_URL = [
    f"tok://{PIECE * 6}",
    f"https://{PIECE}:{PIECE}@{PIECE}.example/{PIECE}?{PIECE}#{PIECE}",
]
ODD = {
    "DATABASE_URL": [
        f"postgresql://{PIECE}:{PIECE}%2F%40@h/x?password={PIECE}",
        f"postgresql://a:{PIECE}@{PIECE}@h/x",
        f"mariadb://{PIECE}@h/x?ssl_key={PIECE}",
    ],
    "REDIS_URL": [
        f"redis://:{PIECE}%23{PIECE}@h/0",
        f"redis://:1%2F{PIECE}@h/0",
        f"unix://{PIECE}@/run/x.sock?password={PIECE}",
    ],
}
SECRETS = [
    (s.name, value) for s in config.SETTINGS if s.secret for value in ODD.get(s.name, LIKE_A_URL)
]


@pytest.mark.parametrize(("name", "value"), SECRETS)
def test_nothing_of_a_secret_is_shown_whatever_it_looks_like(name: str, value: str) -> None:
    for arguments in ([], ["--json"]):
        done = run(*arguments, **{name: value})
        assert done.exit_code == 0
        assert PIECE not in done.output
    assert settings(**{name: value})[name]["value"]


@pytest.mark.parametrize("url", [f"redis://:1/{PIECE}@h/0", f"redis://h/0#{PIECE}"])
def test_a_secret_that_is_refused_is_not_shown_either(url: str) -> None:
    with pytest.raises(config.ConfigError) as refused:
        run(REDIS_URL=url)
    assert "REDIS_URL" in str(refused.value)
    assert PIECE not in str(refused.value)


def test_each_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "run.env").write_text(
        f"ROLLCALL_ENV=development\nSECRET_KEY_FILE={tmp_path}/key\nSESSION_TYPE=sqlalchemy\n"
        "DATABASE_URL=sqlite:///run.db\nSESSION_LIMIT=5\nSTEP_UP_AGE=60\nPORT=\n"
    )
    found = loaded({"SESSION_LIMIT": "2", "STEP_UP_AGE": " "}, tmp_path)
    assert found["ROLLCALL_ENV"] == ("run.env", True)
    assert found["SECRET_KEY"] == ("file SECRET_KEY_FILE, run.env", True)
    assert found["SESSION_LIMIT"] == ("environment", True)
    assert found["STEP_UP_AGE"] == ("default", False)
    assert found["PORT"] == ("default", False)
    assert found["SESSION_COOKIE_SECURE"] == ("default of development", False)
    assert found["SESSION_STORE_BY_ROLE"] == ("default, SESSION_TYPE", True)
    environ = {"DATABASE_URL": "sqlite:///a.db", "REDIS_URL": "redis://h", "SECRET_KEY_FILE": ""}
    assert loaded({**environ, "SECRET_KEY": KEY})["SECRET_KEY"] == ("environment", True)
    del environ["REDIS_URL"]
    environ |= {"SESSION_TYPE": "sqlalchemy", "SECRET_KEY_FILE": f"{tmp_path}/key"}
    assert loaded(environ)["SECRET_KEY"] == ("file SECRET_KEY_FILE", True)
    rows = settings(SESSION_LIMIT=None, STEP_UP_AGE=60)
    assert rows["SESSION_LIMIT"]["source"] == "default"
    assert rows["STEP_UP_AGE"]["source"] == "override"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_settings_that_do_not_allow_a_start_are_all_named(arguments: list[str]) -> None:
    environ = {
        "PATH": os.environ["PATH"], "ROLLCALL_ENV": "production", "SECRET_KEY": "hunter2",
        "REDIS_URL": "redis://h", "SESSION_LIMIT": "none",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "flask", "config", *arguments],
        env=environ, cwd=config.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    named = [line.strip().partition(":")[0] for line in done.stderr.splitlines()[1:]]
    assert named == ["SESSION_LIMIT", "DATABASE_URL", "SECRET_KEY"]
    assert "hunter2" not in done.stderr
