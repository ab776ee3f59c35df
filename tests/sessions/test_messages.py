"""What a signed-in request sends to PostgreSQL, as libpq itself writes it down."""

from collections.abc import Iterator

import pytest

from app import create_app
from app.sessions.stores.sql import SqlStore
from tests.servers import RedisServer
from tests.sessions.helpers import add_view, counted_on_valkey, traced
from tests.sessions.test_interface import put, take
from tests.site import Site, settings

READS = 3
UNTIL_PREPARED = 6
"""Reads after which psycopg has sent each statement for good."""


@pytest.fixture
def shelf(migrated_postgresql_url: str, valkey: RedisServer) -> Iterator[Site]:
    """A site on PostgreSQL and Valkey whose views put things into the session and take them out."""
    site = Site(create_app(settings(migrated_postgresql_url, valkey.url)))
    add_view(site, "/put/<name>/<value>", put)
    add_view(site, "/take/<name>", take)
    yield site
    site.close()


@pytest.mark.parametrize(
    ("name", "messages", "commands"), [("alice", 1, {"get": READS}), ("vera", 2, {})]
)
def test_a_signed_in_read_is_one_message_to_the_ledger_and_one_to_its_store(
    shelf: Site, valkey: RedisServer, name: str, messages: int, commands: dict[str, int]
) -> None:
    browser = shelf.signed_in(name)
    browser.get("/put/fruit/pear")
    for _ in range(UNTIL_PREPARED):
        browser.get("/take/fruit")
    store = shelf.system.stores["sql"]
    assert isinstance(store, SqlStore)
    with (
        counted_on_valkey(valkey) as asked,
        traced([shelf.system.ledger.engine, store._engine]) as lines,
    ):
        for _ in range(READS):
            assert browser.get("/take/fruit").text == "pear"
    assert sum("\tReadyForQuery\t" in line for line in lines) == messages * READS
    assert asked == commands
