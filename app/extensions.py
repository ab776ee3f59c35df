"""The Flask extensions, created unbound; `create_app` binds them."""

from flask import Response, g, session
from flask_babel import Babel
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager
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


class LedgerLoginManager(LoginManager):
    """Flask-Login with the ledger as its only source: no user loader, no remember cookie."""

    def _load_user(self) -> None:
        principal = session.principal
        g._login_user = self.anonymous_user() if principal is None else principal

    def _update_remember_cookie(self, response: Response) -> Response:
        return response


db = SQLAlchemy(model_class=Base)
migrate = Migrate()
login_manager = LedgerLoginManager(add_context_processor=False)
csrf = CSRFProtect()
limiter = Limiter(key_func=get_remote_address)
babel = Babel()

__all__ = ["Base", "babel", "csrf", "db", "limiter", "login_manager", "migrate"]
