"""What stored codes are called, in the reader's language. `filters` says them, forms offer them."""

from collections.abc import Mapping

from flask_babel.speaklater import LazyString

from app.sessions.models import EndReason
from app.sessions.stores.facts import Unsafe
from app.texts import N_
from app.texts import lazy_gettext as _l

STORES: Mapping[str, str] = {"redis": "Redis", "sql": "SQL"}

ROLES: Mapping[str, LazyString] = {
    "member": _l("member"),
    "viewer": _l("viewer"),
    "operator": _l("operator"),
    "auditor": _l("auditor"),
    "admin": _l("admin"),
}

STATES: Mapping[str, LazyString] = {
    "live": _l("Signed in now"),
    "overdue": _l("Past its deadline"),
    "ended": _l("Ended"),
}

STATUSES: Mapping[str, LazyString] = {
    "active": _l("Active"),
    "idle": _l("Idle"),
    "expiring": _l("Expiring"),
    "ended": _l("Ended"),
}

END_REASONS: Mapping[str, LazyString] = {
    "signed_out": _l("Signed out"),
    "revoked": _l("Revoked"),
    "superseded": _l("Superseded"),
    "idle_timeout": _l("Idle timeout"),
    "absolute_timeout": _l("Absolute timeout"),
    "password_changed": _l("Password changed"),
    "user_disabled": _l("User disabled"),
    "role_changed": _l("Role changed"),
    "lost": _l("Data lost"),
    "damaged": _l("Data damaged"),
}

REVOCATION_REASONS: Mapping[str, LazyString] = {
    "incident": _l("Security incident"),
    "lost_device": _l("Lost or stolen device"),
    "left_company": _l("Left the company"),
    "user_request": _l("The user asked for it"),
    "policy": _l("Policy"),
    "other": _l("Other"),
}

LIMIT_POLICIES: Mapping[str, LazyString] = {
    "supersede": _l("the newest sign-in ends the oldest session"),
    "deny": _l("a further sign-in is denied"),
}

VERBS: Mapping[str, LazyString] = {
    "session.signed_in": _l("Signed in"),
    "session.sign_in_failed": _l("Sign-in failed"),
    "session.sign_in_denied": _l("Sign-in denied at the limit"),
    "session.signed_out": _l("Signed out"),
    "session.superseded": _l("Superseded"),
    "session.expired": _l("Expired"),
    "session.revoked": _l("Revoked"),
    "session.ended": _l("Ended"),
    "session.lost": _l("Lost by its store"),
    "session.damaged": _l("Data damaged"),
    "session.regenerated": _l("New session id"),
    "session.stepped_up": _l("Password entered again"),
    "session.step_up_failed": _l("Wrong password at re-entry"),
    "session.step_up_required": _l("Refused until the password is entered again"),
    "session.client_changed": _l("Client changed"),
    "session.ids_guessed": _l("Unknown session ids tried"),
    "revocation.frozen": _l("Revocation prepared"),
    "revocation.confirmed": _l("Revocation confirmed"),
    "revocation.finished": _l("Revocation finished"),
    "user.created": _l("User created"),
    "user.disabled": _l("User disabled"),
    "user.enabled": _l("User enabled"),
    "user.role_changed": _l("Role changed"),
    "user.password_changed": _l("Password changed"),
    "user.password_change_failed": _l("Password change failed"),
    "user.password_reset": _l("Password reset"),
    "user.password_required": _l("New password required"),
    "access.refused": _l("Access refused"),
    "data.exported": _l("Data exported"),
    "worker.alarm": _l("Worker alarm"),
}

RESULTS: Mapping[str, LazyString] = {
    "ok": _l("done"),
    "failed": _l("failed"),
    "refused": _l("refused"),
    "denied": _l("denied"),
    "alarm": _l("alarm"),
}

ACTOR_KINDS: Mapping[str, LazyString] = {
    "user": _l("user"),
    "visitor": _l("visitor"),
    "cli": _l("command line"),
    "system": _l("system"),
}

REFUSALS: Mapping[str, LazyString] = {
    "unknown name": _l("unknown name"),
    "wrong password": _l("wrong password"),
    "disabled": _l("disabled"),
}

DETAILS: Mapping[str, str] = {
    "absent": N_("absent %(value)s"),
    "format": N_("format %(value)s"),
    "from": N_("from %(value)s"),
    "ids": N_("ids %(value)s"),
    "ip": N_("address %(value)s"),
    "list": N_("list %(value)s"),
    "live": N_("live %(value)s"),
    "method": N_("method %(value)s"),
    "path": N_("path %(value)s"),
    "query": N_("query %(value)s"),
    "role": N_("role %(value)s"),
    "rows": N_("rows %(value)s"),
    "seconds": N_("seconds %(value)s"),
    "to": N_("to %(value)s"),
}

SETTING_GROUPS: Mapping[str, LazyString] = {
    "The application": _l("The application"),
    "Servers": _l("Servers"),
    "Where sessions lie": _l("Where sessions lie"),
    "How long they last, and how many": _l("How long they last, and how many"),
    "Cookies": _l("Cookies"),
    "Requests": _l("Requests"),
    "What is kept": _l("What is kept"),
    "Processes": _l("Processes"),
}

SETTING_SOURCES: Mapping[str, LazyString] = {
    "default": _l("default"),
    "default of development": _l("default of development"),
    "environment": _l("environment"),
    "override": _l("given by the program"),
}

UNSAFE: Mapping[Unsafe, str] = {
    Unsafe.EVICTS: N_(
        "Its maxmemory-policy is %(value)s: short of memory, it drops sessions. Set noeviction."
    ),
    Unsafe.EVICTED: N_(
        "It has dropped %(value)s keys for want of memory since it started. Give it more memory."
    ),
    Unsafe.FORGETS: N_(
        "It writes nothing to disk (%(value)s): a restart signs everybody out. Set appendonly yes."
    ),
    Unsafe.OPEN: N_(
        "%(value)s asks for no password: whoever reaches it reads all sessions. Set one in REDIS_URL."
    ),
    Unsafe.NO_FSYNC: N_(
        "It does not wait for the disk (%(value)s): a crash can destroy the database. Turn it on."
    ),
    Unsafe.TORN_PAGES: N_(
        "It does not guard half-written pages (%(value)s): a crash can damage it. Turn it on."
    ),
    Unsafe.LATE_COMMITS: N_(
        "It commits before it has written (%(value)s): a crash can undo revocations. Turn it on."
    ),
}

TOLD: Mapping[EndReason, str] = {
    EndReason.SIGNED_OUT: N_("You signed out at %(at)s."),
    EndReason.IDLE_TIMEOUT: N_(
        "You were signed out at %(at)s because nothing was done for a while."
    ),
    EndReason.ABSOLUTE_TIMEOUT: N_(
        "Your session reached its longest time at %(at)s. Sign in again."
    ),
    EndReason.PASSWORD_CHANGED: N_("Your password was changed at %(at)s."),
    EndReason.USER_DISABLED: N_("Your user was disabled at %(at)s."),
    EndReason.ROLE_CHANGED: N_("Your role was changed at %(at)s. Sign in again to use it."),
    EndReason.LOST: N_("The server lost this session's data; it ended at %(at)s."),
    EndReason.DAMAGED: N_("This session's data could not be read; it ended at %(at)s."),
}
