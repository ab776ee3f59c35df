"""Alembic's environment: the application's engine, its models, and the SQL store's own table."""

from alembic import context
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


def _run() -> None:
    with db.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=_metadata(),
            compare_type=True,
            render_as_batch=connection.dialect.name == "sqlite",
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


if context.is_offline_mode():
    raise SystemExit("Migrations need a database to run on: leave --sql out.")
_run()
