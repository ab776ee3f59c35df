"""The Flask session interface and session object: the one home of session ids (invariant 5).

Lazy in two steps. Opening makes no call; the first look at who it is asks the ledger; the first look
at the data asks the store. A visitor's data rides in Flask's own signed cookie.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import flask
from blinker import Namespace
from flask import Flask, Request, Response
from flask.globals import request_ctx
from flask.sessions import (
    NullSession,
    SecureCookieSession,
    SecureCookieSessionInterface,
    SessionMixin,
)
from flask_session.base import ServerSideSession, ServerSideSessionInterface
from werkzeug.sansio.http import parse_cookie

from app import metrics
from app.audit.models import Verb
from app.audit.trail import Actor, Event
from app.people.models import Role
from app.sessions.clients import Client
from app.sessions.data import DataMissing, SessionData
from app.sessions.handles import handle_for, new_data_key, new_session_id
from app.sessions.isolation import release_application
from app.sessions.ledger import REQUEST_ID, EndedSession, Ledger, OpenRow, Principal
from app.sessions.mapping import CSRF_KEY, LazyMapping
from app.sessions.models import EndReason
from app.sessions.purge import discard, purge
from app.sessions.store import DataKey, Saved, SessionError, StoreUnavailable, UnreadablePayload
from app.sessions.stores import budget
from app.sessions.system import SessionSystem, system_of
from app.sessions.timeouts import first_ttl, touch_due
from app.sessions.transaction import RowEnded

log = logging.getLogger(__name__)

_UNASKED: Any = object()

unknown_id = Namespace().signal("unknown-session-id")
"""Sent by the application for an id that the ledger does not know, with its `handle` and the `actor`."""


class SessionEnded(SessionError):
    """The session ended between this request's check and its first look at the data."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A session that is being made: its payload is in the store, its row is not in the ledger yet."""

    handle: bytes
    data_key: DataKey
    store: str


@dataclass(frozen=True, slots=True)
class Regeneration:
    """A session's row and the handle of the id that it is about to get."""

    row_id: int
    old: bytes
    new: bytes


