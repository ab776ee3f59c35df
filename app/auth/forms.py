"""The forms of signing in, and the check that `next` stays on this site."""

import re
from urllib.parse import urlsplit

from flask_wtf import FlaskForm
from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired

from app.texts import N_, gettext, ngettext
from app.texts import lazy_gettext as _l

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


class _Words:
    """What WTForms says of itself, from our catalogs: its own know only some of our languages."""

    gettext, ngettext = staticmethod(gettext), staticmethod(ngettext)


_SAID_BY_WTFORMS = (N_("Not a valid choice."), N_("This field is required."))


class Form(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """The base of every form."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]
        def get_translations(self, form: FlaskForm) -> _Words:
            return _Words()


class SignInForm(Form):
    """Name and password, neither cut nor stripped. Which of them is wrong is never said."""

    username = StringField(_l("User name"), [DataRequired(_l("Enter your user name."))])
    password = PasswordField(_l("Password"), [DataRequired(_l("Enter your password."))])
    next = HiddenField()


class StepUpForm(Form):
    """The password again."""

    password = PasswordField(_l("Password"), [DataRequired(_l("Enter your password."))])
    next = HiddenField()
