"""Visitors cost nothing (invariant 6): 10,000 requests without a session cookie, over HTTP."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from sqlalchemy import inspect, text

from app import create_app
from tests.processes.barrier import PATIENCE
from tests.processes.conftest import DATABASES, serving, settings_for
from tests.processes.web import Web
from tests.servers import RedisServer
from tests.site import Site

REQUESTS = 10_000
THREADS = 4
PAGES = {
    "/": 200,
    "/login": 200,
    "/login?next=/admin/": 200,
    "/account/sessions": 303,
    "/account/password": 303,
    "/account/sessions?format=json": 401,
    "/t/who": 200,
    "/healthz": 200,
    "/no-such-page": 404,
    "/static/css/tokens.css": 200,
}


def visit(web: Web, times: int) -> Counter[tuple[str, int]]:
    """Ask for the pages in turn over one connection, without any cookie; count answers and cookies."""
    came: Counter[tuple[str, int]] = Counter()
    connection = HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
    pages = list(PAGES)
    for number in range(times):
        path = pages[number % len(pages)]
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        came[path, response.status] += 1
        came["cookies", len(response.headers.get_all("Set-Cookie") or [])] += 1
    connection.close()
    return came


def held(site: Site, valkey: RedisServer) -> dict[str, int]:
    """Count the rows of every table, and the keys in Redis but for the throttle's counters."""
    tables = inspect(site.system.ledger.engine).get_table_names()
    rows = {
        name: int(site.system.ledger.read(text(f'SELECT count(*) FROM "{name}"'))[0][0])
        for name in tables
    }
    with valkey.client() as client:
        keys = [key for key in client.scan_iter() if not key.startswith(b"rollcall:throttle")]
        return rows | {"redis": len(keys)}


@pytest.mark.parametrize("database", DATABASES)
def test_ten_thousand_visits_leave_stores_and_ledger_as_they_were(
    database: str, new_url: Callable[[str], str], valkey: RedisServer
) -> None:
    settings = settings_for(new_url(database), valkey.url)
    site = Site(create_app(settings))
    site.signed_in("alice")
    site.signed_in("ops")
    before = held(site, valkey)
    with serving("tests.processes.served", settings) as (webs, _):
        with ThreadPoolExecutor(THREADS) as pool:
            each = [
                pool.submit(visit, webs[number % 2], REQUESTS // THREADS)
                for number in range(THREADS)
            ]
            came = sum((one.result() for one in each), Counter[tuple[str, int]]())
    share = REQUESTS // len(PAGES)
    assert came == {("cookies", 0): REQUESTS} | dict.fromkeys(PAGES.items(), share)
    assert held(site, valkey) == before
    site.close()
