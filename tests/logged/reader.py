"""Read everything that a test run logged, and find what should not be there.

Lines are read one by one, so that it takes little memory however much there is.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.logged.keeping import SECRETS

_ID_LENGTH = 43
_WORD = re.compile(r"[\w.~-]{20,}", re.ASCII)
_FORM_OF_ID = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])", re.ASCII)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@\"']*:(?!\*\*\*@)[^/\s@\"']+@")


@dataclass(frozen=True)
class Finding:
    """A line with a secret in it."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


@dataclass(frozen=True)
class Kept:
    """What one run has kept in its folder."""

    folder: Path

    def logs(self) -> list[Path]:
        return sorted(self.folder.glob("*.log"))

    def secrets(self) -> set[str]:
        """Return the ids and tokens that the run's browsers had."""
        files = self.folder.glob(f"{SECRETS}-*")
        return {line for file in files for line in file.read_text().splitlines()}

    def lines_by_kind(self) -> Counter[str]:
        """Count the lines of each kind of log."""
        lines: Counter[str] = Counter()
        for log in self.logs():
            with log.open("rb") as opened:
                lines[log.name.rsplit("-", 2)[0]] += sum(1 for _ in opened)
        return lines


def find(kept: Kept, passwords: Sequence[str]) -> Iterator[Finding]:
    """Yield every line that holds a noted secret, a password or what has the form of a session id."""
    noted = kept.secrets()
    known = re.compile("|".join(map(re.escape, passwords)))
    for log in kept.logs():
        with log.open(errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                for what in _in_line(line, noted, known):
                    yield Finding(log.name, number, what)


def _in_line(line: str, noted: set[str], known: re.Pattern[str]) -> Iterator[str]:
    if known.search(line):
        yield "a password or key of the tests"
    if _PASSWORD_IN_URL.search(line):
        yield "a password in a URL"
    for word in _WORD.findall(line):
        if not noted.isdisjoint(_parts(word)):
            yield "a session id or token that a browser had"
    if any(_looks_random(found) for found in _FORM_OF_ID.findall(line)):
        yield "something of the form of a session id"


def _parts(word: str) -> Iterator[str]:
    """Yield a word, and every piece of it that is as long as an id: one may be glued to other text."""
    yield word
    for start in range(len(word) - _ID_LENGTH + 1):
        yield word[start : start + _ID_LENGTH]


def _looks_random(text: str) -> bool:
    """Tell an id from a long name: 43 random characters without a capital are one in 10**9."""
    return text != text.lower() and text != text.upper()
