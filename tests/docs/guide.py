"""Carry out a page of instructions: its fenced blocks, on a copy of the project, as a reader would.

A block is introduced by the line above it: "New file `path`:" makes a file, "Replace `path`:" writes one
anew, "Change `path`:" has a diff. A `console` block has commands after `$` and, below each, lines that it
prints, where `…` stands for anything.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs import facts

ROOT = facts.DOCS.parent
LONGEST = 300.0
"""Seconds after which a command is ended."""

_NAMED = re.compile(r"(New file|Replace|Change) `([^`]+)`[^`]*:$")
_OURS = ("ROLLCALL_", "SESSION_", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FLASK_", "PYTEST_")
_OURS += ("MAKE", "MFLAGS", "SITE_NAME", "VENV", "VIRTUAL_ENV", "PYTHON")


class DoesNotWork(AssertionError):
    """A step that cannot be carried out as it is written, or does not do what the page says."""


@dataclass(frozen=True)
class Step:
    """One fenced block: what to do (`console`, or the words above it), on which file, and its text."""

    what: str
    path: str
    text: str


@dataclass(frozen=True)
class Section:
    """A second-level heading and the steps beneath it."""

    title: str
    steps: tuple[Step, ...]


def read(page: str) -> list[Section]:
    """Return the sections of a page that have steps. A block that says not what to do is an error."""
    if facts.blocks(f"\n{page}".partition("\n## ")[0]):
        raise DoesNotWork("a block before the first heading belongs to no section")
    read = (
        Section(part.heading, tuple(_step(block) for block in part.blocks))
        for part in facts.sections(page)
    )
    return [section for section in read if section.steps]


def _step(block: facts.Block) -> Step:
    if block.language == "console":
        return Step("console", "", block.text)
    named = _NAMED.search(block.above)
    if named is None or (named[1] == "Change") != (block.language == "diff"):
        raise DoesNotWork(f"the page does not say what to do with this block:\n{block.text}")
    return Step(named[1], named[2], block.text)


def carry_out(step: Step, folder: Path) -> None:
    """Do in the folder what a step says. Raises DoesNotWork."""
    file = folder / step.path
    match step.what:
        case "console":
            for command, expected in commands(step.text):
                _run(command, expected, folder)
        case "New file":
            if file.exists():
                raise DoesNotWork(f"{step.path} is there already")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step.text)
        case "Replace":
            if not file.exists():
                raise DoesNotWork(f"{step.path} is not there")
            file.write_text(step.text)
        case _:
            file.write_text(changed(file.read_text(), step.text, step.path))


def changed(text: str, diff: str, path: str) -> str:
    """Apply a diff: the lines of each hunk, `@@` between them, stand in the text once and in order."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines()
        if any(line[:1] not in ("", " ", "-", "+") for line in lines):
            raise DoesNotWork(f"{path}: a line begins with neither space, - nor +:\n{hunk}")
        old = "\n".join(line[1:] for line in lines if line[:1] != "+")
        new = "\n".join(line[1:] for line in lines if line[:1] != "-")
        whole = f"\n{text}"
        if not old or old == new or whole.count(f"\n{old}\n") != 1:
            raise DoesNotWork(f"{path} does not have this once, to be changed:\n{hunk}")
        text = whole.replace(f"\n{old}\n", f"\n{new}\n" if new else "\n")[1:]
    return text


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a console block, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
        else:
            raise DoesNotWork(f"a console block begins with `$ `, not with {line!r}")
        continued = line.endswith("\\")
    return found


def _run(command: str, expected: Sequence[str], folder: Path) -> None:
    """Run a command; it fails exactly if the page shows an error, and prints what the page shows."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder, env=_environment(), timeout=LONGEST, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    fails = any(line.startswith(("E ", "make: ***")) for line in expected)
    if (done.returncode != 0) is not fails:
        raise DoesNotWork(f"$ {command}\n{done.stdout}\n(exit code {done.returncode})")
    missing = not_printed(expected, done.stdout)
    if missing is not None:
        raise DoesNotWork(f"$ {command}\n{done.stdout}\ndoes not print, in its place:\n{missing}")


def not_printed(expected: Sequence[str], printed: str) -> str | None:
    """Return the first of the expected lines that is not among the printed ones, in their order."""
    left = iter(printed.splitlines())
    for line in expected:
        wanted = ".*".join(re.escape(part) for part in line.strip().split("…"))
        if not any(re.fullmatch(wanted, candidate.strip()) for candidate in left):
            return line
    return None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def copy_of_the_project(folder: Path) -> Path:
    """Copy what git knows, and what it would be told of; the environment is this one's, by a link."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            # With its time, or make would take a lock for newer than what was installed from it.
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    # What `make lint` knows from its last run here, if there was one: mypy learns it in half a minute.
    for name in (".mypy_cache", ".ruff_cache", ".import_linter_cache"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
    return folder
