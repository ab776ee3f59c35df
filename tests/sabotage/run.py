"""Run the sabotages: copy the project, take one guard away, and see its test fail.

`python -m tests.sabotage` calls `main`. Two copies are worked on at a time.
"""

import argparse
import compileall
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue

from tests.sabotage.table import TABLE, Sabotage

ROOT = Path(__file__).resolve().parents[2]
COPIES = 2
CHECKED_HASH = PycInvalidationMode.CHECKED_HASH
LONGEST = 180.0
"""Seconds after which a test run is ended: a guard that is gone may leave a test waiting."""

_OURS = ("ROLLCALL_", "SESSION_", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FLASK_", "PYTEST_")
_FAILED = re.compile(r"^FAILED \S*::(.+?)(?: - |$)", re.MULTILINE)


class DoesNotFit(Exception):
    """A patch whose old text is not in its file exactly once."""


@dataclass(frozen=True)
class Outcome:
    """What became of one sabotage: `caught_by` names the test that failed."""

    sabotage: Sabotage
    caught_by: str
    seconds: float
    skipped: bool = False
    printed: str = ""


def main() -> int:
    """Run the table, or the invariants that are named; return 0 if every sabotage was noticed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sabotage", description="Take each guard away and see its test fail."
    )
    parser.add_argument("invariant", nargs="*", type=int, help="only these; all by default")
    wanted = set(parser.parse_args().invariant)
    chosen = [sabotage for sabotage in TABLE if not wanted or sabotage.invariant in wanted]
    if not chosen:
        parser.error("there is no sabotage of that invariant")
    with copies() as folders:
        began = time.monotonic()
        nodes = sorted({node for sabotage in chosen for node in sabotage.tests})
        code, printed = run_tests(folders[0], nodes, "-n", str(COPIES), "--dist", "loadfile")
        if code != 0:
            print(printed)
            print("The tests do not pass on the unpatched project, so nothing can be said.")
            return 1
        print(f"{len(nodes)} tests pass unpatched ({time.monotonic() - began:.0f} s)\n")
        outcomes = all_outcomes(folders, chosen)
    return report(outcomes)


def all_outcomes(folders: list[Path], chosen: list[Sabotage]) -> list[Outcome]:
    free: SimpleQueue[Path] = SimpleQueue()
    for folder in folders:
        free.put(folder)

    def one(sabotage: Sabotage) -> Outcome:
        folder = free.get()
        try:
            return attempt(folder, sabotage)
        finally:
            free.put(folder)

    with ThreadPoolExecutor(len(folders)) as pool:
        return list(pool.map(one, chosen))


def attempt(folder: Path, sabotage: Sabotage) -> Outcome:
    """Patch a copy, run the tests that must notice, and put the copy right again."""
    began = time.monotonic()
    with patched(folder / sabotage.file, sabotage):
        code, printed = run_tests(folder, list(sabotage.tests))
    failed = _FAILED.findall(printed)
    # 1 is a failed test. 2, 4 and 5 are a run that came to no test: nobody noticed anything.
    caught = failed[0] if code == 1 and failed else ""
    skipped = code == 0 and " passed" not in printed
    return Outcome(sabotage, caught, time.monotonic() - began, skipped, printed)


@contextmanager
def patched(file: Path, sabotage: Sabotage) -> Iterator[None]:
    """Hold a file patched for the block. Raises DoesNotFit."""
    text = file.read_text()
    if text.count(sabotage.old) != 1:
        raise DoesNotFit(f"{sabotage.file} has not exactly one {sabotage.old!r}")
    file.write_text(text.replace(sabotage.old, sabotage.new))
    try:
        yield
    finally:
        file.write_text(text)


def run_tests(folder: Path, nodes: list[str], *options: str, stop: bool = True) -> tuple[int, str]:
    """Run tests in a copy, until one fails if told to `stop`; return the exit code and what was printed."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    # Nothing is compiled for later runs but what `copies` compiled, which is known by its text's hash: a
    # patched file may have the size and second of the one that was compiled before.
    environ |= {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=short"]
    without = ["-p", "no:cacheprovider", "-p", "no:playwright"]
    first = ["-x"] if stop else []
    process = subprocess.Popen(
        [*command, *without, *first, *options, *nodes],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        printed, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.terminate()
        printed, _ = process.communicate()
        return 2, f"{printed}\nended after {LONGEST:.0f} s"
    return process.returncode, printed


@contextmanager
def copies() -> Iterator[list[Path]]:
    """Copy what git knows, and what it would be told of, into folders that go with the block."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    with tempfile.TemporaryDirectory(prefix="rollcall-sabotage-") as temporary:
        folders = [Path(temporary, str(number)) for number in range(COPIES)]
        for folder in folders:
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
            compileall.compile_dir(folder / "app", quiet=1, invalidation_mode=CHECKED_HASH)
        yield folders


def report(outcomes: list[Outcome]) -> int:
    """Print the table and what those printed that nobody caught; return the exit code."""
    wide = max(len(outcome.sabotage.guard) for outcome in outcomes)
    print(f"{'invariant':>9}  {'guard':<{wide}}  {'seconds':>7}  caught by")
    for outcome in outcomes:
        said = outcome.caught_by or ("- (skipped: a server is missing)" * outcome.skipped)
        print(
            f"{outcome.sabotage.invariant:>9}  {outcome.sabotage.guard:<{wide}}"
            f"  {outcome.seconds:>7.1f}  {said or 'NOBODY'}"
        )
    failed = [each for each in outcomes if not each.caught_by and not each.skipped]
    for outcome in failed:
        print(f"\nNobody noticed: {outcome.sabotage.guard}\n{outcome.printed[-3000:]}")
    passed = sum(bool(each.caught_by) for each in outcomes)
    skipped = sum(each.skipped for each in outcomes)
    print(f"\n{passed} passed, {len(failed)} failed" + (f", {skipped} skipped" * bool(skipped)))
    return 1 if failed else 0
