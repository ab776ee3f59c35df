"""docs/template.md, carried out as it is written; and pages that are wrong, which must be noticed."""

from pathlib import Path

import pytest

from tests.docs.guide import (
    ROOT,
    DoesNotWork,
    Section,
    Step,
    carry_out,
    changed,
    copy_of_the_project,
    not_printed,
    read,
)

SECTIONS = read((ROOT / "docs" / "template.md").read_text())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy on which one section after the other is carried out."""
    return copy_of_the_project(tmp_path_factory.mktemp("template") / "copy")


@pytest.fixture(scope="module")
def done() -> list[Section]:
    """The sections that worked, in order."""
    return []


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_the_first_hour_works_as_written(section: Section, copy: Path, done: list[Section]) -> None:
    assert done == SECTIONS[: SECTIONS.index(section)], "an earlier section did not work"
    for step in section.steps:
        carry_out(step, copy)
    done.append(section)


def test_every_numbered_section_has_something_to_do() -> None:
    numbers = [section.title.partition(".")[0] for section in SECTIONS]
    assert numbers == [str(number) for number in range(1, 11)]


TEXT = "one\ntwo\n\nthree\ntwo\n"


@pytest.mark.parametrize(
    ("diff", "result"),
    [
        (" one\n+and a half\n", "one\nand a half\ntwo\n\nthree\ntwo\n"),
        ("-one\n", "two\n\nthree\ntwo\n"),
        (" one\n-two\n+2\n", "one\n2\n\nthree\ntwo\n"),
        ("-one\n+1\n@@\n-three\n", "1\ntwo\n\ntwo\n"),
        (" two\n \n+2.5\n three\n", "one\ntwo\n\n2.5\nthree\ntwo\n"),
        (" two\n\n-three\n", "one\ntwo\n\ntwo\n"),
    ],
)
def test_a_diff_changes_the_lines_that_it_shows(diff: str, result: str) -> None:
    assert changed(TEXT, diff, "a file") == result


@pytest.mark.parametrize(
    "diff",
    [
        "-four\n+4\n",  # not there
        "-two\n+2\n",  # there twice
        "-thr\n+3\n",  # half a line
        " one\n three\n+4\n",  # not beneath each other
        " one\n two\n",  # changes nothing
        "+four\n",  # says not where
        " one\n+1.5\n@@\n-one and a half\n",  # the second hunk
        "one\n+two\n",  # no diff
    ],
)
def test_a_diff_that_does_not_fit_is_noticed(diff: str) -> None:
    with pytest.raises(DoesNotWork):
        changed(TEXT, diff, "a file")


@pytest.mark.parametrize(
    "text",
    [
        "$ echo tea\nmilk\n",  # prints something else
        "$ printf 'tea\\nmilk\\n'\nmilk\ntea\n",  # in another order
        "$ false\n",  # fails, and the page does not say so
        "$ echo tea; false\ntea\n",
        "$ echo 'E   tea'\nE   tea\n",  # does not fail, and the page says so
        "$ false &&\\\n  true\n",
        "echo tea\n",  # no command
    ],
)
def test_a_command_that_does_something_else_is_noticed(tmp_path: Path, text: str) -> None:
    with pytest.raises(DoesNotWork):
        carry_out(Step("console", "", text), tmp_path)


def test_a_command_that_does_what_the_page_says_passes(tmp_path: Path) -> None:
    carry_out(Step("console", "", "$ touch tea\n$ ls; echo 'E no'; false\nt…\nE …\n"), tmp_path)
    assert (tmp_path / "tea").exists()


def test_anything_may_stand_for_the_dots_and_for_nothing_else() -> None:
    assert not_printed(["== 3 passed in … =="], "first\n== 3 passed in 1.2s ==\nlast") is None
    assert not_printed(["… 3 passed…"], "== 13 passed in 1.2s ==") == "… 3 passed…"


def test_a_new_file_that_is_there_and_an_old_one_that_is_not_are_noticed(tmp_path: Path) -> None:
    carry_out(Step("New file", "a/b.py", "tea\n"), tmp_path)
    assert (tmp_path / "a" / "b.py").read_text() == "tea\n"
    for wrong in (Step("New file", "a/b.py", ""), Step("Replace", "a/c.py", "")):
        with pytest.raises(DoesNotWork):
            carry_out(wrong, tmp_path)


@pytest.mark.parametrize(
    "page",
    [
        "## One\n\nLike this:\n\n```python\ntea\n```\n",
        "## One\n\nNew file `a.py`:\n\n```diff\n+tea\n```\n",
        "## One\n\nChange `a.py`:\n\n```python\ntea\n```\n",
        "```console\n$ true\n```\n\n## One\n",
    ],
)
def test_a_block_that_says_not_what_to_do_is_noticed(page: str) -> None:
    with pytest.raises(DoesNotWork):
        read(page)
