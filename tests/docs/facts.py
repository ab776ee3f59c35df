"""Read a page of facts: its sections, and the code in them, which the tests run as it stands."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and how many lines of the page stand before it."""

    language: str
    text: str
    lines_before: int


@dataclass(frozen=True)
class Section:
    """What stands under a heading of the second level."""

    heading: str
    text: str
    blocks: tuple[Block, ...]


def page(name: str) -> str:
    return (DOCS / name).read_text()


def sections(text: str) -> list[Section]:
    """Return the sections of a page, in order."""
    starts = list(_HEADING.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [
        Section(start[1], text[start.end() : end], tuple(_blocks(text, start.end(), end)))
        for start, end in zip(starts, ends, strict=True)
    ]


def _blocks(text: str, start: int, end: int) -> list[Block]:
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)))
        for found in _BLOCK.finditer(text, start, end)
    ]
