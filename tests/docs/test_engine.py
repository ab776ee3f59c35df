"""docs/engine.md: each invariant has its section, and whatever a section names exists."""

import re

import pytest

from tests.docs.facts import Section, found, named_code, named_tests, not_there, page, sections
from tests.sabotage.table import TABLE

INVARIANTS = [each for each in sections(page("engine.md")) if each.heading[0].isdigit()]
PARTS = ("Where", "Shown by", "Sabotages")
each_invariant = pytest.mark.parametrize("section", INVARIANTS, ids=lambda s: s.heading)


def part(section: Section, name: str) -> str:
    """Return the list under one of a section's three labels."""
    found = re.search(rf"^{name}:\n\n((?:[- ] .+\n)+)", section.text, re.MULTILINE)
    assert found, f"{section.heading} has no list under {name!r}"
    return found[1]


def number_of(section: Section) -> int:
    return int(section.heading.partition(".")[0])


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
def test_what_is_named_exists(section: Section) -> None:
    assert named_code(part(section, "Where"))
    assert named_tests(part(section, "Shown by"))
    assert list(not_there(part(section, "Where") + part(section, "Shown by"))) == []


@each_invariant
def test_each_sabotage_is_named_and_the_tests_that_notice_it_are_shown(section: Section) -> None:
    rows = [row for row in TABLE if row.invariant == number_of(section)]
    listed = re.findall(r'^- "([^"]+)": ', part(section, "Sabotages"), re.MULTILINE)
    assert sorted(listed) == sorted(row.guard for row in rows)
    shown = set(named_tests(part(section, "Shown by")))
    for row in rows:
        for node in row.tests:
            file, _, name = node.partition("::")
            assert (file, name.partition("[")[0]) in shown, row.guard


def test_nothing_is_named_outside_of_the_lists_that_does_not_exist() -> None:
    assert list(not_there(page("engine.md"))) == []


def test_a_name_that_is_wrong_would_be_noticed() -> None:
    for wrong in ("app.sessions.ledger.Ledger.opens", "app.sessions.nothing", "ap.sessions"):
        with pytest.raises((ImportError, AttributeError)):
            found(wrong)
