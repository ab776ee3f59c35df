"""The forms of signing in, and what is asked of every form: messages beside fields, a safe `next`."""

import re
from urllib.parse import urlsplit

from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")


def safe_next(value: str | None, default: str = "/") -> str:
    """Return `value` if it is a path on this site, else `default` (ASVS 3.7.2).

    Only a path that starts with one slash passes: no scheme, no host, no backslash, which browsers
    read as a slash, and no white space or control character, which they drop.
    """
    if not value or value[0] != "/" or value[1:2] == "/" or len(value) > 2000:
        return default
    if _FORBIDDEN.search(value):
        return default
    try:
        parts = urlsplit(value)
    except ValueError:
        return default
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        return default
    return value


class SignInForm(FlaskForm):
    """Name and password. Neither is cut or stripped; what is wrong about them is never said apart."""

    username = StringField(_l("User name"), [DataRequired(_l("Enter your user name."))])
    password = PasswordField(_l("Password"), [DataRequired(_l("Enter your password."))])
    next = HiddenField()


class StepUpForm(FlaskForm):
    """The password again."""

    password = PasswordField(_l("Password"), [DataRequired(_l("Enter your password."))])
    next = HiddenField()
