"""One deployment for all tests of this package; what its services printed is shown on failure."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy import plain
from tests.deploy.plain import Plain
from tests.site import PASSWORD

_running: list[Plain] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed:
        for site in _running:
            for service in site.services.values():
                report.sections.append((service.name, service.printed[-3000:]))
    return report


@pytest.fixture(scope="session")
def deployment() -> Iterator[Plain]:
    """The whole site as plain processes, with alice and bob (members) and ada (admin)."""
    for site in plain.running():
        _running.append(site)
        for name, role in (("alice", "member"), ("bob", "member"), ("ada", "admin")):
            site.flask("users", "create", name, "--role", role, "--password-stdin", text=PASSWORD)
        yield site
        _running.remove(site)
