"""The README says the same in three languages: sections, commands, links and names agree."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("README.md", "README.zh-Hant.md", "README.zh-Hans.md")
# Words that one of the two scripts has and the other writes differently.
TRADITIONAL, SIMPLIFIED = "這個應與讓開會話過說嗎", "这个应与让开会话过说吗"

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    return (ROOT / name).read_text()


def prose(name: str) -> str:
    return _FENCE.sub("", text(name))


def headings(name: str) -> list[str]:
    return re.findall(r"^(#+) \S", prose(name), re.MULTILINE)


def links(name: str) -> list[str]:
    found = re.findall(r"\]\(([^)]+)\)", prose(name))
    return [link for link in found if link not in NAMES]


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_translation_has_the_same_sections_in_the_same_order(name: str) -> None:
    assert headings(name) == headings("README.md")
    assert text(name).startswith("# Rollcall\n")


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_translation_has_the_same_commands(name: str) -> None:
    assert _FENCE.findall(text(name)) == _FENCE.findall(text("README.md"))


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_translation_has_the_same_links_and_names(name: str) -> None:
    assert links(name) == links("README.md")
    in_code = re.compile(r"`[^`\n]+`")
    assert in_code.findall(prose(name)) == in_code.findall(prose("README.md"))


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_translation_has_the_same_paragraphs_lists_and_tables(name: str) -> None:
    """A paragraph that was added in one language is missing in the others."""

    def shape(page: str) -> list[str]:
        blocks = re.split(r"\n{2,}", text(page).strip())
        return [mark[0] if (mark := re.match(r"#|\||!|-|```", block)) else "" for block in blocks]

    assert shape(name) == shape("README.md")
    rows = re.compile(r"^(?:[-|] ?)", re.MULTILINE)
    assert len(rows.findall(text(name))) == len(rows.findall(text("README.md")))


def test_every_page_of_the_docs_is_found_from_the_readme() -> None:
    pages = {f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")}
    assert pages <= set(links("README.md"))


@pytest.mark.parametrize("name", NAMES)
def test_each_names_the_two_others_at_its_top(name: str) -> None:
    top = text(name).splitlines()[2]
    assert re.findall(r"\(([^)]+)\)", top) == [other for other in NAMES if other != name]


def test_each_translation_keeps_to_its_script() -> None:
    differing = {t: s for t, s in zip(TRADITIONAL, SIMPLIFIED, strict=True) if t != s}
    assert len(differing) > 8
    below = {name: "\n".join(prose(name).splitlines()[3:]) for name in NAMES}
    assert not set(below["README.zh-Hant.md"]) & set(differing.values())
    assert not set(below["README.zh-Hans.md"]) & set(differing)
