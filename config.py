"""Every setting of the application, read once from the environment.

`load` gives `create_app` its configuration: defaults, then the environment (for a secret also the
file that `NAME_FILE` names), then the caller's overrides, checked together. It refuses to start on
bad settings and lists them all by name. Nobody but `create_app` and gunicorn.conf.py imports this module.
"""

import difflib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from click import ClickException

import config_values
from config_values import (
    ROOT,
    Parser,
    address,
    boolean,
    choice,
    database_url,
    number,
    redis_url,
    site_name,
    text,
    words,
)

ROLES = ("member", "viewer", "operator", "auditor", "admin")
STORES = {"redis": "redis", "sqlalchemy": "sql"}
"""What `SESSION_TYPE` may say, and the name of the store that it means."""

SHORTEST_KEY = 32

_NOT_OFFERED = {
    "filesystem": "Flask-Session deprecates it, and its files serve one host only",
    "cachelib": "a cache may drop a session to make room",
    "memcached": "it may drop a session to make room, and a restart drops all",
    "mongodb": "it adds a server to run without adding an ability",
    "dynamodb": "listing its sessions reads the whole table",
}
_PLACEHOLDER = re.compile(
    r"change.?(me|this)|place.?holder|your.?secret|example|insecure", re.IGNORECASE
)
_BY_ROLE = "_BY_ROLE"
_DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class ConfigError(ClickException):
    """The settings do not allow a start. The message names every one that is wrong.

    As a ClickException it is one readable message in `flask ...`, not a traceback.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n  ".join(["the settings do not allow a start:", *problems]))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Setting:
    """One setting. `development` is its default in development, where that differs."""

    name: str
    parse: Parser
    default: object
    doc: str
    unit: str = ""
    secret: bool = False
    development: object = None


@dataclass(frozen=True)
class Effective:
    """A setting as it counts in this process, and who said so: `flask config` shows it, secrets masked."""

    group: str
    name: str
    value: object
    unit: str
    secret: bool
    source: str
    changed: bool


DAY = 24 * 60 * 60
by_role = partial(config_values.by_role, roles=ROLES)
_seconds = number(1, 366 * DAY)
_limit = number(1, 10_000)
_policy = choice("supersede", "deny")
_cookie = text(_COOKIE_NAME, "letters, digits and any of !#$%&'*+.^_`|~-")
_staff_idle = dict.fromkeys(ROLES[1:], 900)
_staff_store = dict.fromkeys(ROLES[1:], "sql")

# fmt: off
_application = (
    Setting("ROLLCALL_ENV", choice("production", "development"), "production", "`production`, or `development`: plain HTTP on this machine, which `make run` sets."),
    Setting("SITE_NAME", site_name, "Rollcall", "The name that the pages show."),
    Setting("FLASK_DEBUG", boolean, False, "Flask's debugger. Refused in production: it runs any code that a visitor sends."),
    Setting("SECRET_KEY", text(), "", "Signs visitor cookies and form tokens. At least 32 random characters in production.", secret=True),
    Setting("SECRET_KEY_FALLBACKS", words, (), "Earlier keys, oldest first, still accepted while a key is being replaced.", secret=True),
)
_servers = (
    Setting("DATABASE_URL", database_url, "", "The database of people, the ledger, the audit trail and the SQL store.", secret=True),
    Setting("REDIS_URL", redis_url, "", "The Redis or Valkey of the Redis store: a server, a Cluster, or a master under Sentinels. Not needed when every role's store is `sql`.", secret=True),
)
_stores = (
    Setting("SESSION_TYPE", choice(*STORES, why_not=_NOT_OFFERED), "redis", "The store of new sessions: `redis`, or `sqlalchemy` for the SQL store."),
    Setting("SESSION_STORE_BY_ROLE", by_role(choice(*STORES.values(), why_not=_NOT_OFFERED)), _staff_store, "The store by role, `redis` or `sql`; roles not named use `SESSION_TYPE`. Staff in SQL can work while Redis is down."),
    Setting("SESSION_KEY_PREFIX", text(re.compile(r"[\x21-\x7e]{1,64}"), "1 to 64 visible ASCII characters"), "rollcall:session:", "What the keys of the Redis store begin with."),
    Setting("SESSION_SQLALCHEMY_TABLE", text(_NAME, "a plain SQL name of at most 63 characters"), "session_payloads", "The table of the SQL store."),
    Setting("SESSION_SERIALIZATION_FORMAT", choice("msgpack", "json"), "msgpack", "The form in which sessions are written, `msgpack` or `json`; both are read."),
    Setting("SESSION_MAX_BYTES", number(1024, 16 * 2**20), 65536, "The largest session that is stored or read.", "bytes"),
    Setting("SESSION_CARRY_OVER", words, (), "Keys of the visitor's session that sign-in takes along."),
)
_rules = (
    Setting("SESSION_IDLE_TIMEOUT", _seconds, 1800, "A session expires this long after its last activity.", "seconds"),
    Setting("SESSION_IDLE_TIMEOUT_BY_ROLE", by_role(_seconds), _staff_idle, "The idle timeout by role; roles not named use `SESSION_IDLE_TIMEOUT`.", "seconds"),
    Setting("SESSION_ABSOLUTE_TIMEOUT", _seconds, 43200, "A session expires this long after sign-in, however busy it is.", "seconds"),
    Setting("SESSION_ABSOLUTE_TIMEOUT_BY_ROLE", by_role(_seconds), {}, "The absolute timeout by role; roles not named use `SESSION_ABSOLUTE_TIMEOUT`.", "seconds"),
    Setting("SESSION_TOUCH_INTERVAL", number(0, 3600), 60, "How often activity is written down. A session may expire this much early, never late; 0 is exact.", "seconds"),
    Setting("SESSION_LIMIT", _limit, 1, "How many live sessions one user may have, over all stores.", "sessions"),
    Setting("SESSION_LIMIT_BY_ROLE", by_role(_limit), {}, "The limit by role; roles not named use `SESSION_LIMIT`.", "sessions"),
    Setting("SESSION_LIMIT_POLICY", _policy, "supersede", "What a sign-in at the limit does: `supersede` ends the oldest session, `deny` refuses the new one."),
    Setting("SESSION_LIMIT_POLICY_BY_ROLE", by_role(_policy), {}, "The policy by role; roles not named use `SESSION_LIMIT_POLICY`."),
    Setting("STEP_UP_AGE", _seconds, 600, "How long a password entered again allows grave actions.", "seconds"),
)
_cookies = (
    Setting("SESSION_COOKIE_NAME", _cookie, "__Host-session", "The cookie of the signed-in. The `__Host-` prefix needs TLS and goes in development."),
    Setting("VISITOR_COOKIE_NAME", _cookie, "__Host-visitor", "The signed cookie of visitors."),
    Setting("SESSION_COOKIE_DOMAIN", text(re.compile(r"[A-Za-z0-9.-]+"), "a host name"), None, "The cookies' domain. Empty, the safest, is this host alone."),
    Setting("SESSION_COOKIE_PATH", text(re.compile(r"/[^;,\s]*"), "a path from the root, such as /"), "/", "The cookies' path."),
    Setting("SESSION_COOKIE_HTTPONLY", boolean, True, "Hides the cookies from scripts."),
    Setting("SESSION_COOKIE_SECURE", boolean, True, "Sends the cookies over TLS only. Off in development unless it is set.", development=False),
    Setting("SESSION_COOKIE_SAMESITE", choice("Lax", "Strict", "None"), "Lax", "Whether other sites' requests carry the cookies: `Lax`, `Strict` or `None`."),
    Setting("SESSION_COOKIE_PARTITIONED", boolean, False, "Keeps the cookies apart for each site that embeds this one."),
    Setting("PERMANENT_SESSION_LIFETIME", _seconds, 31 * DAY, "The age of a visitor's cookie whose session is permanent.", "seconds"),
)
_requests = (
    Setting("REQUEST_DEADLINE", number(0.05, 60, float), 0.8, "How long one request may wait for all its servers together.", "seconds"),
    Setting("TRUSTED_HOSTS", words, (), "Host names that requests may ask for; empty allows any. `.example.org` takes in subdomains."),
    Setting("TRUSTED_PROXIES", number(0, 10), 0, "How many proxies in front of this server are believed about the client's address and scheme. Behind TLS at least 1, or every form is refused.", "hops"),
    Setting("MAX_CONTENT_LENGTH", number(1024, 2**30), 2**20, "The largest request body that is read.", "bytes"),
)
_kept = (
    Setting("AUDIT_RETENTION_DAYS", number(1, 36500), 365, "How long the audit trail is kept.", "days"),
    Setting("SESSION_HISTORY_DAYS", number(1, 36500), 90, "How long ended sessions stay in the list.", "days"),
)
_processes = (
    Setting("LOG_LEVEL", choice("DEBUG", "INFO", "WARNING", "ERROR"), "INFO", "The least grave message that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`."),
    Setting("PORT", number(1, 65535), 8000, "The port of the web server."),
    Setting("WEB_CONCURRENCY", number(1, 256), 2, "How many worker processes the web server has.", "processes"),
    Setting("METRICS_TOKEN", text(re.compile(r"[\x21-\x7e]{16,}"), "16 or more visible ASCII characters"), "", "What a scraper of `/metrics` sends as its bearer token. Empty: whoever reaches the process may read it.", secret=True),
    Setting("WORKER_METRICS_ADDRESS", address, "", "Where the worker serves its metrics, as `host:port`. Empty: nowhere."),
    Setting("ADMIN_USERNAME", text(), "admin", "The first administrator that `make run` creates."),
    Setting("ADMIN_PASSWORD", text(), "", "Their password. Empty: one is made and printed once.", secret=True),
)
# fmt: on

GROUPS: dict[str, tuple[Setting, ...]] = {
    "The application": _application,
    "Servers": _servers,
    "Where sessions lie": _stores,
    "How long they last, and how many": _rules,
    "Cookies": _cookies,
    "Requests": _requests,
    "What is kept": _kept,
    "Processes": _processes,
}
"""All settings, under the headings of docs/configuration.md."""

SETTINGS = tuple(setting for group in GROUPS.values() for setting in group)

_NAMES = tuple(s.name + end for s in SETTINGS for end in ("", "_FILE")[: 1 + s.secret])
_FLASK_SESSIONS = frozenset({"SESSION_SQLALCHEMY"})
"""What upstream calls nearly as one of ours is called."""

_OURS_ALONE = (
    "ROLLCALL_", "SESSION_ABSOLUTE_", "SESSION_CARRY_", "SESSION_IDLE_", "SESSION_LIMIT",
    "SESSION_STORE_", "SESSION_TOUCH_", "STEP_UP_", "VISITOR_COOKIE_", "WORKER_METRICS_",
)  # fmt: skip
"""What begins so in the environment and is nearly a setting was meant for us."""


def load(
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
    instance: Path = ROOT / "instance",
) -> dict[str, object]:
    """Return the configuration of one application; raise ConfigError with everything that is wrong.

    An override of None unsets what the environment says. Overrides that are no settings of ours, such
    as TESTING or an extension's, are passed through. A name that is nearly one of ours stops the start;
    in the environment, which others write too, only where it cannot be theirs: ROLLCALL_UNKNOWN has the rest.
    """
    given = dict(overrides or {})
    problems: list[str] = []
    run_env = _run_env(given, environ, instance)
    sources = {s.name: _source(s, given, environ, run_env) for s in SETTINGS}
    environ = {**run_env, **environ}
    raw = {s.name: given.pop(s.name, _from_environment(s, environ, problems)) for s in SETTINGS}
    development = raw["ROLLCALL_ENV"] == "development"
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        default = setting.default
        if development and setting.development is not None:
            default = setting.development
        values[setting.name] = _parsed(setting, raw[setting.name], default, problems)
    unknown = {name: meant for name in environ if environ[name] and (meant := _meant(name))}
    wrong = {name: meant for name in given if (meant := _meant(name))}
    wrong |= {name: unknown.pop(name) for name in list(unknown) if name.startswith(_OURS_ALONE)}
    problems += [f"{name}: no such setting; allowed: {meant}" for name, meant in wrong.items()]
    named = {problem.partition(":")[0] for problem in problems}
    parsed = dict(values)
    _complete(values)
    if "SESSION_TYPE" in named:
        named.add("REDIS_URL")  # whether it is missing follows from the type that was meant
    problems += [p for p in _contradictions(values) if p.partition(":")[0] not in named]
    if not environ.get("ROLLCALL_ENV") and any("DATABASE_URL: missing" in p for p in problems):
        problems.append("(is `make run` running? `flask` uses its settings as long as it does)")
    if problems:
        raise ConfigError(problems)
    effective = tuple(_effective(values, parsed, sources))
    ours = {"ROLLCALL_SETTINGS": effective, "ROLLCALL_UNKNOWN": unknown}
    return {**values, **_for_flask(values), **ours, **given}


def one(name: str, environ: Mapping[str, str] = os.environ) -> Any:
    """Return one setting, checked by itself, for what starts before the application: gunicorn.

    Raises ConfigError.
    """
    setting = next(setting for setting in SETTINGS if setting.name == name)
    problems: list[str] = []
    raw = _from_environment(setting, environ, problems)
    value = _parsed(setting, raw, setting.default, problems)
    if problems:
        raise ConfigError(problems)
    return value


@cache
def _meant(name: str) -> str | None:
    """Return the setting that a misspelled name is nearest to, None for a name that is right or another's."""
    if name in _NAMES or name in _FLASK_SESSIONS:
        return None
    found = difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.85)
    same_word = bool(found) and name.partition("_")[0] == found[0].partition("_")[0]
    # XDG_SESSION_TYPE is a desktop's.
    near = same_word or difflib.get_close_matches(name, found, cutoff=0.9)
    return found[0] if near else None


