"""The forms of one's own account."""

from wtforms import PasswordField, TextAreaField
from wtforms.validators import DataRequired, EqualTo, Length

from app.auth.forms import Form
from app.texts import lazy_gettext as _l


class NoteForm(Form):
    """A note that lives in the session's data."""

    note = TextAreaField(
        _l("Note"), [Length(max=500, message=_l("A note has at most 500 characters."))]
    )


class PasswordForm(Form):
    """The current password, and the new one twice."""

    current_password = PasswordField(
        _l("Current password"), [DataRequired(_l("Enter your current password."))]
    )
    password = PasswordField(_l("New password"), [DataRequired(_l("Enter a new password."))])
    repeat = PasswordField(
        _l("New password again"),
        [EqualTo("password", _l("This differs from the new password above."))],
    )
