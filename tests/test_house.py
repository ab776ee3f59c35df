"""The house rules that no linter knows: lists that must agree, and what must not be committed."""

import ast
import re
from pathlib import Path

import pytest

import config

ROOT = config.ROOT
NOT_OURS = {"__pycache__", "instance", "instance-demo", "build", "dist", "node_modules"}


def our_files() -> list[Path]:
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and not any(
            part in NOT_OURS or (part.startswith(".") and part != ".ci")
            for part in path.relative_to(ROOT).parts[:-1]
        )
    ]


def texts() -> dict[str, str]:
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for path in our_files()
        if path.suffix not in {".png", ".mo", ".pyc", ".ico", ".woff2"}
    }


def written(value: object) -> str:
    """Write a default the way a person sets it in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{role}={one}" for role, one in value.items())
    return "" if value in ("", None, ()) else str(value)


def test_the_table_of_settings_is_what_the_code_reads():
    """docs/configuration.md has each setting's name, default, unit and meaning, and no other."""
    row = re.compile(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\| (.*?) ?\| (.*) \|$", re.MULTILINE)
    documented = {name: rest for name, *rest in row.findall(texts()["docs/configuration.md"])}
    expected = {
        s.name: [written(s.default), s.unit, s.doc + (" Secret." if s.secret else "")]
        for s in config.SETTINGS
    }
    assert documented == expected


def test_every_setting_says_what_it_protects_and_when_to_change_it():
    """Below its group's table: "- `NAME` protects this. Change it when that." """
    page = texts()["docs/configuration.md"]
    entry = re.compile(r"^- `([A-Z_]+)` protects (.+?)\. Change it when (.+?)\.$", re.MULTILINE)
    said: dict[str, list[str]] = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        unwrapped = section.replace("\n  ", " ")
        said[section.partition("\n")[0]] = [name for name, *_ in entry.findall(unwrapped)]
    assert said == {group: [s.name for s in settings] for group, settings in config.GROUPS.items()}


def test_the_table_of_roles_has_the_defaults():
    row = re.compile(
        r"^\| (\w+) \| (\d+) s \| (\d+) s \| (\d+) \| (\w+) \| (\w+) \|$", re.MULTILINE
    )
    documented = {role: rest for role, *rest in row.findall(texts()["docs/configuration.md"])}
    given = {
        "SECRET_KEY": "0123456789abcdef" * 2,
        "DATABASE_URL": "sqlite:///a",
        "REDIS_URL": "redis://a",
    }
    values = config.load(None, given, Path("/nowhere"))
    columns = ("IDLE_TIMEOUT", "ABSOLUTE_TIMEOUT", "LIMIT", "LIMIT_POLICY", "STORE")
    by_role = [values[f"SESSION_{column}_BY_ROLE"] for column in columns]
    assert documented == {role: [str(column[role]) for column in by_role] for role in config.ROLES}


def test_the_example_environment_has_every_setting_with_its_default():
    lines = re.findall(r"^#([A-Z_]+)=(.*)$", texts()[".env.example"], re.MULTILINE)
    assert dict(lines) == {s.name: written(s.default) for s in config.SETTINGS}
    assert len(lines) == len(config.SETTINGS)


def test_nothing_but_create_app_gunicorn_and_the_tests_imports_the_settings():
    importing = [
        name
        for name, text in texts().items()
        if name.endswith(".py")
        and re.search(r"^\s*(import|from) config(_values)?\b", text, re.MULTILINE)
    ]
    allowed = {"app/__init__.py", "config.py", "gunicorn.conf.py"}
    assert {name for name in importing if not name.startswith("tests/")} <= allowed


def test_every_command_that_the_pages_name_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", texts()["Makefile"], re.MULTILINE))
    pages = [text for name, text in texts().items() if name.endswith(".md")]
    named = {target for text in pages for target in re.findall(r"`?\bmake ([a-z]+)`", text)}
    assert named <= targets


def test_every_link_between_pages_leads_somewhere():
    for name, text in texts().items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            if target.endswith(".png"):
                continue
            assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


def test_every_module_says_what_it_is_for():
    silent = [
        name
        for name, text in texts().items()
        if name.startswith("app/") and name.endswith(".py") and text.strip()
        if not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def test_no_path_of_one_machine_is_committed():
    home = re.compile(r"(?<![\w.~$}-])/(?:home|Users|root)/\w")
    found = [name for name, text in texts().items() if home.search(text)]
    if len(ROOT.parts) > 2:
        found += [name for name, text in texts().items() if f"{ROOT}/" in text]
    assert found == []


@pytest.mark.parametrize("lock", ["runtime", "embedded", "dev"])
def test_a_lock_pins_and_hashes_everything_and_names_no_index(lock):
    text = texts()[f"requirements/{lock}.txt"]
    entries = re.split(r"\n(?=[a-z])", text.replace("\\\n", " "))[1:]
    assert all(re.match(r"[\w.-]+==\S+\s+--hash=sha256:", entry) for entry in entries)
    assert not re.search(r"^\s*--(?!hash)|https?://|file://|@ ", text, re.MULTILINE)


def test_the_development_lock_has_the_runtime_versions():
    pins = {
        lock: set(
            re.findall(r"^([a-z0-9.-]+==\S+)", texts()[f"requirements/{lock}.txt"], re.MULTILINE)
        )
        for lock in ("runtime", "dev")
    }
    assert pins["runtime"] <= pins["dev"]
