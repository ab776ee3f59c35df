"""Every page that the url map has, with addresses filled in, and a site with something on each."""

from dataclasses import dataclass
from itertools import product

from flask import Flask
from sqlalchemy import insert, update

from app.auth.access import rule_of
from app.columns import clock
from app.people.models import Permission, User
from app.sessions.models import GUESSES, UserSession
from app.sessions.sampling import sample
from tests.site import CAST, CHROME, Site, password_hash

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.4 Mobile/15E148 Safari/604.1"
)
_NO_PAGES = {"static", "healthz", "readyz", "metrics", "account.deadline", "admin.sessions.changes"}


@dataclass(frozen=True)
class PageOfSite:
    """One address and what it asks of a role; None lets everybody in."""

    path: str
    endpoint: str
    rule: Permission | None


def pages_of(app: Flask, values: dict[str, list[object]]) -> list[PageOfSite]:
    """Return every GET address. An argument of a route that `values` does not name is a KeyError."""
    found = []
    urls = app.url_map.bind("127.0.0.1")
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()) or rule.endpoint in _NO_PAGES:
            continue
        names = sorted(rule.arguments)
        for chosen in product(*(values[name] for name in names)):
            path = urls.build(rule.endpoint, dict(zip(names, chosen, strict=True)))
            found.append(PageOfSite(path, rule.endpoint, rule_of(app, rule.endpoint)))
    return sorted(found, key=lambda page: page.path)


def furnish(site: Site) -> dict[str, list[object]]:
    """Put sessions, ended ones, a receipt and trouble into the site; return values for its routes."""
    for number, name in enumerate(["alice", "bob", "vera", "otto"], 1):
        site.signed_in(name, CHROME, f"10.31.7.{number}")
    site.signed_in("alice", SAFARI, "2001:db8:4860::8888")
    ada = site.signed_in("ada")
    ada.post("/reauth", {"password": "not this one"})
    ada.revoke(site.live("bob")[0].reference, note="Laptop left on a train", tell_user="y")
    ended = site.rows(UserSession.ended_at.is_not(None))[0].reference
    _trouble(site)
    return {
        "reference": [site.live("alice")[0].reference, ended],
        "user_id": [site.user_id("alice"), site.user_id("vera"), _disabled(site)],
        "revocation_id": [receipt_id(site)],
        "action": ["role", "password", "require", "disable", "enable"],
        "store": list(site.system.stores),
    }


def _trouble(site: Site) -> None:
    """Count the sessions as the worker does, have a password guessed, and lose the data of a session."""
    sample(site.system)
    guessed, lost = site.live("vera")[-1], site.live("otto")[-1]
    site.system.stores[lost.store].delete([lost.data_key])
    flags = {guessed.id: {"failed_before": GUESSES}, lost.id: {"missing_since": clock()}}
    with site.system.ledger.transaction() as tx:
        for row_id, values in flags.items():
            row = update(UserSession).where(UserSession.id == row_id)
            tx.connection.execute(row.values(**values))


def _disabled(site: Site) -> int:
    """Make a user who is disabled, so that enabling is offered, and return the id."""
    values = {"name": "carol", "name_key": "carol", "role": "member", "active": False}
    values |= {"created_at": clock(), "password_changed_at": clock(), "disabled_at": clock()}
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(insert(User).values(**values, password_hash=password_hash()))
    return site.user_id("carol")


def receipt_id(site: Site) -> int:
    """Return the id of the newest revocation that was confirmed."""
    return int(site.events("revocation.confirmed")[-1].revocation_id)


def roles() -> dict[str, str]:
    """Return one person for each role."""
    return {role: name for name, role in reversed(CAST.items())}
