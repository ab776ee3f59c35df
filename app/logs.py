"""Logging: one line per event on stderr, as JSON in production and readable in development.

`create_app` calls `init_app` first. Modules log through `logging.getLogger(__name__)` or structlog alike.
"""

import logging
import re
import sys

import structlog
from flask import Flask, has_request_context, request
from flask.globals import request_ctx
from flask.logging import wsgi_errors_stream
from structlog.typing import EventDict, Processor, WrappedLogger

from app.sessions.ledger import REQUEST_ID
from app.sessions.stores.engines import BudgetPool

log = logging.getLogger(__name__)

# The form of a session id, and the password in a server's URL: nobody means to log one (invariant 5).
_SESSION_ID = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])", re.ASCII)
# SQLAlchemy logs about every pool under its class's name, which here is ours.
_POOL = f"{BudgetPool.__module__}.{BudgetPool.__name__}"
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Ours, by its type: with many applications in one process the last one's replaces it."""


def init_app(app: Flask) -> None:
    """Send our log and the warnings of libraries to stderr, in the form and from the level of the settings."""
    development = app.config["ROLLCALL_ENV"] == "development"
    level = app.config["LOG_LEVEL"]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_request,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    # Flask's stream: stderr as it is now, or what the server offers.
    handler = _Handler(wsgi_errors_stream)
    handler.setLevel(level)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # The traceback as text, without the frames' variables.
                structlog.processors.format_exc_info,
                hide_secrets,
                _renderer(development),
            ],
        )
    )
    root.addHandler(handler)
    logging.getLogger("app").setLevel(level)
    logging.getLogger(_POOL).setLevel(logging.WARNING)
    for name, meant in app.config["ROLLCALL_UNKNOWN"].items():
        log.warning("setting_unknown name=%s nearest=%s", name, meant)


def _renderer(development: bool) -> Processor:
    if development:
        return structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=False)


def add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name the request, and its session by the reference if somebody has asked for it already."""
    if not has_request_context():
        return event
    if request_id := request.environ.get(REQUEST_ID):
        event["request"] = request_id
    # Not `session.principal`, nor the `session` proxy: the one asks the ledger, the other sends Vary.
    principal = getattr(request_ctx._session, "_principal", None)
    if principal is not None:
        event["session"] = principal.reference
    return event


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take out what has the form of a session id or of a password in a URL, wherever it came from."""
    return {key: _hidden(value) for key, value in event.items()}


def _hidden(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _PASSWORD.sub(r"\1***@", _SESSION_ID.sub("***", value))
