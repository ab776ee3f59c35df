"""docs/engine.md: each invariant has its section, and whatever a section names exists."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.facts import DOCS, Section, page, sections
from tests.sabotage.table import TABLE

ROOT = DOCS.parent
INVARIANTS = [each for each in sections(page("engine.md")) if each.heading[0].isdigit()]
TEST_FILES = re.compile(r"`(tests/[\w/]+\.py)`:\s((?:\s*`test_\w+`,?)+)")
PARTS = ("Where", "Shown by", "Sabotages")
each_invariant = pytest.mark.parametrize("section", INVARIANTS, ids=lambda s: s.heading)


def part(section: Section, name: str) -> str:
    """Return the list under one of a section's three labels."""
    found = re.search(rf"^{name}:\n\n((?:[- ] .+\n)+)", section.text, re.MULTILINE)
    assert found, f"{section.heading} has no list under {name!r}"
    return found[1]


def number_of(section: Section) -> int:
    return int(section.heading.partition(".")[0])


def named_functions(section: Section) -> list[str]:
    return re.findall(r"`(app(?:\.\w+)+)`", part(section, "Where"))


def named_tests(section: Section) -> Iterator[tuple[str, str]]:
    for file, names in TEST_FILES.findall(part(section, "Shown by")):
        yield from ((file, name) for name in re.findall(r"`(test_\w+)`", names))


def found(dotted: str) -> object:
    """Return what a dotted name means. Raises ImportError or AttributeError."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            value = getattr(value, name)
        return value
    raise ImportError(dotted)


@cache
def defined_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


def test_each_of_the_thirteen_invariants_has_a_section_in_order() -> None:
    assert [number_of(section) for section in INVARIANTS] == list(range(1, 14))


@each_invariant
def test_a_section_explains_before_it_lists(section: Section) -> None:
    why = section.text.partition("\nWhere:\n")[0]
    assert len(why.split()) > 60
    assert "`tests/" not in why
    labels = re.findall(r"^(\w[\w ]+):$", section.text, re.MULTILINE)
    assert labels == list(PARTS)


@each_invariant
def test_each_function_that_is_named_exists(section: Section) -> None:
    names = named_functions(section)
    assert names
    for name in names:
        assert callable(found(name)) or isinstance(found(name), property), name


@each_invariant
def test_each_test_that_is_named_exists(section: Section) -> None:
    tests = list(named_tests(section))
    assert len(tests) == len(re.findall(r"`test_\w+`", part(section, "Shown by")))
    for file, name in tests:
        assert name in defined_in(ROOT / file), f"{file}::{name}"


@each_invariant
def test_each_sabotage_is_named_and_the_tests_that_notice_it_are_shown(section: Section) -> None:
    rows = [row for row in TABLE if row.invariant == number_of(section)]
    listed = re.findall(r'^- "([^"]+)": ', part(section, "Sabotages"), re.MULTILINE)
    assert sorted(listed) == sorted(row.guard for row in rows)
    shown = set(named_tests(section))
    for row in rows:
        for node in row.tests:
            file, _, name = node.partition("::")
            assert (file, name.partition("[")[0]) in shown, row.guard


def test_nothing_is_named_outside_of_the_lists_that_does_not_exist() -> None:
    text = page("engine.md")
    for name in re.findall(r"`(app(?:\.\w+)+)`", text):
        assert found(name) is not None
    for file in re.findall(r"`((?:app|tests)/[\w/]+\.\w+)`", text):
        assert (ROOT / file).is_file(), file


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page("engine.md")):
        assert (DOCS / link).is_file(), link


def test_a_name_that_is_wrong_would_be_noticed() -> None:
    for wrong in ("app.sessions.ledger.Ledger.opens", "app.sessions.nothing", "ap.sessions"):
        with pytest.raises((ImportError, AttributeError)):
            found(wrong)
