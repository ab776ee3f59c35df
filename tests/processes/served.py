"""The application as the tests of processes serve it: with views that stop where a test wants them.

gunicorn loads `create_app()`. Settings and the barrier's port come in the environment, as JSON.
"""

import json
import os
from collections.abc import Iterator

from flask import Blueprint, Flask, Response, request, stream_with_context
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select

from app import create_app as create_rollcall
from app.auth.access import public, requires
from app.auth.sign_in import Verified, sign_in
from app.people.models import Permission, User
from app.sessions.interface import session
from app.sessions.system import system
from tests.processes.barrier import wait_at

SETTINGS = "SERVED_SETTINGS"
BARRIER = "SERVED_BARRIER"

views = Blueprint("served", __name__, url_prefix="/t")


def create_app() -> Flask:
    """Return Rollcall with the tests' views."""
    app = create_rollcall(json.loads(os.environ[SETTINGS]))
    app.register_blueprint(views)
    return app


def verified(name: str) -> Verified:
    """Return a user as a right password would: Argon2 would take the tests minutes."""
    columns = (User.id, User.name, User.role, User.password_hash)
    (row,) = system.ledger.read(select(*columns).where(User.name_key == name))
    return Verified(*row)


def wait() -> None:
    """Stand at the barrier if the request names a door."""
    if door := request.args.get("door"):
        wait_at(int(os.environ[BARRIER]), door)


@views.get("/enter/<name>")
@public
def enter(name: str) -> ResponseReturnValue:
    return {"reference": sign_in(verified(name)).reference}


@views.get("/who")
@public
def who() -> ResponseReturnValue:
    """Answer who asks, and what their session holds."""
    if not current_user.is_authenticated:
        return {"name": None}
    data = {key: value for key, value in dict(session).items() if key != "csrf_token"}
    return {"name": current_user.name, "reference": current_user.reference, "data": data}


@views.get("/visit")
@public
def visit() -> ResponseReturnValue:
    """Put a mark into a visitor's session, if one is given, and answer what it holds."""
    if mark := request.args.get("mark"):
        session["mark"] = mark
    return {"held": session.get("mark")}


@views.get("/hold/reads")
@requires(Permission.OWN)
def reads() -> ResponseReturnValue:
    before = session.get("mark")
    wait()
    return {"before": before, "after": session.get("mark")}


@views.get("/hold/writes")
@requires(Permission.OWN)
def writes() -> ResponseReturnValue:
    session["before"] = request.args["mark"]
    wait()
    session["after"] = request.args["mark"]
    return {"written": request.args["mark"]}


@views.get("/hold/raises")
@requires(Permission.OWN)
def raises() -> ResponseReturnValue:
    session["before"] = request.args["mark"]
    wait()
    session["after"] = request.args["mark"]
    raise RuntimeError("a view that fails after it wrote")


@views.get("/hold/streams")
@requires(Permission.OWN)
def streams() -> ResponseReturnValue:
    """Wait twice: before the first byte, and in the middle of the stream."""
    session["before"] = request.args["mark"]
    wait()

    def chunks() -> Iterator[str]:
        yield "first "
        wait()
        session["after"] = request.args["mark"]
        yield str(session.get("before"))

    return Response(stream_with_context(chunks()), mimetype="text/plain")


@views.get("/hold/looks_late")
@requires(Permission.OWN)
def looks_late() -> ResponseReturnValue:
    """Be past the check of who it is, and only then look at the data."""
    wait()
    session["after"] = request.args["mark"]
    return {"written": request.args["mark"]}


@views.get("/set/<key>")
@requires(Permission.OWN)
def set_key(key: str) -> ResponseReturnValue:
    """Load, wait, and set one key."""
    session.get(key)
    wait()
    session[key] = request.args["mark"]
    return {"written": request.args["mark"]}
