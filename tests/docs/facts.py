"""Read a page: its sections, the code in them, which the tests run as it stands, and what it names."""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_NAME = re.compile(r"`((?:app|config)(?:\.\w+)+)`")
_TESTS = re.compile(r"`(tests/[\w/]+\.py)`:\s((?:\s*`test_\w+`,?)+)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, what stands above it, and how many lines that is of the page."""

    language: str
    text: str
    above: str
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
        Section(start[1], text[start.end() : end], blocks(text, start.end(), end))
        for start, end in zip(starts, ends, strict=True)
    ]


def named_code(text: str) -> list[str]:
    """Return the dotted names of our code that a text has."""
    return [name for name in _NAME.findall(text) if not name.endswith(".py")]


def named_tests(text: str) -> list[tuple[str, str]]:
    """Return file and name of each test that a text names. A test without its file is an error."""
    found = [
        (file, name)
        for file, names in _TESTS.findall(text)
        for name in re.findall(r"`(test_\w+)`", names)
    ]
    assert len(found) == len(re.findall(r"`test_\w+`", text)), f"a test without its file:\n{text}"
    return found


def not_there(text: str) -> Iterator[str]:
    """Yield what a text names and the code does not have: functions, tests, files, linked pages."""
    for name in named_code(text):
        value = found(name)
        if not callable(value) and not isinstance(value, property):
            yield name
    for file, name in named_tests(text):
        if name not in _defined_in(DOCS.parent / file):
            yield f"{file}::{name}"
    for file in re.findall(r"`((?:app|tests|deploy)/[\w/.-]+)`", text):
        if not (DOCS.parent / file).exists():
            yield file
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        if not (DOCS / link).is_file():
            yield link


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
def _defined_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


def blocks(text: str, start: int = 0, end: int | None = None) -> tuple[Block, ...]:
    """Return the blocks of a page, or of a part of it, in order."""
    return tuple(
        Block(
            found[1],
            found[2],
            text[start : found.start()].rstrip(),
            text.count("\n", 0, found.start(2)),
        )
        for found in _BLOCK.finditer(text, start, len(text) if end is None else end)
    )
