"""The id stays home: it is in no place that is kept or shown, and nothing kept is taken as a cookie."""

import base64
import logging
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import MetaData, create_engine, select

from app.sessions.handles import handle_for
from app.sessions.stores.engines import database_url
from tests.auth.test_access import routes
from tests.servers import RedisServer
from tests.sessions.helpers import with_cookie
from tests.site import PASSWORD, Site, clock_moved

_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){8,32}")


def dump(site: Site, valkey: RedisServer) -> Iterator[str | bytes]:
    """Yield every value of every table and every key and value of Redis."""
    engine = create_engine(database_url(site.app.config["DATABASE_URL"]))
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            for row in connection.execute(select(table)):
                yield from (value for value in row if isinstance(value, str | bytes))
                yield from (str(value) for value in row if isinstance(value, dict | int))
    engine.dispose()
    with valkey.client() as client:
        for key in client.keys("*"):
            yield key
            if client.type(key) == b"string":
                value = client.get(key)
                assert isinstance(value, bytes)
                yield value
                yield value[8:]


@pytest.fixture
def busy(site: Site) -> tuple[Site, list[str]]:
    """A site where people did this and that, and the ids that their browsers had."""
    ids: list[str] = []
    for name in ("alice", "bob", "vera", "ops", "otto", "ada"):
        browser = site.signed_in(name)
        ids.append(browser.cookie or "")
        browser.post("/reauth", {"password": PASSWORD})
        ids.append(browser.cookie or "")
        with clock_moved(120):
            browser.get("/account/sessions")
    bob = site.browser()
    bob.sign_in("bob")
    ids.append(bob.cookie or "")
    bob.sign_out()
    assert all(ids)
    return site, ids


def test_no_id_is_in_any_table_key_or_value(
    busy: tuple[Site, list[str]], valkey: RedisServer
) -> None:
    site, ids = busy
    for held in dump(site, valkey):
        for session_id in ids:
            secret = session_id if isinstance(held, str) else session_id.encode()
            assert secret not in held  # type: ignore[operator]


def forms(held: str | bytes) -> set[str]:
    """Return what somebody who found this would try as a cookie: it, its words, its bytes as text."""
    text = held if isinstance(held, str) else held.decode("latin-1")
    found = {text[:4000], *re.findall(r"[A-Za-z0-9_=+/-]{8,}", text)}
    raws = [held] if isinstance(held, bytes) and len(held) <= 64 else []
    # A trail's export, a log or the slow log shows bytes as hex digits or escapes.
    raws += [bytes.fromhex(word) for word in found if _HEX.fullmatch(word)]
    for raw in raws:
        coded = (base64.urlsafe_b64encode(raw), base64.b64encode(raw))
        found |= {raw.hex(), raw.hex().upper()}
        found |= {each.decode() for each in coded} | {each.decode().rstrip("=") for each in coded}
    return found


def taken(site: Site, candidates: set[str]) -> list[str]:
    """Return those of the candidates that are somebody as one of the cookies that a browser has."""
    client = site.app.test_client(use_cookies=False)
    passed = []
    for candidate in candidates:
        value = candidate.encode("ascii", "ignore").decode()
        if re.search(r"[\x00-\x20;,\"\\\x7f]", value):
            continue
        cookies = f"session={value}; remember_token={value}; visitor={value}"
        path = "/account/sessions?format=json"
        if client.get(path, headers={"Cookie": cookies}).status_code != 401:
            passed.append(candidate)
    return passed


def test_nothing_that_is_kept_is_taken_as_a_cookie(
    busy: tuple[Site, list[str]], valkey: RedisServer
) -> None:
    site, ids = busy
    candidates = {form for held in dump(site, valkey) for form in forms(held)}
    assert len(candidates) > 100
    rows = site.rows()
    assert {base64.urlsafe_b64encode(row.handle).decode().rstrip("=") for row in rows} <= candidates
    assert {row.data_key for row in rows} <= candidates
    assert taken(site, candidates) == []
    # The last id of ada's is still good: otherwise nothing would be taken anyway.
    assert taken(site, {ids[-2]}) == [ids[-2]]