def _parsed(setting: Setting, raw: object, default: object, problems: list[str]) -> object:
    if raw in (None, ""):
        return default
    try:
        return setting.parse(raw)
    except ValueError as allowed:
        got = "a value not shown here" if setting.secret else repr(raw)
        problems.append(f"{setting.name}: got {got}; allowed: {allowed}")
        return default


def _run_env(
    overrides: Mapping[str, object], environ: Mapping[str, str], instance: Path
) -> dict[str, str]:
    """Return what a running `make run` uses, so that `flask` in the root works on the same data."""
    file = instance / "run.env"
    if "ROLLCALL_ENV" in overrides or environ.get("ROLLCALL_ENV") or not file.is_file():
        return {}
    # Quoted for a shell, which may read it too.
    pairs = (word.partition("=") for word in shlex.split(file.read_text()))
    # What the environment gives in either form, the other form here does not contradict.
    given = {name.removesuffix("_FILE") for name, value in environ.items() if value}
    return {
        name: value
        for name, equals, value in pairs
        if equals and name.removesuffix("_FILE") not in given
    }


def _from_environment(
    setting: Setting, environ: Mapping[str, str], problems: list[str]
) -> str | None:
    value = environ.get(setting.name, "").strip()
    file = environ.get(f"{setting.name}_FILE", "") if setting.secret else ""
    if not file:
        return value
    if value:
        problems.append(f"{setting.name}: set twice; allowed: it or {setting.name}_FILE, not both")
        return None
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        problems.append(f"{setting.name}: {setting.name}_FILE cannot be read: {file}: {reason}")
        return None


