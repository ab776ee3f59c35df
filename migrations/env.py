"""Alembic's environment: the application's engine, its models, and the SQL store's own table."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import DropTableOp, MigrationScript, ModifyTableOps
from click import echo
from flask import current_app
from sqlalchemy import MetaData

from app.audit import models as _audit
from app.extensions import Base, db
from app.people import models as _people
from app.sessions import models as _sessions
from app.sessions.stores.sql import payload_table

_ = (_audit, _people, _sessions)


def _metadata() -> list[MetaData]:
    store = MetaData(naming_convention=Base.metadata.naming_convention)
    payload_table(current_app.config["SESSION_SQLALCHEMY_TABLE"], store)
    return [Base.metadata, store]


def _rendered(kind: str, value: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Write a column type of ours with its import; Alembic knows how to write the others."""
    if kind != "type" or type(value).__module__ != "app.columns":
        return False
    autogenerate.imports.add(f"from app.columns import {type(value).__name__}")
    return repr(value)


def _review(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
    """Write no migration when the models say what the database has, and none that MariaDB refuses.

    It keeps an index that a foreign key needs: where a table goes, its indexes go with it.
    """
    upgrade, downgrade = scripts[0].upgrade_ops, scripts[0].downgrade_ops
    if upgrade is not None and upgrade.is_empty():
        scripts.clear()
        echo("The models have not changed: there is nothing to migrate.")
        return
    for operations in (upgrade, downgrade):
        if operations is not None:
            dropped = {op.table_name for op in operations.ops if isinstance(op, DropTableOp)}
            operations.ops = [
                op
                for op in operations.ops
                if not (isinstance(op, ModifyTableOps) and op.table_name in dropped)
            ]


def _run() -> None:
    with db.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=_metadata(),
            compare_type=True,
            include_object=lambda item, *_: _sessions.is_on(item, connection.dialect.name),
            render_as_batch=connection.dialect.name == "sqlite",
            transaction_per_migration=True,
            render_item=_rendered,
            process_revision_directives=_review,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


if context.is_offline_mode():
    raise SystemExit("Migrations need a database to run on: leave --sql out.")
_run()
