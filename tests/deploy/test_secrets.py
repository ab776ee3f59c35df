"""Secrets that are missing, empty or unfit: each stops the start with a message that names it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import servers
from tests.deploy.compose import ENVIRONMENT, FILE, ROOT, VariableUnset, project
from tests.deploy.plain import Plain, make_secrets


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_variable_that_is_not_set_is_named_with_what_it_is(name):
    """Compose stops before it starts anything; `environ` is what a person forgot to fill."""
    for environ in (ENVIRONMENT | {name: ""}, {k: v for k, v in ENVIRONMENT.items() if k != name}):
        with pytest.raises(VariableUnset, match=f"{name} is missing a value: set it to the"):
            project(environ)


def test_no_variable_of_the_file_is_optional_but_the_size_of_the_site():
    optional = re.findall(r"\$\{(\w+):-", FILE.read_text())
    assert optional == ["WEB_CONCURRENCY"]
    required = re.findall(r"\$\{(\w+):\?", FILE.read_text())
    assert set(required) == set(ENVIRONMENT)
    assert not re.search(r"(?<!\$)\$(\w|\{\w+\})", FILE.read_text().replace("${ROLLCALL_HOST}", ""))


def test_secrets_are_made_once_and_closed_to_other_users(tmp_path):
    directory = tmp_path / "secrets"
    said = make_secrets(directory)
    assert "tls_certificate" in said
    assert "tls_key" in said
    made = {path.name: path.read_text() for path in directory.iterdir()}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in directory.iterdir())
    assert made.keys() - {".gitignore"} == set(project()["secrets"]) - {
        "tls_certificate",
        "tls_key",
    }
    random = [made[name] for name in made if name.endswith(("password", "secret_key", "token"))]
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in random)
    assert len(set(random)) == len(random) == 5
    assert made["valkey_password"] in made["redis_url"]
    assert made["database_password"] in made["database_url"]
    assert made["postgres_password"] not in made["database_url"]

    make_secrets(directory)
    assert {path.name: path.read_text() for path in directory.iterdir()} == made


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        (None, "is missing, empty or shorter than 16 characters"),
        ("", "is missing, empty or shorter than 16 characters"),
        ("\n", "is missing, empty or shorter than 16 characters"),
        ("short", "is missing, empty or shorter than 16 characters"),
        ('long enough" but quoted', "has other characters than letters, digits, _ and -"),
        ("long-enough-first\nline-and-another", "has other characters"),
    ],
)
def test_valkey_does_not_start_without_a_proper_password(tmp_path, password, problem):
    """`--requirepass` with an empty variable would have been an open server."""
    (tmp_path / "valkey-server").write_text("#!/bin/sh\necho started\n")
    (tmp_path / "valkey-server").chmod(0o755)
    secret = tmp_path / "valkey_password"
    if password is not None:
        secret.write_text(password)
    script = (ROOT / "deploy/valkey/start.sh").read_text()
    assert "/run/secrets/valkey_password" in script
    done = subprocess.run(
        ["sh", "-c", script.replace("/run/secrets/valkey_password", str(secret))],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"the secret valkey_password {problem}" in done.stderr
    assert "started" not in done.stdout


@pytest.mark.parametrize("command", [["gunicorn", "wsgi:app"], ["flask", "worker"]])
@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "REDIS_URL"])
def test_the_application_does_not_start_without_a_secret(
    deployment: Plain, name, command, tmp_path
):
    """Neither where the file is empty nor where it is missing."""
    empty = tmp_path / "empty"
    empty.touch()
    for file, problem in ((empty, f"{name}: "), (tmp_path / "none", f"{name}_FILE cannot be read")):
        done = deployment["migrate"].run(*command, within=30, **{f"{name}_FILE": str(file)})
        assert done.returncode != 0
        assert "the settings do not allow a start" in done.stderr
        assert problem in done.stderr


def test_postgresql_makes_no_role_with_an_empty_password(deployment: Plain):
    database = deployment["database"]
    servers.wait_until(database.is_well, 30)
    script = Path(database.here("/docker-entrypoint-initdb.d/rollcall.sql")).read_text()
    secret = database.here("/run/secrets/database_password")
    assert secret in script
    done = database.run(
        "psql", "--set=ON_ERROR_STOP=1", "--no-psqlrc", "--host=/var/run/postgresql", "--port=5432",
        "--username=postgres", "--dbname=postgres",
        text=script.replace(secret, "/dev/null"),
        PGPASSWORD=(deployment.secrets / "postgres_password").read_text(),
    )  # fmt: skip
    assert done.returncode != 0
    assert "the secret database_password is missing, empty or short" in done.stderr
    assert "CREATE ROLE" not in done.stdout
