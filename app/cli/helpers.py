"""What the commands share: who runs them, and errors as one readable line."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

from click import ClickException
from flask import current_app
from flask_babel import force_locale

from app.audit.trail import Actor
from app.auth.changes import ChangeRefused
from app.sessions.freeze import NothingToRevoke, NotPermitted
from app.sessions.revocation import Stale
from app.sessions.store import StoreUnavailable


def operator() -> Actor:
    """Return who runs the command: the operating system's user."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return Actor.cli(name)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Run in a request-like context, and turn refusals into a message and exit code 1."""
    try:
        with current_app.test_request_context(), force_locale("en"):
            yield
    except ChangeRefused as error:
        raise ClickException(error.message) from None
    except (NothingToRevoke, NotPermitted, Stale) as error:
        raise ClickException(str(error)) from None
    except StoreUnavailable as error:
        raise ClickException(f"{error}. Nothing else is known; try again.") from None
