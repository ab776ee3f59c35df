"""The files of the deployment, against the Compose specification and against rules of our own.

No container engine is needed. That the images exist and start is not shown here.
"""

import re
import subprocess
import sys
from typing import Any

import pytest

from tests.deploy.compose import (
    ENVIRONMENT,
    FILE,
    ROOT,
    dockerfile,
    is_sent_to_the_build,
    mounts,
    project,
)

SERVICES: dict[str, dict[str, Any]] = project()["services"]
SECRETS: dict[str, Any] = project()["secrets"]
every_service = pytest.mark.parametrize("name", SERVICES)
_PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?[\w.-]*(@sha256:[0-9a-f]{64})?")
_ONE_SHOT = {"migrate"}


def test_the_file_is_what_the_compose_specification_allows():
    """The schema is compose-spec.json as check-jsonschema carries it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(FILE)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_parts_of_a_deployment_are_all_there():
    assert set(SERVICES) == {"proxy", "web", "worker", "migrate", "valkey", "database"}
    assert project()["volumes"].keys() == {"valkey", "database"}


@every_service
def test_a_service_runs_with_no_more_rights_than_it_needs(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    uid, gid = service["user"].split(":")
    assert int(uid) > 0
    assert int(gid) > 0


@every_service
def test_a_service_is_pinned_limited_and_comes_back(name):
    service = SERVICES[name]
    assert _PINNED.fullmatch(service["image"])
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert service["restart"] == ("no" if name in _ONE_SHOT else "unless-stopped")
    assert service["logging"]["options"]["max-size"]


@every_service
def test_a_service_says_whether_it_is_well(name):
    check = SERVICES[name]["healthcheck"]
    if name in _ONE_SHOT:
        # Its exit code is its health, and somebody waits for it.
        waiting = [s for s in SERVICES.values() if name in s.get("depends_on", {})]
        assert check == {"disable": True}
        assert waiting
    else:
        assert check["test"][0] in {"CMD", "CMD-SHELL"}
        assert check.keys() == {"test", "interval", "timeout", "retries", "start_period"}


def test_nobody_starts_before_what_it_needs():
    needs = {
        name: {other: wait["condition"] for other, wait in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    running = {"database": "service_healthy", "valkey": "service_healthy"}
    site = running | {"migrate": "service_completed_successfully"}
    assert needs == {
        "proxy": {"web": "service_healthy"},
        "web": site,
        "worker": site,
        "migrate": {"database": "service_healthy"},
        "valkey": {},
        "database": {},
    }


def test_only_the_proxy_can_be_reached_from_outside():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"proxy"}
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {
        "proxy"
    }
    networks = project()["networks"]
    assert {name for name, network in networks.items() if not network.get("internal")} == {
        "outside"
    }
    assert not any("network_mode" in service for service in SERVICES.values())
    on = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert not on["proxy"] & (on["valkey"] | on["database"])


@every_service
def test_secrets_are_files_that_only_those_who_need_them_get(name):
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if re.search("KEY|PASSWORD|URL|SECRET|TOKEN", variable):
            assert variable.endswith("_FILE")
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert set(service.get("secrets", [])) <= set(SECRETS)
    words = " ".join(map(str, [service["command"], service["healthcheck"]]))
    assert set(re.findall(r"/run/secrets/(\w+)", words)) <= set(service.get("secrets", []))


def test_every_secret_has_a_user_and_a_file():
    used = [name for service in SERVICES.values() for name in service.get("secrets", [])]
    assert set(used) == set(SECRETS)
    for name, secret in SECRETS.items():
        assert secret["file"] == f"{ENVIRONMENT['ROLLCALL_SECRETS']}/{name}"


@every_service
def test_what_a_service_mounts_exists_and_cannot_be_written(name):
    for mount in mounts(SERVICES[name], SECRETS):
        if mount.source is not None and ROOT in mount.source.parents:
            assert mount.source.is_file()
            # Others, such as a container's user, may read it.
            assert mount.source.stat().st_mode & 0o004
    for volume in SERVICES[name].get("volumes", []):
        assert volume.endswith(":ro") or volume.split(":")[0] in project()["volumes"]


def test_valkey_keeps_what_it_has_and_drops_nothing():
    settings = dict(
        line.split(maxsplit=1)
        for line in (ROOT / "deploy/valkey/valkey.conf").read_text().splitlines()
        if line and not line.startswith("#")
    )
    expected = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    assert expected.items() <= settings.items()
    assert "requirepass" not in settings
    # Rewriting the append-only file may need as much again.
    limit = SERVICES["valkey"]["deploy"]["resources"]["limits"]["memory"]
    assert 2 * int(settings["maxmemory"].removesuffix("mb")) <= 1024 * int(limit.removesuffix("g"))


def test_the_image_is_pinned_unprivileged_and_runs_what_compose_runs():
    image = dockerfile()
    assert all(_PINNED.fullmatch(base) and base.count(".") == 2 for base in image.bases)
    assert image.user == SERVICES["web"]["user"]
    assert image.command == SERVICES["web"]["command"]


def test_the_image_holds_the_application_and_nothing_else():
    """What is copied reaches the build, and neither secrets nor data nor history do."""
    for source, _ in dockerfile().copied:
        assert (ROOT / source).exists()
        assert is_sent_to_the_build(source)
    assert is_sent_to_the_build("requirements/runtime.txt")
    assert is_sent_to_the_build("app/sessions/ledger.py")
    for path in (
        ".env",
        ".git/config",
        "instance/secret_key",
        "deploy/secrets/secret_key",
        "tests/site.py",
    ):
        assert not is_sent_to_the_build(path)
    assert not is_sent_to_the_build("app/__pycache__/web.cpython-313.pyc")
