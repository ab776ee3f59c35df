"""The forms of the staff site."""

from collections.abc import Mapping
from typing import Any

from wtforms import BooleanField, PasswordField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]
from wtforms.validators import DataRequired, InputRequired, Length, ValidationError

from app.auth.forms import Form
from app.filters import number
from app.labels import REVOCATION_REASONS, ROLES
from app.texts import lazy_gettext as _l


def _choices(labels: Mapping[str, Any]) -> list[SelectChoice]:
    return [SelectChoice(value, label) for value, label in labels.items()]


class RevocationForm(Form):
    """Why, in a code and in words; whether the users are told; the count where it is asked for."""

    reason = SelectField(
        _l("Reason"),
        [InputRequired(_l("Choose a reason."))],
        choices=_choices({"": _l("Choose a reason…"), **REVOCATION_REASONS}),
    )
    note = TextAreaField(
        _l("Note"), [Length(max=1000, message=_l("A note has at most 1,000 characters."))]
    )
    tell_user = BooleanField(_l("Tell the users why, in these words"))
    new_password = BooleanField(_l("Require a new password of these users"))
    count = StringField()

    def __init__(self, expected: int | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expected = expected
        self.count.label.text = _l("Type %(count)s to confirm", count=expected or 0)

    @property
    def typed(self) -> dict[str, Any]:
        """What was typed, as `data` takes it again."""
        return {field.name: field.data for field in self if field.name != "csrf_token"}

    def validate_count(self, field: StringField) -> None:
        """Compare the typed count with the frozen one, where it is asked for."""
        if self._expected is None:
            return
        typed = "".join(c for c in field.data or "" if c not in " ,.’'")
        if typed != str(self._expected):
            raise ValidationError(
                _l(
                    "Type the number of sessions in the list: %(count)s.",
                    count=number(self._expected),
                )
            )


class RoleForm(Form):
    """A role."""

    role = SelectField(_l("Role"), [InputRequired()], choices=_choices(ROLES))


class NewPasswordForm(Form):
    """A password set by an administrator."""

    password = PasswordField(_l("New password"), [DataRequired(_l("Enter a password."))])


class NewUserForm(Form):
    """Name, role and first password of a new user."""

    username = StringField(_l("User name"), [DataRequired(_l("Enter a user name."))])
    role = SelectField(_l("Role"), [InputRequired()], choices=_choices(ROLES))
    password = PasswordField(_l("First password"), [DataRequired(_l("Enter a password."))])


class ConfirmForm(Form):
    """Nothing but the token: the button is the confirmation."""
