"""docs/security.md: each requirement and attack has its row, and whatever a row names exists."""

import re

import pytest

import config
from tests.docs.facts import found, named_code, named_tests, not_there, page, sections

PAGE = page("security.md")
ROWS = dict(re.findall(r"^- \*\*([SA]\d+)\*\*(.+?)(?=^- |^#|\Z)", PAGE, re.MULTILINE | re.DOTALL))
(LACKING,) = [each.text for each in sections(PAGE) if each.heading == "What is not there yet"]
each_row = pytest.mark.parametrize("number", ROWS)


def row(number: str) -> str:
    return " ".join(ROWS[number].split())


def test_every_requirement_and_every_attack_has_one_row() -> None:
    wanted = [f"S{n}" for n in range(1, 43)] + [f"A{n}" for n in range(1, 21)]
    listed = re.findall(
        r"^- \*\*([SA]\d+)\*\* ?(?:\(|:)", PAGE.partition("## The req")[2], re.MULTILINE
    )
    assert sorted(listed) == sorted(wanted)


@each_row
def test_a_row_says_what_holds_in_which_function_and_which_test_shows_it(number: str) -> None:
    said, where, shown = re.split(
        r" In (?=`app|`config|no |the t)| Shown by ", row(number), maxsplit=2
    )
    assert len(said.split()) >= 5
    assert not named_tests(said + where)
    if number not in lacking():
        assert named_tests(shown)
        assert named_code(where) or where == "the templates."
    assert list(not_there(row(number))) == []


@each_row
def test_the_settings_of_a_row_are_settings(number: str) -> None:
    named = re.findall(r"`([A-Z][A-Z_]+)`", row(number).partition(" Settings: ")[2])
    assert set(named) <= {setting.name for setting in config.SETTINGS}


def lacking() -> set[str]:
    return {number for number in ROWS if " Missing: " in row(number)}


def test_what_is_missing_is_told_in_one_place_and_in_its_row() -> None:
    assert set(re.findall(r"\*\*([SA]\d+)\*\*", LACKING)) == lacking()


def test_nothing_else_on_the_page_is_named_that_does_not_exist() -> None:
    assert list(not_there(PAGE)) == []


def test_a_test_that_does_not_exist_and_one_without_its_file_are_noticed() -> None:
    text = "`app.auth.sign_in.sign_in`; `tests/docs/test_security.py`: `test_nothing_of_the_kind`"
    assert list(not_there(text)) == ["tests/docs/test_security.py::test_nothing_of_the_kind"]
    assert found("config.load") is config.load
    with pytest.raises(AssertionError, match="without its file"):
        named_tests("`test_nothing_of_the_kind`")
