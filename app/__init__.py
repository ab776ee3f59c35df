"""Rollcall: server-side sessions for Flask, and the site from which staff administer them."""

from collections.abc import Mapping
from pathlib import Path

from flask import Flask

_ROOT = Path(__file__).resolve().parent.parent


def create_app(overrides: Mapping[str, object] | None = None) -> Flask:
    """Return a new application: settings from the environment, then `overrides`, checked together.

    Raises config.ConfigError, which names every setting that is wrong.
    """
    # Imported here, so that importing a part of the package does not import all of it.
    import config
    from app import admin, choices, cli, extensions, logs, monitoring, web
    from app.account.views import blueprint as account
    from app.auth import access, guessing, throttle
    from app.auth.views import blueprint as auth
    from app.sessions import interface, isolation, system

    app = Flask(__name__, root_path=str(_ROOT), instance_path=str(_ROOT / "instance"))
    app.config.from_mapping(config.load(overrides))

    logs.init_app(app)
    system.init_app(app)
    interface.init_app(app)
    extensions.init_app(app)
    isolation.init_app(app)
    throttle.init_app(app)
    guessing.init_app(app)
    web.init_app(app)
    choices.init_app(app)
    monitoring.init_app(app)
    access.init_app(app)
    extensions.csrf.init_app(app)
    app.register_blueprint(auth)
    app.register_blueprint(account)
    app.register_blueprint(admin.blueprint)
    cli.init_app(app)
    return app
