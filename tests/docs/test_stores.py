"""docs/stores.md: what is not offered, and a third store that the contract suite judges as it stands there."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from flask import Flask
from flask_session.filesystem import FileSystemSessionInterface

import config
from tests.docs import guide
from tests.docs.facts import page, sections
from tests.sabotage.run import run_tests
from tests.stores import KINDS

SECTIONS = {section.heading: section for section in sections(page("stores.md"))}
(STEPS,) = [part.steps for part in guide.read(page("stores.md")) if part.title == "Add a store"]
CONTRACT = "tests/sessions/stores/test_contract.py"
AT_WORK = '''
"""A person whose session lies in the page's store."""


def test_a_person_signs_in_is_listed_and_is_revoked(make_site, tmp_path):
    site = make_site(SESSION_STORE_BY_ROLE="member=onefile", ONEFILE_PATH=f"{tmp_path}/sessions.db")
    alice, ada = site.signed_in("alice"), site.signed_in("ada")
    (row,) = site.live("alice")
    assert row.store == "onefile"
    assert site.payload(row) is not None
    (listed,) = ada.get("/admin/sessions?format=json&store=onefile").json["sessions"]
    assert (listed["reference"], listed["present"]) == (row.reference, True)
    ada.revoke(row.reference)
    assert not alice.is_signed_in()
    assert site.payload(row) is None
'''
SAVE_ENDS = "        return Saved.CONFLICT if held else Saved.GONE\n"
SAVE_CREATES = """        if not held:
            self.create(key, payload, ttl or timedelta(hours=1))
        return Saved.CONFLICT if held else Saved.SAVED
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A copy of the project in which a reader has followed the page."""
    with TemporaryDirectory(prefix="rollcall-page-") as temporary:
        made = guide.copy_of_the_project(Path(temporary))
        for step in STEPS:
            if step.what != "console":
                guide.carry_out(step, made)
        yield made


def judged(folder: Path, among: str = "onefile") -> tuple[int, str]:
    return run_tests(folder, [CONTRACT, "-k", among], stop=False)


def test_the_store_of_the_page_passes_the_contract_suite(folder: Path) -> None:
    code, printed = judged(folder)
    assert code == 0, printed
    tests = len(re.findall(r"^def test_", (folder / CONTRACT).read_text(), re.MULTILINE))
    passed, left_out = map(int, re.findall(r"(\d+) (?:passed|deselected)", printed))
    assert passed >= tests
    assert left_out == passed * len(KINDS)


@pytest.mark.parametrize(
    ("old", "new", "caught_by"),
    [
        (SAVE_ENDS, SAVE_CREATES, "test_a_save_never_creates_what_was_deleted"),
        (" AND version = ?", " AND ? NOT NULL", "test_a_save_with_an_old_version_conflicts"),
    ],
    ids=["a save creates", "no compare-and-set"],
)
def test_a_broken_store_is_rejected(folder: Path, old: str, new: str, caught_by: str) -> None:
    file = folder / "app/sessions/stores/onefile.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    try:
        code, printed = judged(folder, "onefile and save")
    finally:
        file.write_text(text)
    assert code == 1
    assert re.search(rf"^FAILED \S+::{caught_by}", printed, re.MULTILINE), printed


@pytest.mark.admin
def test_the_store_of_the_page_carries_a_persons_session(folder: Path) -> None:
    (folder / "tests/test_onefile.py").write_text(AT_WORK)
    code, printed = run_tests(folder, ["tests/test_onefile.py"], stop=True)
    assert code == 0, printed


def test_the_command_of_the_page_is_the_one_that_was_run() -> None:
    (command,) = [step.text for step in STEPS if step.what == "console"]
    assert command == f"$ .venv/bin/python -m pytest {CONTRACT} -k onefile\n"


def test_the_page_says_of_each_kind_that_is_not_offered_what_the_start_says() -> None:
    row = re.compile(r"^\| `([a-z]+)` \| (.+?) \| .+ \|$", re.MULTILINE)
    told = dict(row.findall(SECTIONS["Not offered"].text))
    assert set(told) == {"filesystem", "cachelib", "memcached", "mongodb", "dynamodb"}
    for kind, reason in told.items():
        with pytest.raises(config.ConfigError) as raised:
            config.load({"SESSION_TYPE": kind}, {}, Path("/nowhere"))
        (problem,) = [p for p in raised.value.problems if p.startswith("SESSION_TYPE")]
        assert problem == (
            f"SESSION_TYPE: got '{kind}'; allowed: redis or sqlalchemy ({kind}: {reason})"
        )


def test_flask_session_deprecates_its_files(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        FileSystemSessionInterface(Flask(__name__), cache_dir=str(tmp_path))
    assert any("FileSystemSessionInterface is deprecated" in str(each.message) for each in told)
