"""The migrations make what the models say, and take it back, on each database."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask_migrate import downgrade, upgrade
from sqlalchemy import MetaData, inspect, select

from app import create_app
from app.audit.trail import Actor
from app.extensions import Base, db
from app.sessions.freeze import Targets, freeze
from app.sessions.models import Cutoff, PendingPurge, Revocation, RevocationTarget, is_on
from app.sessions.revocation import revoke
from app.sessions.stores.sql import payload_table
from tests.sessions.test_revocation import commanding, start
from tests.site import Site, settings


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def empty(request: pytest.FixtureRequest) -> Iterator[Callable[..., Site]]:
    """Make sites over one empty database."""
    url = request.getfixturevalue(f"{request.param}_url")
    made: list[Site] = []

    def make(**overrides: object) -> Site:
        made.append(Site(create_app(settings(url, None, **overrides))))
        return made[-1]

    yield make
    for site in made:
        site.close()


def tables(site: Site) -> set[str]:
    return set(inspect(site.system.ledger.engine).get_table_names())


def differences(site: Site) -> list[Any]:
    """Return what autogenerate would write."""
    store = MetaData(naming_convention=Base.metadata.naming_convention)
    payload_table(site.app.config["SESSION_SQLALCHEMY_TABLE"], store)
    with site.app.app_context(), db.engine.connect() as connection:
        here = connection.dialect.name
        only = {"include_object": lambda item, *_: is_on(item, here)}
        context = MigrationContext.configure(connection, opts={"compare_type": True, **only})
        return list(compare_metadata(context, [Base.metadata, store]))  # type: ignore[arg-type]


def test_autogenerate_finds_nothing_to_add(empty: Callable[..., Site]) -> None:
    site = empty()
    with site.app.app_context():
        upgrade()
    assert differences(site) == []


def test_up_down_and_up_again_leaves_what_the_first_made(empty: Callable[..., Site]) -> None:
    site = empty()
    with site.app.app_context():
        upgrade()
        made = tables(site)
        downgrade(revision="base")
        assert tables(site) <= {"alembic_version"}
        upgrade()
    assert tables(site) == made
    assert {"users", "user_sessions", "audit_events", "session_payloads"} <= made


def test_going_back_and_up_again_keeps_revocations_and_waiting_purges(any_site: Site) -> None:
    """Sessions, the cutoff and the trail name revocations; what is not deleted yet has to be."""
    actor = Actor.cli("root")
    (alice, _bob) = start(any_site, "alice", "bob")
    with commanding(any_site):
        revoke([alice], actor=actor, reason="other")
        revoke(freeze(Targets(everyone=True), actor=actor), actor=actor, reason="incident")
    with any_site.system.ledger.transaction() as tx:
        tx.purge_again([any_site.rows()[0].id])
    of = (Revocation, RevocationTarget, Cutoff, PendingPurge)
    kept = [select(table.__table__) for table in of]
    before = [any_site.system.ledger.read(each) for each in kept]
    with any_site.app.app_context():
        downgrade(revision="0001")
        upgrade()
    revocations, *others = [any_site.system.ledger.read(each) for each in kept]
    assert [(row.id, row.size, row.finished_at) for row in revocations] == [
        (row.id, row.size, row.finished_at) for row in before[0]
    ]
    assert others == before[1:]
    assert len(others[-1]) == 1
    assert differences(any_site) == []


def test_a_renamed_table_of_payloads_is_made_under_its_name(empty: Callable[..., Site]) -> None:
    site = empty(SESSION_SQLALCHEMY_TABLE="our_sessions")
    with site.app.app_context():
        upgrade()
    assert "our_sessions" in tables(site)
    assert "session_payloads" not in tables(site)
    assert differences(site) == []
    with site.app.app_context():
        downgrade(revision="base")
    assert "our_sessions" not in tables(site)


def test_upgrading_twice_changes_nothing(empty: Callable[..., Site]) -> None:
    site = empty()
    with site.app.app_context():
        upgrade()
        upgrade()
    assert differences(site) == []


def test_starting_an_application_makes_no_table(empty: Callable[..., Site]) -> None:
    site = empty()
    site.app.test_client().get("/healthz")
    assert tables(site) == set()


def test_migrating_leaves_the_loggers_of_others_alone(empty: Callable[..., Site]) -> None:
    logger = logging.getLogger("somebody")
    with empty().app.app_context():
        upgrade()
    assert not logger.disabled
