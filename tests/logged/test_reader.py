"""The reader of a run's logs finds what is planted in them."""

from pathlib import Path

import pytest

from app.sessions.handles import new_reference, new_session_id
from tests.logged import keeping
from tests.logged.reader import Kept, find
from tests.site import PASSWORD, Site

NOTED = new_session_id()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv(keeping.FOLDER, str(tmp_path))
    return Kept(tmp_path)


def found(kept: Kept) -> list[str]:
    return [finding.what for finding in find(kept, [PASSWORD])]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"GET / cookie session={new_session_id()}; theme=dark", "of the form of a session id"),
        (f'{{"event": "seen {new_session_id()}"}}', "of the form of a session id"),
        (f"glued-to-other-text-{NOTED}-on-both-sides", "that a browser had"),
        ("token IjQ1NjQ1NiI.aR8-Yw.signature-of-a-form refused", "that a browser had"),
        (f"sign-in failed for alice with {PASSWORD}", "password or key"),
        ("connecting to redis://me:sesame@host/0", "password in a URL"),
        ("postgresql://rollcall:p-w_d@127.0.0.1:5432/x", "password in a URL"),
    ],
    ids=["cookie", "json", "glued", "token", "password", "redis", "postgresql"],
)
def test_a_secret_in_any_log_is_found(kept: Kept, line: str, what: str) -> None:
    keeping.note(NOTED)
    keeping.note("IjQ1NjQ1NiI.aR8-Yw.signature-of-a-form")
    keeping.keep("one harmless line\n", "server")
    keeping.keep(f"a first line\n{line}\nanother\n", "server")
    assert any(what in each for each in found(kept))
    assert {finding.line for finding in find(kept, [PASSWORD])} == {2}


@pytest.mark.parametrize(
    "line",
    [
        f'{{"session": "{new_reference()}", "request": "0f1d2c3b-aaaa-bbbb-cccc-0123456789ab"}}',
        "connecting to redis://me:***@host/0, or http://127.0.0.1:8000/x@y",
        f"in {'test_of_a_name_that_happens_to_be_so_long'.ljust(43, 'x')}",
        "sha256 " + "0123456789abcdef" * 4,
    ],
    ids=["reference", "urls", "long_name", "digest"],
)
def test_what_is_no_secret_is_let_be(kept: Kept, line: str) -> None:
    keeping.keep(f"{line}\n", "server")
    assert found(kept) == []


def test_lines_are_counted_by_what_wrote_them(kept: Kept, tmp_path: Path) -> None:
    keeping.keep("one\ntwo\n", "deployed-web")
    keeping.keep("three\n", "deployed-web")
    log = tmp_path / "server"
    keeping.place(log, "Server")
    keeping.place(log, "Server")
    log.write_text("four\n")
    assert kept.lines_by_kind() == {"deployed-web": 3, "Server": 1}


def test_what_applications_of_this_process_log_is_kept_as_rendered(site: Site, kept: Kept) -> None:
    secret = new_session_id()
    with keeping.own_lines():
        site.app.logger.warning("said with %s", secret)
    site.app.logger.warning("said later")
    (log,) = kept.logs()
    assert "said with ***" in log.read_text()
    assert "said later" not in log.read_text()


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keeping.FOLDER, raising=False)
    log = tmp_path / "log"
    keeping.place(log, "Server")
    keeping.keep("text", "Server")
    keeping.note("secret")
    assert not log.is_symlink()
    assert list(tmp_path.iterdir()) == []
