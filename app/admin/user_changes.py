"""The changes that staff may make to a person: form, words, who may, and the function that does it.

`users` offers them on the user's page and asks before each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask_babel.speaklater import LazyString
from sqlalchemy import Row

from app.admin.forms import ConfirmForm, NewPasswordForm, RoleForm
from app.admin.helpers import person
from app.auth import changes
from app.auth.forms import Form
from app.people.models import Permission, Role
from app.texts import gettext as _
from app.texts import lazy_gettext as _l


@dataclass(frozen=True, slots=True)
class Change:
    """What may be done to a user: its form, its words, who may, and the function that does it."""

    label: LazyString
    title: LazyString
    consequence: LazyString
    done: LazyString
    form: type[Form]
    permission: Permission
    act: Callable[[int, Form], object]
    needed: Callable[[Row[Any]], bool] = lambda _user: True
    risky: bool = False

    def offered(self, user: Row[Any]) -> bool:
        """Say whether the person who looks may make it, and whether it would change anything."""
        return self.fits(user) and self.refusal(user) is None

    def fits(self, user: Row[Any]) -> bool:
        """Say whether the user is as the change expects: only who is disabled can be enabled."""
        return self.needed(user)

    def refusal(self, user: Row[Any]) -> str | None:
        """Say why the person who looks may not make it; whom it would hit decides with."""
        me = person()
        if user.id == me.user_id:
            return _("You cannot do this to yourself.")
        if not me.may(self.permission):
            return _("Only an administrator may do this.")
        if Role(user.role).is_staff and not me.may(Permission.ADMINISTER):
            return _("Only an administrator may do this to staff.")
        return None


CHANGES = {
    "role": Change(
        label=_l("Change the role…"),
        title=_l("Change the role of %(name)s"),
        consequence=_l("All sessions of this user end; the new role holds from the next sign-in."),
        done=_l("The role is changed."),
        form=RoleForm,
        permission=Permission.ADMINISTER,
        act=lambda user_id, form: changes.change_role(
            user_id, form.role.data or "", actor=person()
        ),
    ),
    "password": Change(
        label=_l("Reset the password…"),
        title=_l("Reset the password of %(name)s"),
        consequence=_l("All sessions of this user end, and the old password no longer works."),
        done=_l("The password is reset."),
        form=NewPasswordForm,
        permission=Permission.ADMINISTER,
        act=lambda user_id, form: changes.reset_password(
            user_id, form.password.data or "", actor=person()
        ),
    ),
    "require": Change(
        label=_l("Require a new password…"),
        title=_l("Require a new password of %(name)s?"),
        consequence=_l(
            "All sessions of this user end. The next sign-in, still with the old password, leads to"
            " choosing a new one and nowhere else."
        ),
        done=_l("A new password is required."),
        form=ConfirmForm,
        permission=Permission.ADMINISTER,
        act=lambda user_id, _form: changes.require_new_password(user_id, actor=person()),
        needed=lambda user: not user.new_password_required,
    ),
    "disable": Change(
        label=_l("Disable…"),
        title=_l("Disable %(name)s?"),
        consequence=_l("All sessions of this user end, and signing in is refused until enabled."),
        done=_l("The user is disabled."),
        form=ConfirmForm,
        permission=Permission.DISABLE_MEMBERS,
        act=lambda user_id, _form: changes.disable_user(user_id, actor=person()),
        needed=lambda user: user.active,
        risky=True,
    ),
    "enable": Change(
        label=_l("Enable…"),
        title=_l("Enable %(name)s?"),
        consequence=_l("The user may sign in again. No ended session comes back."),
        done=_l("The user is enabled."),
        form=ConfirmForm,
        permission=Permission.ADMINISTER,
        act=lambda user_id, _form: changes.enable_user(user_id, actor=person()),
        needed=lambda user: not user.active,
    ),
}
