"""Chromium, and a real server process for it to talk to. Each test finds the site empty."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import servers
from tests.browser.people import NewContext, People, watched
from tests.browser.serving import Served, make_certificate, serve
from tests.site import copied_sqlite

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Chromium of the system, with its back-forward cache on as people have it."""
    named = os.environ.get("CHROMIUM")
    found = named or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        servers.missing("Chromium is not installed")
    return {
        **browser_type_launch_args,
        "executable_path": found,
        "args": ARGUMENTS,
        "ignore_default_args": ["--disable-back-forward-cache"],
    }


@pytest.fixture(scope="session")
def base_url() -> None:
    """Tests name whole addresses; pytest-playwright's own fixture makes pytest 9 warn."""


@pytest.fixture(scope="session")
def web(
    valkey_process: servers.RedisServer,
    sqlite_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """The site over plain HTTP, as `make run` serves it."""
    database = copied_sqlite(sqlite_template, tmp_path_factory.mktemp("web"))
    made = serve(database, valkey_process)
    yield made
    made.close()


@pytest.fixture(scope="session")
def tls_web(
    valkey_process: servers.RedisServer,
    sqlite_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """The site over TLS with the settings of production."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = make_certificate(folder)
    made = serve(copied_sqlite(sqlite_template, folder), valkey_process, certificate)
    yield made
    made.close()


@pytest.fixture
def served(web: Served) -> Served:
    """The site over plain HTTP, with the cast and nobody signed in."""
    web.reset()
    return web


@pytest.fixture
def people(new_context: NewContext, served: Served) -> Iterator[People]:
    """Whoever the test asks for, each at a browser of their own."""
    yield from watched(new_context, served.url)


@pytest.fixture
def people_over_tls(new_context: NewContext, tls_web: Served) -> Iterator[People]:
    """The same over TLS."""
    tls_web.reset()

    def accepting(**options: Any) -> Any:
        return new_context(ignore_https_errors=True, **options)

    yield from watched(accepting, tls_web.url)