def _source(
    setting: Setting,
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
    run_env: Mapping[str, str],
) -> str:
    """Say where a setting's value comes from; as in `load`, what is empty leaves the default."""
    if setting.name in overrides:
        return _DEFAULT if overrides[setting.name] in (None, "") else "override"
    for name in (f"{setting.name}_FILE",) * setting.secret + (setting.name,):
        place, value = (
            ("environment", environ[name]) if name in environ else ("run.env", run_env.get(name))
        )
        if value and value.strip():
            return (
                place
                if name == setting.name
                else f"file {name}" + ", run.env" * (place == "run.env")
            )
    return _DEFAULT


def _effective(
    values: Mapping[str, Any], parsed: Mapping[str, Any], sources: Mapping[str, str]
) -> Iterator[Effective]:
    """Yield each setting as it counts. `parsed` is what was given, before every role got its value."""
    for group, settings in GROUPS.items():
        for setting in settings:
            name, source = setting.name, sources[setting.name]
            changed = source != _DEFAULT
            if name.endswith(_BY_ROLE):
                common = _common(name)
                if sources[common] != _DEFAULT and len(parsed[name]) < len(ROLES):
                    source, changed = f"{source}, {common}", True
            elif not changed and values[name] != setting.default:
                source = f"{_DEFAULT} of development"
            yield Effective(
                group, name, values[name], setting.unit, setting.secret, source, changed
            )