class RollcallSession(LazyMapping):
    """`flask.session`: the application's data as a mapping; beside it, who is signed in.

    Raises StoreUnavailable where a server does not answer, SessionEnded where the session just ended.
    """

    # Of the class: every request makes a session, and most look at no more than who it is.
    _row: OpenRow | None = _UNASKED
    _principal: Principal | None = None
    _ended_id: int | None = None
    _data: SessionData | None = None
    _touch_due = False
    _handle = b""
    _new_id: str | None = None
    _forget = False
    _drop_visitor = False

    def __init__(self, app: Flask, request: Request) -> None:
        self._app = app
        self._request = request

    @property
    def _system(self) -> SessionSystem:
        return system_of(self._app)

    @property
    def _ledger(self) -> Ledger:
        return self._system.ledger

    @property
    def client(self) -> Client:
        """Where this request comes from."""
        return Client.of(self._request.remote_addr, self._request.user_agent.string)

    @property
    def sid(self) -> str | None:
        """The session's reference, its public name; None for a visitor. The id is not to be had."""
        return None if self.principal is None else self.principal.reference

    # Who it is

    @property
    def principal(self) -> Principal | None:
        """The person of this live session, or None for a visitor. Asks the ledger once a request."""
        self.accessed = True
        self._ask()
        return self._principal

    @property
    def ended(self) -> EndedSession | None:
        """Why the session that this request's cookie names is no longer live; None if it is, or never was."""
        self.accessed = True
        self._ask()
        return None if self._ended_id is None else self._ledger.ended(self._ended_id)

    @property
    def has_ended(self) -> bool:
        """Say whether the cookie names a session that is no longer live, without asking why."""
        self.accessed = True
        self._ask()
        return self._ended_id is not None

    def forget_ended(self) -> None:
        """Delete the cookie of an ended session with this response: its reason has been shown."""
        self._forget = self._forget or self.has_ended

    @property
    def row_id(self) -> int | None:
        """The ledger's id of this live session."""
        self._ask()
        return None if self._row is None else int(self._row.id)

    def _ask(self) -> None:
        if self._row is not _UNASKED:
            return
        cookies = parse_cookie(self._request.environ.get("HTTP_COOKIE"))
        cookie = cookies.get(self._app.config["SESSION_COOKIE_NAME"], "")
        handle = handle_for(cookie)
        row = None if handle is None else self._ledger.open(handle)
        self._handle = handle or b""
        if row is None or not row.live:
            self._row = None
            self._ended_id = None if row is None else row.id
        else:
            self._be(row)
        if handle is not None and row is None:
            metrics.add(metrics.UNKNOWN_IDS)
            unknown_id.send(self._app, handle=handle, actor=self._visitor())

    def _be(self, row: OpenRow, *, fresh: bool = False) -> None:
        interval = self._system.policy.touch_interval
        due = touch_due(row.now, row.last_seen_at, interval) and not fresh
        self._touch_due = due and not _is_passive(self._app, self._request)
        self._row = row
        self._ended_id = None
        self._data = SessionData(self._system, row, extend=self._touch_due)
        self._principal = Principal(
            row.user_id,
            row.name,
            Role(row.role),
            row.reference,
            row.started_at,
            row.stepped_up_at,
            row.last_seen_at,
            row.idle_expires_at,
            row.absolute_expires_at,
            row.now,
            row.new_password_required,
        )

    # What it holds

    def _fetch(self) -> dict[str, Any]:
        self._ask()
        return self._visitor_data() if self._data is None else self._stored_data(self._data)

    def _is_visitor(self) -> bool:
        return self._data is None

    def _visitor_data(self) -> dict[str, Any]:
        visitors = self._app.session_interface.visitors  # type: ignore[attr-defined]
        return dict(visitors.open_session(self._app, self._request) or {})

    def _stored_data(self, data: SessionData) -> dict[str, Any]:
        try:
            return data.load()
        except DataMissing:
            self._raise_if_ended()
            raise
        except UnreadablePayload as error:
            self._end_damaged(str(error))
            raise SessionEnded("its data could not be read") from error

    def _raise_if_ended(self) -> None:
        """Ask again: the data of a session that ended meanwhile is gone rightly."""
        row = self._ledger.reopen(self._row.id) if self._row is not None else None
        if row is None or not row.live:
            self._end_here()
            raise SessionEnded("it ended while this request ran")

    def _end_damaged(self, detail: str) -> None:
        if self._row is None:
            return
        with self._ledger.transaction() as tx:
            tx.lock_users([self._row.user_id])
            ended = tx.end([self._row.id], EndReason.DAMAGED, Actor.system(), Verb.DAMAGED)
        log.warning("session_damaged reference=%s detail=%s", self._row.reference, detail)
        purge(self._system, ended)
        self._end_here()

    def _overtaken(self) -> None:
        """This request's id is nobody's any more: its session ended, or another request regenerated it."""
        row = self._ledger.reopen(self._row.id) if self._row is not None else None
        self._end_here()
        if row is not None and row.live:
            self._ended_id = None

    def _end_here(self) -> None:
        self._ended_id = None if self._row is None else self._row.id
        self._become_visitor()
        self._loaded = False

    def _become_visitor(self) -> None:
        dict.clear(self)
        self._row = self._data = self._principal = self._new_id = None
        self._loaded = True
        self.modified = False

    # What sign-in, sign-out and regeneration need

    @contextmanager
    def begin(self, role: str) -> Iterator[Draft]:
        """Make a session: the block writes its row in a transaction, or raises, which undoes it.

        The payload is created before the block, so that no store is called under the user's lock.
        """
        system = self._system
        policy = system.policy.of(role)
        carried = self._visitor_data() if self.principal is None else {}
        data = {key: carried[key] for key in (*system.carry_over, "_permanent") if key in carried}
        data[CSRF_KEY] = secrets.token_urlsafe(24)
        session_id = new_session_id()
        draft = Draft(_handle(session_id), new_data_key(), policy.store)
        payload = system.codec.encode(data)
        system.stores[draft.store].create(draft.data_key, payload, first_ttl(policy))
        try:
            yield draft
        except BaseException:
            discard(system, draft.store, draft.data_key)
            raise
        self._become_visitor()
        self._new_id = session_id
        self._drop_visitor = True
        self._row, self._loaded = _UNASKED, False
        self._handle = draft.handle
        row = self._ledger.open(draft.handle)
        if row is None:
            raise SessionEnded("its row is not in the ledger")
        self._be(row, fresh=True)
        dict.update(self, data)
        self._loaded = True

    @contextmanager
    def regenerating(self) -> Iterator[Regeneration]:
        """Give this session a new id: the block changes its row; the cookie follows if it ends well."""
        if self.principal is None or self._row is None:
            raise SessionEnded("there is no session to regenerate")
        self._load()
        session_id = new_session_id()
        try:
            yield Regeneration(self._row.id, self._handle, _handle(session_id))
        except RowEnded as error:
            self._overtaken()
            raise SessionEnded("it ended, or got another id, while this request ran") from error
        self._new_id, self._handle = session_id, _handle(session_id)
        row = self._ledger.reopen(self._row.id)
        if row is not None and row.live:
            data = self._data
            self._be(row, fresh=not self._touch_due)
            self._data = data

    def leave(self) -> None:
        """Be nobody's from here on and delete both cookies: the session has been ended."""
        self._become_visitor()
        self._forget = self._drop_visitor = True

    def regenerate(self) -> None:
        """Give this session a new id, recorded in the trail."""
        with self.regenerating() as change, self._ledger.transaction() as tx:
            row = tx.rehandle(change.row_id, change.old, change.new)
            event = Event(Verb.REGENERATED, row.user_id, row.name, row.reference)
            tx.record(self.actor(), [event])

    def actor(self) -> Actor:
        """Return who acts in this request, for the trail: its person, or a visitor."""
        return self._visitor() if self.principal is None else self.principal.actor()

    def _visitor(self) -> Actor:
        request_id = self._request.environ.get(REQUEST_ID)
        return Actor("visitor", "", ip=self.client.ip, request_id=request_id)

    # At the end of the request

    def finish(self) -> None:
        """Save what changed, then move the deadline if it is due. Raises StoreUnavailable."""
        if self._data is None or self._row is None or self._row is _UNASKED:
            return
        if self.modified and self._loaded:
            release_application()
            try:
                if self._data.save(dict(self)) is Saved.GONE:
                    self._refuse_to_drop()
            except UnreadablePayload as error:
                self._end_damaged(str(error))
                return
        if self._touch_due:
            release_application()
            self._touch()

    def write_cookies(self, interface: "RollcallSessionInterface", response: Response) -> None:
        """Set or delete cookies: the session's by the response that made its id, and by no other."""
        if self._new_id is None and not self._forget and not self._drop_visitor:
            return
        attributes = interface.cookie_attributes(self._app)
        name = interface.get_cookie_name(self._app)
        if self._new_id is not None:
            expires = None
            if self._principal is not None and dict.get(self, "_permanent"):
                expires = self._principal.absolute_expires_at
            response.set_cookie(name, self._new_id, expires=expires, **attributes)
        elif self._forget:
            response.delete_cookie(name, **attributes)
            # Chromium keeps even no-store pages for its back button, until it is told not to.
            response.headers["Clear-Site-Data"] = '"cache"'
        visitors = interface.visitors
        dropped = self._drop_visitor and self._visitor_cookie(interface) is None
        if dropped and visitors.get_cookie_name(self._app) in self._request.cookies:
            response.delete_cookie(visitors.get_cookie_name(self._app), **attributes)

    def write_visitor_cookie(
        self, interface: "RollcallSessionInterface", response: Response
    ) -> None:
        """Put a visitor's data into Flask's own cookie. Raises TypeError for what JSON does not hold."""
        cookie = self._visitor_cookie(interface)
        if cookie is not None:
            interface.visitors.save_session(self._app, cookie, response)

    def _visitor_cookie(self, interface: "RollcallSessionInterface") -> SecureCookieSession | None:
        """Return what Flask would send now: what changed, or what is permanent and is kept alive."""
        if not self._is_visitor() or not self._loaded:
            return None
        cookie = SecureCookieSession(dict(self))
        cookie.modified = self.modified
        return cookie if interface.visitors.should_set_cookie(self._app, cookie) else None

    def changed_too_late(self) -> None:
        """Say in the log, once a request, that a stream or a teardown changes what was saved before."""
        self.on_update = LazyMapping.on_update
        self._changed()
        log.warning("session_changed_after_response path=%r", self._request.path)

    def _refuse_to_drop(self) -> None:
        """A write to a session that has ended is dropped rightly; one to a live session never silently."""
        row = self._ledger.reopen(self._row.id) if self._row is not None else None
        if row is not None and row.live:
            raise DataMissing(row.store)

    def _touch(self) -> None:
        assert self._row is not None
        assert self._data is not None
        try:
            with budget.half():
                self._data.extend()
        except StoreUnavailable as error:
            log.warning("touch_without_store store=%s", error.store)
        policy = self._system.policy
        try:
            idle = policy.of(self._row.role).idle
            self._ledger.touch(self._row, idle, policy.touch_interval, self.client)
        except StoreUnavailable as error:
            log.warning("touch_skipped store=%s detail=%s", error.store, error.detail)


