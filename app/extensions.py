"""The Flask extensions, created unbound; `create_app` binds them."""

from pathlib import Path
from typing import NoReturn

from flask import Flask, current_app, g, request, session
from flask_babel import Babel
from flask_login import LoginManager, current_user, user_logged_out
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """The base of every model; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class LedgerLoginManager(LoginManager):  # type: ignore[misc]
    """Flask-Login with the ledger as its only source: no user loader, no remember cookie."""

    def _load_user(self) -> None:
        principal = session.principal  # type: ignore[attr-defined]
        g._login_user = self.anonymous_user() if principal is None else principal


class LateCSRFProtect(CSRFProtect):  # type: ignore[misc]
    """Flask-WTF's protection, which looks for exemptions only where there is something to protect."""

    def protect(self, apply_exemptions: bool = False) -> None:
        if request.method in current_app.config["WTF_CSRF_METHODS"]:
            super().protect(apply_exemptions)


def _refuse_logout(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(
        "flask_login.logout_user() ends no session here: call app.auth.sign_in.sign_out()"
    )


db = SQLAlchemy(model_class=Base)
migrate = Migrate()
login_manager = LedgerLoginManager()
csrf = LateCSRFProtect()
babel = Babel()


def init_app(app: Flask) -> None:
    """Bind the extensions but two: CSRFProtect comes after `auth.access`, Babel with `choices`."""
    db.init_app(app)
    migrate.init_app(app, db, directory=str(Path(app.root_path) / "migrations"))
    # What `init_app` does but for its hook, which looks at the session on every response.
    app.login_manager = login_manager  # type: ignore[attr-defined]
    login_manager.login_view = "auth.login"
    app.jinja_env.globals["current_user"] = current_user
    user_logged_out.connect(_refuse_logout, app)