def _common(name: str) -> str:
    """Return the setting that gives the roles which a setting by role does not name their value."""
    return "SESSION_TYPE" if name == "SESSION_STORE_BY_ROLE" else name.removesuffix(_BY_ROLE)


def _complete(values: dict[str, Any]) -> None:
    """Give every role a value, and drop the cookie prefixes where there is no TLS to honour them."""
    base = {**values, "SESSION_TYPE": STORES[values["SESSION_TYPE"]]}
    for name in [name for name in values if name.endswith(_BY_ROLE)]:
        common = base[_common(name)]
        values[name] = dict.fromkeys(ROLES, common) | values[name]
    if values["ROLLCALL_ENV"] == "development" and not values["SESSION_COOKIE_SECURE"]:
        for name in ("SESSION_COOKIE_NAME", "VISITOR_COOKIE_NAME"):
            values[name] = values[name].removeprefix("__Host-").removeprefix("__Secure-")


def _contradictions(values: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with settings that are each well formed."""
    for name in ("SECRET_KEY", "DATABASE_URL"):
        if not values[name]:
            yield f"{name}: missing; it has no default"
    if not values["REDIS_URL"] and "redis" in values["SESSION_STORE_BY_ROLE"].values():
        yield "REDIS_URL: missing; SESSION_TYPE=sqlalchemy does without Redis"
    yield from _cookie_problems(values)
    if values["ROLLCALL_ENV"] == "production":
        yield from _unfit_for_production(values)


def _cookie_problems(values: dict[str, Any]) -> Iterator[str]:
    secure, names = values["SESSION_COOKIE_SECURE"], ("SESSION_COOKIE_NAME", "VISITOR_COOKIE_NAME")
    if values[names[0]] == values[names[1]]:
        yield "VISITOR_COOKIE_NAME: the same as SESSION_COOKIE_NAME; they are two cookies"
    for name in names:
        at_host = values["SESSION_COOKIE_DOMAIN"] is None and values["SESSION_COOKIE_PATH"] == "/"
        if values[name].startswith("__Host-") and not (secure and at_host):
            yield (
                f"{name}: got {values[name]!r}; allowed with __Host-: SESSION_COOKIE_SECURE, "
                "no SESSION_COOKIE_DOMAIN and SESSION_COOKIE_PATH=/ (browsers drop it otherwise)"
            )
        if values[name].startswith("__Secure-") and not secure:
            yield f"{name}: got {values[name]!r}; allowed only with SESSION_COOKIE_SECURE"
    if values["SESSION_COOKIE_SAMESITE"] == "None" and not secure:
        yield "SESSION_COOKIE_SAMESITE: got 'None'; allowed only with SESSION_COOKIE_SECURE"
    if values["SESSION_COOKIE_PARTITIONED"] and not secure:
        yield "SESSION_COOKIE_PARTITIONED: got True; allowed only with SESSION_COOKIE_SECURE"


def _unfit_for_production(values: dict[str, Any]) -> Iterator[str]:
    if values["FLASK_DEBUG"]:
        yield "FLASK_DEBUG: got True; allowed in production: false"
    for name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        keys = [values[name]] if isinstance(values[name], str) else values[name]
        if any(k and _is_weak(k) for k in keys):
            yield f"{name}: short or a placeholder; allowed: {SHORTEST_KEY} random characters or more"
    for role in ROLES:
        idle = values["SESSION_IDLE_TIMEOUT_BY_ROLE"][role]
        absolute = values["SESSION_ABSOLUTE_TIMEOUT_BY_ROLE"][role]
        if idle > absolute:
            yield f"SESSION_IDLE_TIMEOUT: {idle} s for {role}; allowed: at most the absolute {absolute} s"
        if values["SESSION_TOUCH_INTERVAL"] >= idle:
            yield f"SESSION_TOUCH_INTERVAL: not below the idle timeout of {role}, {idle} s"


def _is_weak(key: str) -> bool:
    return len(key) < SHORTEST_KEY or len(set(key)) < 8 or bool(_PLACEHOLDER.search(key))


def _for_flask(values: dict[str, Any]) -> dict[str, object]:
    """Return what Flask and its extensions want in their own terms."""
    fallbacks = list(values["SECRET_KEY_FALLBACKS"])
    return {
        "DEBUG": values["FLASK_DEBUG"],
        "SECRET_KEY_FALLBACKS": fallbacks,
        "TRUSTED_HOSTS": list(values["TRUSTED_HOSTS"]) or None,
        "WTF_CSRF_SECRET_KEY": [*fallbacks, values["SECRET_KEY"]],
        "WTF_CSRF_TIME_LIMIT": None,
        "WTF_CSRF_SSL_STRICT": False,  # app.auth.access checks Origin and Sec-Fetch-Site instead
    }
