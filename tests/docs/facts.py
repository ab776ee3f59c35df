"""Read the pages: sections, and the code in them, which tests run as it stands."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+\.\w+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the last file named before it."""

    language: str
    text: str
    file: str
    line: int


@dataclass(frozen=True)
class Section:
    """What stands under a heading of the second level. `line` is that of the heading."""

    heading: str
    text: str
    line: int

    @property
    def blocks(self) -> list[Block]:
        return _blocks(self.text, self.line)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def sections(text: str) -> list[Section]:
    """Return the sections of a page, in order."""
    starts = list(re.finditer(r"^## (.+)$", text, re.MULTILINE))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [
        Section(start[1], text[start.end() : end], text.count("\n", 0, start.start()) + 1)
        for start, end in zip(starts, ends, strict=True)
    ]


def _blocks(text: str, line: int) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(text):
        files = _FILE.findall(text, 0, match.start())
        at = line + text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], files[-1] if files else "", at))
    return found


def applied(diff: str, text: str) -> str:
    """Return a text changed as a diff says. What a hunk changes must stand there once; `@@` begins the next."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"not there exactly once:\n{old}"
        text = text.replace(old, new)
    return text