@pytest.mark.admin
def test_nothing_that_is_logged_shown_or_measured_is_taken_as_a_cookie(
    site: Site, valkey: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The logs down to DEBUG, the slow log with every command in it, the trail, pages, metrics, the CLI."""
    caplog.set_level(logging.DEBUG)
    with valkey.client() as client:
        client.config_set("slowlog-log-slower-than", "0")
        client.config_set("slowlog-max-len", "10000")
        try:
            alice, ada = site.signed_in("alice"), site.signed_in("ada")
            alice.post("/", {"note": "milk"})
            alice.post("/reauth", {"password": PASSWORD})
            site.browser().sign_in("alice", "a wrong password")
            slow = [part for entry in client.slowlog_get(10_000) for part in entry.values()]
        finally:
            client.config_set("slowlog-log-slower-than", "10000")
            client.slowlog_reset()
    kept = [part for part in slow if isinstance(part, bytes)]
    assert any(site.live("alice")[0].data_key.encode() in part for part in kept)
    paths = [path for method, path in routes(site) if method == "GET"]
    paths += [f"/admin/sessions/{row.reference}" for row in site.rows()]
    paths += [f"{path}?format={kind}" for path in paths for kind in ("json", "csv")]
    shown = [site.browser().get("/metrics").text, caplog.text]
    for browser, seen in ((ada, (*paths, "/nowhere")), (alice, ("/", "/account/sessions"))):
        for path in seen:
            with browser.get(path) as response:
                shown.append(response.text)
                shown += [value for name, value in response.headers if name != "Set-Cookie"]
    for command in ("sessions list", "sessions list --json", "config"):
        shown.append(site.app.test_cli_runner().invoke(args=command.split()).output)
    candidates = {form for held in (*kept, *shown) for form in forms(held)}
    assert len(candidates) > 500
    for secret in (alice.cookie or "?", ada.cookie or "?"):
        assert not [held for held in shown if secret in held]
        assert not [held for held in kept if secret.encode() in held]
    assert taken(site, candidates) == []
    assert taken(site, {ada.cookie or ""}) == [ada.cookie]


def test_no_id_handle_or_data_key_is_in_any_answer_or_log_record(
    busy: tuple[Site, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    site, ids = busy
    caplog.set_level(logging.DEBUG)
    rows = site.rows()
    secrets = [*ids, *(row.data_key for row in rows), *(row.handle.hex() for row in rows)]
    secrets += [value for each in ids if (handle := handle_for(each)) for value in [str(handle)]]
    ada = with_cookie(site, ids[-2])
    assert ada.is_signed_in()
    secrets.append(ada.cookie or "")
    paths = [path for method, path in routes(site) if method == "GET"]
    paths += [f"/admin/sessions/{row.reference}" for row in rows]
    paths += [f"{path}?format={kind}" for path in paths for kind in ("json", "csv")]
    paths += ["/admin/sessions?state=ended", "/nowhere", "/admin/sessions?ip=nonsense"]
    for path in paths:
        response = ada.get(path)
        kept = "\n".join(f"{k}: {v}" for k, v in response.headers if k != "Set-Cookie")
        for secret in secrets:
            assert secret not in response.text, path
            assert secret not in kept, path
    for secret in secrets:
        assert secret not in caplog.text


def test_the_values_of_a_session_are_shown_to_nobody(site: Site) -> None:
    alice = site.signed_in("alice")
    alice.post("/", {"note": "a very private note"})
    reference = site.live("alice")[0].reference
    for name in ("vera", "ops", "otto", "ada"):
        page = site.signed_in(name).get(f"/admin/sessions/{reference}").text
        assert "a very private note" not in page
        assert ("csrf_token" in page.split("</main>")[0] or "note" in page) or name in (
            "vera",
            "ops",
        )


def test_an_error_names_the_request_and_not_the_id(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.sessions.helpers import add_view

    def fault() -> str:
        raise ZeroDivisionError

    site.app.config["PROPAGATE_EXCEPTIONS"] = False
    add_view(site, "/fault", fault, signed_in=True)
    alice = site.signed_in("alice")
    response = alice.get("/fault")
    assert response.status_code == 500
    assert "ZeroDivisionError" not in response.text
    assert (alice.cookie or "?") not in response.text + caplog.text
