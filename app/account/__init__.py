"""One's own account: the start page, sessions, password."""

from app.account.views import blueprint

__all__ = ["blueprint"]
