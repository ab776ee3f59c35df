"""The session layer keeps to itself (invariant 12): it neither commits nor waits for the application's work.

`sign_in`, `changes` and `revocation` write on a connection of their own. Work that the application has
not committed yet would be left behind, or on SQLite block them, so they refuse to start beside it.
"""

import re
from typing import Any

from flask import Flask
from sqlalchemy import Connection, Engine, event

from app.extensions import db

_WROTE = "rollcall_wrote"
_READING = ("SELECT", "PRAGMA", "SHOW", "EXPLAIN", "VALUES", "SAVEPOINT", "RELEASE", "ROLLBACK")
_WRITING = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE)


class UncommittedWork(RuntimeError):
    """`db.session` holds writes that this call would neither commit nor see."""


def refuse_uncommitted(call: str) -> None:
    """Raise UncommittedWork if `db.session` has written or will write, bulk statements included."""
    if not db.session.registry.has():
        return
    session = db.session()
    wrote = bool(session.new or session.dirty or session.deleted)
    if not wrote and session.in_transaction():
        wrote = bool(session.connection().info.get(_WROTE))
    if wrote:
        raise UncommittedWork(
            f"db.session has writes that are not committed: call db.session.commit() or rollback()"
            f" before {call}()"
        )


def release_application() -> None:
    """Roll back what the application has not committed, as its teardown would: its locks would hold ours up."""
    if db.session.registry.has():
        db.session.rollback()


def init_app(app: Flask) -> None:
    """Watch the application's engine for writes that are not committed."""
    with app.app_context():
        _watch(db.engine)


def _watch(engine: Engine) -> None:
    """Note on each connection of the application's engine whether it has written since its last commit."""

    @event.listens_for(engine, "before_cursor_execute")
    def wrote(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if _writes(statement.lstrip()):
            connection.info[_WROTE] = True

    @event.listens_for(engine, "commit")
    @event.listens_for(engine, "rollback")
    def settled(connection: Connection) -> None:
        connection.info.pop(_WROTE, None)


def _writes(statement: str) -> bool:
    if statement[:4].upper() == "WITH":
        return _WRITING.search(statement) is not None
    return not statement.upper().startswith(_READING)
