"""flask.session is a dict that loads first: whatever is asked of it, the answer is the stored data's."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.globals import request_ctx
from flask_session.base import ServerSideSession

from app.sessions.interface import RollcallSession
from tests.servers import RedisServer
from tests.sessions.helpers import counted
from tests.site import Browser, Site

HELD = {"a": 1, "b": [2], "csrf_token": "x"}

READS: dict[str, Callable[[Any], Any]] = {
    "in": lambda s: "a" in s,
    "not in": lambda s: "z" not in s,
    "[]": lambda s: s["b"],
    "get": lambda s: s.get("a"),
    "get a default": lambda s: s.get("z", 9),
    "len": len,
    "bool": bool,
    "iterate": list,
    "reversed": lambda s: list(reversed(s)),
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "==": lambda s: s == HELD,
    "== reflected": lambda s: s == HELD,
    "!=": lambda s: s != HELD,
    "|": lambda s: s | {"c": 3},
    "| reflected": lambda s: {"c": 3} | s,
    "copy": lambda s: dict(s.copy()),
    "dict": dict,
    "**": lambda s: {**s},
    "json of dict": lambda s: json.loads(json.dumps(dict(s))),
    "permanent": lambda s: bool(s.get("_permanent")),
}

WRITES: dict[str, Callable[[Any], Any]] = {
    "[]=": lambda s: s.__setitem__("a", 5),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "pop a default": lambda s: s.pop("z", 7),
    "popitem": lambda s: s.popitem(),
    "setdefault old": lambda s: s.setdefault("a", 5),
    "setdefault new": lambda s: s.setdefault("c", 5),
    "update": lambda s: s.update({"c": 3}, d=4),
    "update pairs": lambda s: s.update([("c", 3)]),
    "|=": lambda s: s.__ior__({"c": 3}) and None,
    "clear": lambda s: s.clear(),
}


@pytest.fixture
def alice(site: Site) -> Browser:
    browser = site.signed_in("alice")
    with browser.client.session_transaction() as held:
        held.clear()
        held.update(HELD)
    return browser


@contextmanager
def request_of(browser: Browser) -> Iterator[RollcallSession]:
    """Open a request of this browser and hand out its session, at which nobody has looked yet."""
    cookie = f"{browser.site.app.config['SESSION_COOKIE_NAME']}={browser.cookie}"
    with browser.site.app.test_request_context("/healthz", headers={"Cookie": cookie}):
        yield request_ctx._session  # type: ignore[misc]  # the proxy counts as a look


@pytest.mark.parametrize("name", READS)
def test_reading_loads_first_and_answers_like_a_dict(
    alice: Browser, valkey: RedisServer, name: str
) -> None:
    with request_of(alice) as session, counted(alice.site, valkey) as calls:
        assert not session.accessed
        assert READS[name](session) == READS[name](dict(HELD))
        assert session.accessed
        assert not session.modified
    assert len(calls.ledger) == 1
    assert calls.redis == {"get": 1}


@pytest.mark.parametrize("name", WRITES)
def test_writing_loads_first_and_leaves_what_a_dict_would(
    alice: Browser, valkey: RedisServer, name: str
) -> None:
    plain = dict(HELD)
    with request_of(alice) as session, counted(alice.site, valkey) as calls:
        assert WRITES[name](session) == WRITES[name](plain)
        assert dict(session) == plain
        assert session.modified == (plain != HELD)
    assert len(calls.ledger) == 1
    assert calls.redis == {"get": 1}


def test_a_missing_key_is_a_key_error(alice: Browser) -> None:
    with request_of(alice) as session, pytest.raises(KeyError):
        session["z"]
    with request_of(alice) as session, pytest.raises(KeyError):
        session.pop("z")


def test_a_copy_is_a_dict_and_no_session(alice: Browser) -> None:
    with request_of(alice) as session:
        session.copy()["a"] = 9
        assert session["a"] == 1
        assert not session.modified


def test_repr_shows_the_data_and_never_the_id(alice: Browser) -> None:
    with request_of(alice) as session:
        assert repr(session).endswith(f" {HELD!r}>")
        assert (alice.cookie or "?") not in repr(session)


def test_the_session_is_still_flask_sessions_kind(alice: Browser) -> None:
    with request_of(alice) as session:
        assert isinstance(session, ServerSideSession)


def test_clear_keeps_who_is_signed_in_and_whether_the_cookie_lasts(alice: Browser) -> None:
    with request_of(alice) as session:
        session.permanent = True
        session.clear()
        assert dict(session) == {"_permanent": True}
        assert session.principal is not None
        assert session.principal.name == "alice"


@pytest.mark.parametrize("key", ["_user_id", "_fresh", "_id", "_remember", "_remember_seconds"])
@pytest.mark.parametrize("way", ["[]=", "update", "|=", "setdefault"])
def test_the_keys_of_flask_login_are_refused_and_the_remedy_named(
    alice: Browser, key: str, way: str
) -> None:
    writes: dict[str, Callable[[Any], Any]] = {
        "[]=": lambda s: s.__setitem__(key, "1"),
        "update": lambda s: s.update({key: "1"}),
        "|=": lambda s: s.__ior__({key: "1"}),
        "setdefault": lambda s: s.setdefault(key, "1"),
    }
    with request_of(alice) as session:
        with pytest.raises(RuntimeError, match=rf"{key}.*sign_in\(\).*sign_out\(\)"):
            writes[way](session)
        assert key not in session
        assert not session.modified


def test_a_visitors_token_is_a_constant_that_is_never_stored(site: Site) -> None:
    with site.app.test_request_context("/healthz"):
        session = request_ctx._session
        assert session is not None
        assert session["csrf_token"] == session.get("csrf_token") == "visitor"
        assert "csrf_token" in session
        assert dict(session) == {}
        assert len(session) == 0
        assert not session.modified


def test_a_token_of_a_session_is_its_own(alice: Browser) -> None:
    with request_of(alice) as session:
        assert session["csrf_token"] == "x"
        del session["csrf_token"]
        assert "csrf_token" not in session
