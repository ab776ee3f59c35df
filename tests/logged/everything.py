"""The last step of `make test`: nothing that the whole run logged holds a secret (invariant 5).

pytest does not find this file by its name: it says something about a whole run, so the Makefile names it.
"""

import os
from pathlib import Path

from tests.logged.keeping import FOLDER
from tests.logged.reader import Kept, find
from tests.site import PASSWORD, SECRET
from tests.test_make_run import GIVEN
from tests.test_metrics import TOKEN

PASSWORDS = (PASSWORD, SECRET, GIVEN, TOKEN, "hunter2")
ALWAYS = {"application", "RedisServer", "Run", "Web"}
WITH_ALL_SERVERS = ALWAYS | {
    "PostgresServer",
    "WebServer",
    *(f"deployed-{name}" for name in ("proxy", "web", "worker", "valkey", "database")),
}


def kept() -> Kept:
    return Kept(Path(os.environ[FOLDER]))


def test_the_run_logged_what_a_whole_run_logs():
    """Otherwise the search below would find nothing in next to nothing."""
    lines = kept().lines_by_kind()
    everywhere = os.environ.get("REQUIRE_ALL_SERVERS") == "1"
    missing = (WITH_ALL_SERVERS if everywhere else ALWAYS) - {kind for kind in lines if lines[kind]}
    assert not missing
    assert lines["application"] > 1000
    assert sum(lines.values()) > 2000
    assert len(kept().secrets()) > 500


def test_no_session_id_token_or_password_was_logged():
    found = [str(finding) for finding in find(kept(), PASSWORDS)]
    assert not found, "\n".join(found[:50])
