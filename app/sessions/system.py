"""The parts of the session layer that belong together, one set for an application: `system`.

`create_app` builds it from the settings; everything inside `app.sessions` reaches ledger, stores and
policy through it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from app.people.models import Role
from app.sessions.ledger import Ledger
from app.sessions.payload import PayloadCodec
from app.sessions.stores import Stores
from app.sessions.stores.configured import Limits, configured
from app.sessions.stores.engines import database_url, engine_options, sql_engine
from app.sessions.timeouts import LimitPolicy, Policy, RolePolicy
from app.sessions.wsgi import Deadline

_KEY = "rollcall"
_POOL = 5
_SHARE = 0.9
"""The share of a request's deadline after which the server itself ends a statement."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long ended sessions and the trail's events are kept."""

    sessions: timedelta
    events: timedelta


@dataclass(frozen=True, slots=True)
class SessionSystem:
    """What the session layer of one application is made of."""

    ledger: Ledger
    stores: Stores
    policy: Policy
    codec: PayloadCodec
    carry_over: tuple[str, ...]
    keep: Keep

    def close(self) -> None:
        """Close all connections."""
        self.stores.close()
        self.ledger.engine.dispose()


def init_app(app: Flask) -> None:
    """Build the session layer that the settings describe, and make `system` answer for it.

    Nothing is connected yet. Whoever makes many applications in one process closes them: `close()`.
    """
    settings = app.config
    url, deadline = settings["DATABASE_URL"], settings["REQUEST_DEADLINE"]
    limits: Limits = {"pool_size": _POOL, "statement_timeout": _SHARE * deadline}
    app.extensions[_KEY] = SessionSystem(
        ledger=Ledger(sql_engine(url, **limits)),
        stores=configured(settings, limits),
        policy=policy_from(settings),
        codec=PayloadCodec(settings["SESSION_SERIALIZATION_FORMAT"], settings["SESSION_MAX_BYTES"]),
        carry_over=tuple(settings["SESSION_CARRY_OVER"]),
        keep=Keep(
            timedelta(days=settings["SESSION_HISTORY_DAYS"]),
            timedelta(days=settings["AUDIT_RETENTION_DAYS"]),
        ),
    )
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url(url)
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(url, **limits)
    app.wsgi_app = Deadline(app.wsgi_app, deadline)  # type: ignore[method-assign]


system = cast(SessionSystem, LocalProxy(lambda: current_app.extensions[_KEY]))


def system_of(app: Flask) -> SessionSystem:
    """Return an application's session system, outside a context too."""
    return cast(SessionSystem, app.extensions[_KEY])


def policy_from(settings: Mapping[str, Any]) -> Policy:
    """Return the policy that the settings describe."""

    def value(name: str, role: str) -> Any:
        return settings[f"{name}_BY_ROLE"][role]

    return Policy(
        by_role={
            role: RolePolicy(
                idle=timedelta(seconds=value("SESSION_IDLE_TIMEOUT", role)),
                absolute=timedelta(seconds=value("SESSION_ABSOLUTE_TIMEOUT", role)),
                limit=value("SESSION_LIMIT", role),
                at_limit=LimitPolicy(value("SESSION_LIMIT_POLICY", role)),
                store=value("SESSION_STORE", role),
            )
            for role in Role
        },
        touch_interval=timedelta(seconds=settings["SESSION_TOUCH_INTERVAL"]),
    )
