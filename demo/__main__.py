"""`make demo`: bring the site up in a folder of its own, with a past and with people.

The Makefile starts it as `python -m demo`. The first start lays down the last 48 hours; a later one
goes on with what is there.
"""

import logging
import secrets
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from random import Random

from flask import Flask
from sqlalchemy import select

from app.cli.processes import Failed, stop_if_asked
from app.cli.run import Site, run, say, write_private
from app.people.models import User
from app.sessions.system import system_of
from demo import INSTANCE, PASSWORD_FILE
from demo.cast import VISITORS, Person, most_people, people
from demo.history import LENGTH, History

FEWEST = 8
_STAFF = ("viewer", "operator", "auditor", "admin")


def _for_staff(value: int) -> str:
    return ",".join(f"{role}={value}" for role in _STAFF)


# Nobody's database is filled with invented people, and nothing keeps the simulated ones out.
OWN = {
    "DATABASE_URL": f"sqlite:///{INSTANCE / 'rollcall.db'}",
    "REDIS_URL": "",
    "SECRET_KEY": "",
    "SECRET_KEY_FALLBACKS": "",
    "TRUSTED_HOSTS": "",
    "TRUSTED_PROXIES": "1",
}
# The timeouts are shorter than anybody would live with, so that sessions expire while one looks.
SETTINGS = {
    "LOG_LEVEL": "WARNING",
    "SESSION_HISTORY_DAYS": "3",
    "AUDIT_RETENTION_DAYS": "3",
    "SESSION_IDLE_TIMEOUT": "900",
    "SESSION_IDLE_TIMEOUT_BY_ROLE": _for_staff(300),
    "SESSION_ABSOLUTE_TIMEOUT": "28800",
    "SESSION_ABSOLUTE_TIMEOUT_BY_ROLE": _for_staff(14400),
    "SESSION_LIMIT_BY_ROLE": _for_staff(3),
    # Browsers do not tell ports apart: a sign-in here must not overwrite that of `make run`.
    "SESSION_COOKIE_NAME": "demo-session",
    "VISITOR_COOKIE_NAME": "demo-visitor",
}


def main() -> int:
    options = _options()
    cast = people(options.members, options.staff)
    crowd = ("demo.crowd", str(options.members), str(options.staff), str(options.seed))
    settle = partial(_settle, cast, Random(options.seed))
    return run(Site("make demo", INSTANCE, settle, SETTINGS, OWN, {"crowd": crowd}))


def _settle(cast: list[Person], random: Random, app: Flask) -> list[str]:
    """Lay down the past if there is nobody yet; return the sign-ins, and where to look."""
    names = {row.name for row in system_of(app).ledger.read(select(User.name))}
    password = PASSWORD_FILE.read_text() if PASSWORD_FILE.exists() else ""
    if names and not (password and names >= {*VISITORS, *(person.name for person in cast)}):
        raise Failed(
            "This database holds other people than this demo's, so nothing was changed. If it is "
            f"an earlier demo's, `rm -r {INSTANCE.name}` and start again."
        )
    if names:
        goes_on = ["The demo goes on; people come in again over the next two minutes."]
    else:
        password = secrets.token_urlsafe(12)
        write_private(PASSWORD_FILE, password)
        hours = int(LENGTH.total_seconds() // 3600)
        say(f"Laying down the last {hours} hours of {len(cast)} people. It takes half a minute.")
        logging.disable()  # what is logged now was long ago
        try:
            History(app, cast, random, datetime.now(UTC)).lay_down(password, stop_if_asked)
        finally:
            logging.disable(logging.NOTSET)
        goes_on = ["The last 48 hours are there; people come in over the next two minutes."]
    system_of(app).close()
    return [*goes_on, *_welcome(password)]


def _welcome(password: str) -> list[str]:
    rows = [f"  {name:<15} {password}   {what}" for name, what in _MAY.items()]
    return [
        "",
        "Sign in as one of these. This is a demo on your own machine, so the password is printed:",
        *rows,
        "",
        "Look first at /admin/sessions, and revoke somebody: they find out at their next click.",
        "Then at /admin/sessions?state=ended for how sessions end, and at /admin/audit for who did it.",
    ]


_MAY = {
    "demo-admin": "sees and may do everything",
    "demo-operator": "ends sessions",
    "demo-auditor": "reads the audit trail",
    "demo-viewer": "looks",
    "demo-member": "has a session, and a note in it",
}


def _options() -> "Options":
    parser = ArgumentParser("make demo", description="The site with simulated people.")
    most = most_people()
    parser.add_argument("--members", type=_number(most), default=240, help="240 by default")
    parser.add_argument("--staff", type=_number(most), default=24, help="24 by default")
    parser.add_argument("--seed", type=int, default=1, help="what happens, by chance")
    options = parser.parse_args(namespace=Options())
    if options.members + options.staff > most:
        parser.error(f"there are names for {most} people")
    return options


class Options:
    """What the command line says."""

    members: int
    staff: int
    seed: int


def _number(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not FEWEST <= int(text) <= most:
            raise ArgumentTypeError(f"a number from {FEWEST} to {most}")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main())
