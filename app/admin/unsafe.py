"""Which settings are less safe than they could be, and why: the policy page flags them.

What cannot be allowed at all `config` refuses at the start; this is what a site may want all the same.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask_babel.speaklater import LazyString

from app.settings import Setting
from app.texts import lazy_gettext as _l

_HOUR, _DAY = 3600, 86400
_SHORTEST_KEY = 32

Values = Mapping[str, Any]
Rule = tuple[str, Callable[[Values], object], LazyString]
"""A setting, when it is unsafe among the others, and why."""


def _production(values: Values) -> bool:
    return bool(values["ROLLCALL_ENV"] == "production")


_RULES: tuple[Rule, ...] = (
    (
        "ROLLCALL_ENV",
        lambda values: not _production(values),
        _l("Plain HTTP is allowed, and error pages tell more. For people, run production."),
    ),
    (
        "FLASK_DEBUG",
        lambda values: values["FLASK_DEBUG"],
        _l("The debugger runs any code that a visitor sends."),
    ),
    (
        "SECRET_KEY",
        lambda values: len(values["SECRET_KEY"]) < _SHORTEST_KEY,
        _l("Short enough to be guessed: form tokens and visitor cookies could be forged."),
    ),
    (
        "DATABASE_URL",
        lambda values: _production(values) and values["DATABASE_URL"].startswith("sqlite"),
        _l("A file on one host: no second web server, and the disk's fate is the ledger's."),
    ),
    (
        "SESSION_COOKIE_SECURE",
        lambda values: not values["SESSION_COOKIE_SECURE"],
        _l("The session cookie also goes over plain HTTP, where it can be read on the way."),
    ),
    (
        "SESSION_COOKIE_HTTPONLY",
        lambda values: not values["SESSION_COOKIE_HTTPONLY"],
        _l("A script on a page can read the session cookie."),
    ),
    (
        "SESSION_COOKIE_SAMESITE",
        lambda values: values["SESSION_COOKIE_SAMESITE"] == "None",
        _l("Requests that other sites cause carry the session cookie."),
    ),
    (
        "SESSION_COOKIE_DOMAIN",
        lambda values: values["SESSION_COOKIE_DOMAIN"],
        _l("Every host of this domain gets the session cookie."),
    ),
    (
        "SESSION_COOKIE_NAME",
        lambda values: (
            _production(values) and not values["SESSION_COOKIE_NAME"].startswith("__Host-")
        ),
        _l("Without __Host- another host of the domain can plant a cookie of this name."),
    ),
    (
        "SESSION_IDLE_TIMEOUT_BY_ROLE",
        lambda values: max(values["SESSION_IDLE_TIMEOUT_BY_ROLE"].values()) > 4 * _HOUR,
        _l("More than four hours: whoever finds a browser left open is signed in."),
    ),
    (
        "SESSION_ABSOLUTE_TIMEOUT_BY_ROLE",
        lambda values: max(values["SESSION_ABSOLUTE_TIMEOUT_BY_ROLE"].values()) > _DAY,
        _l("More than a day: a stolen session is good for as long as that."),
    ),
    (
        "SESSION_TOUCH_INTERVAL",
        lambda values: (
            values["SESSION_TOUCH_INTERVAL"] >= min(values["SESSION_IDLE_TIMEOUT_BY_ROLE"].values())
        ),
        _l("Not below the shortest idle timeout: people who are active are signed out."),
    ),
    (
        "SESSION_LIMIT_BY_ROLE",
        lambda values: max(values["SESSION_LIMIT_BY_ROLE"].values()) > 10,
        _l("More than ten: one that is not the user's own hardly shows."),
    ),
    (
        "STEP_UP_AGE",
        lambda values: values["STEP_UP_AGE"] > _HOUR,
        _l("More than an hour: grave actions hardly ever ask for the password."),
    ),
    (
        "TRUSTED_HOSTS",
        lambda values: _production(values) and not values["TRUSTED_HOSTS"],
        _l("Any host name is believed. Name those under which people reach the site."),
    ),
    (
        "METRICS_TOKEN",
        lambda values: _production(values) and not values["METRICS_TOKEN"],
        _l("Whoever reaches the process reads its figures."),
    ),
    (
        "AUDIT_RETENTION_DAYS",
        lambda values: values["AUDIT_RETENTION_DAYS"] < 90,
        _l("Under 90 days: many an incident is found out later than that."),
    ),
    (
        "LOG_LEVEL",
        lambda values: values["LOG_LEVEL"] == "DEBUG",
        _l("Debugging writes more about people than a log should keep."),
    ),
    (
        "REQUEST_DEADLINE",
        lambda values: values["REQUEST_DEADLINE"] > 1,
        _l("Over a second: a silent server holds up everybody for as long."),
    ),
)


def reasons(settings: Iterable[Setting]) -> dict[str, str]:
    """Return why each unsafe setting is unsafe, by its name."""
    values = {setting.name: setting.value for setting in settings}
    return {name: str(why) for name, is_unsafe, why in _RULES if is_unsafe(values)}
