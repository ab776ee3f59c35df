"""What code written for Flask and Flask-Session relies on goes on working, and upstream is watched."""

import inspect

import pytest
from flask import Flask, session
from flask.sessions import SessionInterface, SessionMixin
from flask_login import current_user
from flask_session import base
from flask_session.base import ServerSideSession, ServerSideSessionInterface

from app.sessions.interface import RollcallSession, RollcallSessionInterface
from tests.sessions.helpers import add_view
from tests.site import Site


def test_the_interface_is_flask_sessions_kind(site: Site) -> None:
    interface = site.app.session_interface
    assert isinstance(interface, ServerSideSessionInterface)
    assert isinstance(interface, SessionInterface)
    assert issubclass(interface.session_class, ServerSideSession)
    assert issubclass(RollcallSession, SessionMixin)


@pytest.mark.parametrize("name", ["_retrieve_session_data", "_delete_session", "_upsert_session"])
def test_what_is_replaced_says_by_what(site: Site, name: str) -> None:
    with pytest.raises(TypeError, match="SessionStore"):
        getattr(site.app.session_interface, name)("a key")


def test_upstream_still_has_what_is_inherited_or_replaced() -> None:
    """When this fails, Flask-Session changed: read its changes, then docs/decisions.md."""
    interface = {
        name
        for name, value in vars(ServerSideSessionInterface).items()
        if inspect.isfunction(value)
    }
    assert interface == {
        "__init__",
        "_cleanup_n_requests",
        "_delete_expired_sessions",
        "_delete_session",
        "_generate_sid",
        "_get_signer",
        "_get_store_id",
        "_register_cleanup_app_command",
        "_retrieve_session_data",
        "_sign",
        "_unsign",
        "_upsert_session",
        "open_session",
        "regenerate",
        "save_session",
        "should_set_storage",
    }
    assert list(inspect.signature(ServerSideSessionInterface.regenerate).parameters) == [
        "self",
        "session",
    ]
    held = inspect.signature(ServerSideSession.__init__).parameters
    assert list(held) == ["self", "initial", "sid", "permanent"]
    assert hasattr(base, "ServerSideSession")


def test_each_thing_of_upstreams_session_object_is_ours() -> None:
    public = {name for name in vars(ServerSideSession) if not name.startswith("_")}
    assert public <= set(dir(RollcallSession))


def test_opening_a_session_does_no_io(site: Site) -> None:
    site.system.close()
    with site.app.test_request_context("/", headers={"Cookie": f"session={'A' * 43}"}):
        opened = site.app.session_interface.open_session(site.app, request_of(site.app))
        assert isinstance(opened, RollcallSession)
        assert not opened.accessed


def request_of(app: Flask) -> object:
    from flask import request

    return request._get_current_object()  # type: ignore[attr-defined]


def test_many_applications_live_in_one_process(make_site: object) -> None:
    one, two = make_site(), make_site(SESSION_LIMIT=2)  # type: ignore[operator]
    assert one.system is not two.system
    assert one.app.session_interface is not two.app.session_interface
    assert isinstance(two.app.session_interface, RollcallSessionInterface)
    assert one.signed_in("alice").is_signed_in()
    assert two.signed_in("alice").is_signed_in()
    assert two.system.policy.of("member").limit == 2


def test_flask_logins_current_user_is_the_ledgers_principal(site: Site) -> None:
    def look() -> str:
        assert current_user.is_authenticated
        assert current_user.is_active
        assert not current_user.is_anonymous
        assert current_user.get_id() == str(site.user_id("alice"))
        return f"{current_user.name} {session.sid == current_user.reference}"  # type: ignore[attr-defined]

    add_view(site, "/look", look)
    assert site.signed_in("alice").get("/look").text == "alice True"


def test_the_principal_cannot_be_changed_by_a_view(site: Site) -> None:
    def change() -> str:
        with pytest.raises(AttributeError):
            current_user.role = "admin"
        return "refused"

    add_view(site, "/change", change)
    assert site.signed_in("alice").get("/change").text == "refused"


def test_permanent_new_and_modified_read_as_in_flask(site: Site) -> None:
    def look() -> str:
        assert session.permanent is False
        session.permanent = True
        assert session.permanent is True
        assert session.modified
        return "looked"

    add_view(site, "/look", look)
    assert site.signed_in("alice").get("/look").text == "looked"
    assert site.browser().get("/look").text == "looked"


def test_a_stream_may_read_the_session_it_began_with(site: Site) -> None:
    from flask import stream_with_context

    def stream() -> object:
        def chunks() -> object:
            yield "a"
            yield str(current_user.name)

        return site.app.response_class(stream_with_context(chunks()))  # type: ignore[arg-type]

    add_view(site, "/stream", stream)
    with site.signed_in("alice").get("/stream") as response:
        assert response.text == "aalice"
