"""What we inherit from Flask-Session, so that a release which changes it is noticed (docs/decisions.md)."""

import inspect

import pytest
from flask import session
from flask_session.base import ServerSideSession, ServerSideSessionInterface

from app.sessions.interface import RollcallSession, RollcallSessionInterface
from app.sessions.mapping import LazyMapping
from tests.site import Site

SESSION = {"__bool__", "__init__", "__getitem__", "get", "setdefault", "clear"}
INTERFACE = {
    "__init__",
    "_generate_sid",
    "_get_signer",
    "_unsign",
    "_sign",
    "_get_store_id",
    "should_set_storage",
    "_register_cleanup_app_command",
    "_cleanup_n_requests",
    "regenerate",
    "save_session",
    "open_session",
    "_retrieve_session_data",
    "_delete_session",
    "_upsert_session",
    "_delete_expired_sessions",
}


def defined(of: type) -> set[str]:
    return {name for name, value in vars(of).items() if inspect.isfunction(value)}


def test_upstream_defines_what_we_know_of_and_nothing_else():
    assert defined(ServerSideSession) == SESSION
    assert defined(ServerSideSessionInterface) == INTERFACE


def test_we_inherit_only_truth_from_the_session():
    ours = defined(LazyMapping) | defined(RollcallSession)
    assert SESSION - ours == {"__bool__"}


def test_everything_of_the_interface_that_touches_a_session_is_replaced():
    replaced = {"open_session", "save_session", "regenerate", "__init__"}
    assert replaced <= defined(RollcallSessionInterface)
    assert ServerSideSessionInterface.__abstractmethods__ == {
        "_retrieve_session_data",
        "_delete_session",
        "_upsert_session",
    }


def test_the_replaced_methods_name_what_to_use_instead(site: Site):
    interface = site.app.session_interface
    assert isinstance(interface, ServerSideSessionInterface)
    for name in ServerSideSessionInterface.__abstractmethods__:
        with pytest.raises(TypeError, match="SessionStore"):
            getattr(interface, name)("key")


def test_code_written_for_flask_session_recognises_session_and_interface(site: Site):
    with site.app.test_request_context():
        assert isinstance(session._get_current_object(), ServerSideSession)