def _handle(session_id: str) -> bytes:
    handle = handle_for(session_id)
    assert handle is not None
    return handle


def _is_passive(app: Flask, request: Request) -> bool:
    if request.headers.get("X-Passive") == "1":
        return True
    view = app.view_functions.get(request.endpoint or "")
    return getattr(view, "is_passive", False) or request.endpoint == "static"


class _NoKeySession(NullSession):
    """Flask's null session: without a key everybody is a visitor, and what would write raises."""

    principal = ended = sid = row_id = None
    has_ended = False
    client = property(NullSession.clear)


class _Visitors(SecureCookieSessionInterface):
    """Flask's signed cookie under the visitors' own name."""

    def get_cookie_name(self, app: Flask) -> str:
        return str(app.config["VISITOR_COOKIE_NAME"])


session = cast(RollcallSession, flask.session)
"""`flask.session`, typed: the same proxy."""


class RollcallSessionInterface(ServerSideSessionInterface):  # type: ignore[misc]
    """Opens and saves RollcallSession. Flask-Session's abstract methods are replaced by SessionStore."""

    session_class = RollcallSession
    null_session_class = _NoKeySession

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.key_prefix = app.config["SESSION_KEY_PREFIX"]
        self.visitors = _Visitors()

    def open_session(self, app: Flask, request: Request) -> RollcallSession | None:
        """Return the session object without any I/O; None without a secret key, as Flask does."""
        return RollcallSession(app, request) if app.secret_key else None

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Save and set cookies. What fails here turns the response into the 503 or the 500 page."""
        opened = cast(RollcallSession, session)
        opened.on_update = RollcallSession.changed_too_late
        if not opened.accessed and not opened.modified:
            return
        if "Vary" in response.headers:
            response.vary.add("Cookie")
        else:
            response.headers["Vary"] = "Cookie"
        try:
            opened.finish()
            opened.write_visitor_cookie(self, response)
        except (StoreUnavailable, TypeError, ValueError) as error:
            if request_ctx._session is not opened:
                raise
            _replace(response, app.make_response(app.handle_user_exception(error)))
        opened.write_cookies(self, response)

    def regenerate(self, session: ServerSideSession) -> None:
        """Give a signed-in session a new id, like Flask-Session's method of this name. A visitor has none."""
        assert isinstance(session, RollcallSession)
        if session.principal is not None:
            session.regenerate()

    def cookie_attributes(self, app: Flask) -> dict[str, Any]:
        """Return what a cookie is set and deleted with: a deletion that differs is ignored by browsers."""
        return {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }

    def _replaced(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("replaced by app.sessions.store.SessionStore: see docs/decisions.md")

    _retrieve_session_data = _delete_session = _upsert_session = _replaced


def _describes_content(name: str) -> bool:
    return name in ("location", "etag", "last-modified") or (
        name.startswith("content-") and not name.startswith("content-security-policy")
    )


def _replace(response: Response, by: Response) -> None:
    """Turn a finished response into another, keeping the headers that do not describe its content."""
    response.status_code = by.status_code
    response.response = by.response
    for name in {name for name, _ in response.headers if _describes_content(name.lower())}:
        response.headers.remove(name)
    for name, value in by.headers.items():
        if name.lower() not in ("vary", "set-cookie"):
            response.headers[name] = value


def init_app(app: Flask) -> None:
    """Make Flask open and save its sessions here."""
    app.session_interface = RollcallSessionInterface(app)
