"""The same views over stock Flask-Session: what Rollcall would be if it kept sessions the usual way.

gunicorn loads `create_app()`; `store` in the settings is `redis` or `sqlalchemy`.
"""

import fcntl
import json
import os
from pathlib import Path

import redis
from flask import Flask, request, session
from flask.typing import ResponseReturnValue
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy

from tests.processes.barrier import wait_at
from tests.processes.served import BARRIER, SETTINGS


def create_app() -> Flask:
    """Return an application that signs in by putting a name into the session."""
    settings = json.loads(os.environ[SETTINGS])
    app = Flask(__name__)
    app.config["SESSION_TYPE"] = settings["store"]
    if settings["store"] == "redis":
        app.config["SESSION_REDIS"] = redis.Redis.from_url(settings["url"])
    else:
        app.config["SQLALCHEMY_DATABASE_URI"] = settings["url"]
        app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
    # It creates its table at the start, and two processes that do so at once collide.
    with Path(__file__).open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        Session(app)
    app.add_url_rule("/t/enter/<name>", view_func=enter)
    app.add_url_rule("/t/who", view_func=who)
    app.add_url_rule("/t/hold/<kind>", view_func=hold)
    return app


def enter(name: str) -> ResponseReturnValue:
    session["name"] = name
    return {"name": name}


def who() -> ResponseReturnValue:
    return {"name": session.get("name")}


def hold(kind: str) -> ResponseReturnValue:
    session.get("name")
    if kind != "reads":
        session["before"] = request.args["mark"]
    wait_at(int(os.environ[BARRIER]), request.args["door"])
    if kind == "raises":
        raise RuntimeError("a view that fails after it wrote")
    return {"done": kind}
