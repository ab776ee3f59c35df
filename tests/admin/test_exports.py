"""Exports: all rows, a cut that says so, and an event for each."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from app.admin import users
from app.audit.models import AuditEvent
from app.columns import clock
from app.people.models import User
from app.sessions.models import Revocation
from app.sessions.store import StoreUnavailable
from tests.sessions.test_revocation import start
from tests.site import Browser, Site

MANY = 1201


def lines(browser: Browser, path: str) -> list[list[str]]:
    response = browser.get(path)
    assert response.status_code == 200
    assert response.mimetype == "text/csv"
    return list(csv.reader(io.StringIO(response.text)))


def people(site: Site, count: int) -> None:
    values = {
        "role": "member",
        "active": True,
        "password_hash": "x",
        "created_at": clock(),
        "password_changed_at": clock(),
    }
    with site.system.ledger.transaction() as tx:
        for i in range(count):
            name = f"p{i:05}"
            tx.connection.execute(insert(User).values(**values, name=name, name_key=name))


def revocations(site: Site, count: int) -> None:
    with site.system.ledger.transaction() as tx:
        for _ in range(count):
            tx.connection.execute(
                insert(Revocation).values(
                    created_at=clock(),
                    expires_at=clock(),
                    confirmed_at=clock(),
                    finished_at=clock(),
                    actor_name="ada",
                    actor={},
                    reason="policy",
                    matched_by="",
                    everyone=False,
                    size=1,
                    left_out=0,
                    tell_user=False,
                )
            )


def events(site: Site, count: int) -> None:
    values = {"at": clock(), "verb": "x", "actor_kind": "system", "actor_name": "t", "details": {}}
    with site.system.ledger.transaction() as tx:
        for _ in range(count):
            tx.connection.execute(insert(AuditEvent).values(**values))


FILL = {"users": people, "revocations": revocations, "audit": events}


@pytest.mark.parametrize("noun", FILL)
def test_a_csv_has_every_row_once(site: Site, noun: str) -> None:
    FILL[noun](site, MANY)
    rows = lines(site.signed_in("ada"), f"/admin/{noun}?format=csv")[1:]
    own = {"users": 6, "revocations": 0, "audit": 1}[noun]
    assert len(rows) == MANY + own
    assert len({tuple(row) for row in rows}) == len(rows)
    (event,) = site.events("data.exported")
    details = json.loads(event.details)
    assert (details["list"], details["format"], details["rows"]) == (noun, "csv", len(rows))


def test_the_details_of_an_event_are_json_in_a_csv_too(site: Site) -> None:
    heading, *rows = lines(site.signed_in("ada"), "/admin/audit?format=csv&verb=session.signed_in")
    details = json.loads(rows[0][heading.index("details")])
    assert details["store"] == "sql"


def test_the_trail_leaves_as_a_json_object_a_line_with_the_filters_of_the_page(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    events(site, 700)
    site.browser().sign_in("bob", "a wrong password")
    ada = site.signed_in("ada")
    response = ada.get("/admin/audit?format=ndjson&verb=session.sign_in_failed")
    assert response.mimetype == "application/x-ndjson"
    assert 'filename="audit.ndjson"' in response.headers["Content-Disposition"]
    (failed,) = map(json.loads, response.text.splitlines())
    assert (failed["target_name"], failed["result"]) == ("bob", "failed")
    (event,) = site.events("data.exported")
    details = json.loads(event.details)
    assert (details["list"], details["format"], details["rows"]) == ("audit", "ndjson", 1)
    rows = [json.loads(line) for line in ada.get("/admin/audit?format=ndjson").text.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 703
    monkeypatch.setattr("app.listing.MOST_ROWS", 2)
    *kept, cut = map(json.loads, ada.get("/admin/audit?format=ndjson").text.splitlines())
    assert len(kept) == 2
    assert cut == {"error": "Cut here: an export has at most 2 rows. Filter."}
    assert ada.get("/admin/users?format=ndjson").status_code == 400


def test_a_csv_of_sessions_has_every_row_once(make_site: Callable[..., Site]) -> None:
    site = make_site(SESSION_LIMIT=300)
    start(site, *["alice"] * 250)
    rows = lines(site.signed_in("ada"), "/admin/sessions?format=csv&user=alice")[1:]
    assert len({row[0] for row in rows}) == len(rows) == 250


@pytest.mark.parametrize("noun", [*FILL, "sessions"])
def test_a_csv_that_is_cut_says_so_in_its_last_line(
    site: Site, noun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.listing.MOST_ROWS", 2)
    monkeypatch.setattr("app.admin.helpers.MOST_ROWS", 2)
    if noun in FILL:
        FILL[noun](site, 3)
    site.signed_in("alice")
    site.signed_in("bob")
    rows = lines(site.signed_in("ada"), f"/admin/{noun}?format=csv")
    assert len(rows) == 1 + 2 + 1
    assert rows[-1] == ["Cut here: an export has at most 2 rows. Filter."]
    (event,) = site.events("data.exported")
    assert json.loads(event.details)["rows"] == 2


def test_a_csv_of_exactly_the_most_rows_is_not_cut(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.listing.MOST_ROWS", 6)
    rows = lines(site.signed_in("ada"), "/admin/users?format=csv")
    assert [row[1] for row in rows[1:]] == ["ada", "alice", "bob", "ops", "otto", "vera"]


def test_a_csv_without_rows_has_its_heading(site: Site) -> None:
    rows = lines(site.signed_in("ada"), "/admin/revocations?format=csv")
    assert len(rows) == 1
    assert rows[0][0] == "id"


def test_a_csv_that_a_server_breaks_off_says_that_it_is_not_complete(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(site, 20)
    ada = site.signed_in("ada")
    monkeypatch.setattr("app.admin.users.BATCH", 5)
    read, calls = users._read, []

    def read_twice(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise StoreUnavailable("database")
        return read(*args)

    monkeypatch.setattr(users, "_read", read_twice)
    rows = lines(ada, "/admin/users?format=csv")
    assert len(rows) == 1 + 10 + 1
    assert rows[-1] == ["Not complete: a server stopped answering. Export again."]


@pytest.mark.parametrize("noun", [*FILL, "sessions"])
def test_json_leads_from_page_to_page_and_says_that_there_is_more(
    make_site: Callable[..., Site], noun: str
) -> None:
    site = make_site(SESSION_LIMIT=100)
    if noun in FILL:
        FILL[noun](site, 60)
    else:
        start(site, *["alice"] * 60)
    ada = site.signed_in("ada")
    path, found, key = f"/admin/{noun}?format=json", 0, "events" if noun == "audit" else noun
    while path:
        body = ada.get(path).json
        assert body is not None
        found += len(body[key])
        path = body["next"]
    assert found >= 60
    assert [json.loads(e.details)["format"] for e in site.events("data.exported")] == ["json"] * 2


@pytest.mark.parametrize("noun", [*FILL, "sessions"])
def test_what_a_page_polls_is_no_export(site: Site, noun: str) -> None:
    ada = site.signed_in("ada")
    assert ada.get(f"/admin/{noun}?format=json", headers={"X-Passive": "1"}).status_code == 200
    assert site.events("data.exported") == []


def test_a_damaged_cursor_of_an_export_is_refused(site: Site) -> None:
    response = site.signed_in("ada").get("/admin/sessions?format=csv&after=garbage")
    assert response.status_code == 400
    assert site.events("data.exported") == []
