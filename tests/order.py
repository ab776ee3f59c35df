"""Which worker of a whole run takes which test files, and when. The hooks in `conftest` ask here.

A worker takes a file at a time. Files that share servers which take long to start go to one worker, as if
they were one file; the files that take longest go first, so that the workers end at about the same time.
"""

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    "tests/deploy/test_secrets.py": "tests/deploy/test_site.py",
    "tests/processes/test_updates.py": "tests/processes/test_revocation.py",
}
"""A file that is taken with another one."""

LONGEST = (
    "tests/browser/test_accessibility.py",
    "tests/deploy/test_site.py",
    "tests/processes/test_killed.py",
    "tests/processes/test_crowds.py",
    "tests/processes/test_revocation.py",
    "tests/test_make_run.py",
    "tests/docs/test_template.py",
    "tests/demo/test_make_demo.py",
    "tests/browser/test_console.py",
    "tests/browser/test_keyboard.py",
)
"""The files that take longest, as `--durations=0` tells. A new one of half a minute belongs here."""


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """The order in which the tests were collected, file by file."""

    def _split_scope(self, nodeid: str) -> str:
        file = file_of(nodeid)
        return TOGETHER.get(file, file)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def sort(items: list[pytest.Item]) -> None:
    """Bring the tests of the longest files to the front."""
    ranks = {file: rank for rank, file in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        file = file_of(item.nodeid)
        return ranks.get(TOGETHER.get(file, file), len(ranks))

    items.sort(key=rank)
