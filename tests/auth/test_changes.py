"""Changing people ends their sessions in every store, in one transaction with the record of it."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, text

from app.audit.trail import Actor
from app.auth.changes import (
    ChangeRefused,
    change_role,
    create_user,
    disable_user,
    enable_user,
    end_own_other_sessions,
    end_own_session,
    reset_password,
)
from app.people.models import User
from tests.servers import RedisServer
from tests.sessions.helpers import reference_of, with_cookie
from tests.sessions.test_revocation import acting, alive, commanding, start
from tests.site import PASSWORD, Site

CLI = Actor.cli("root")
NEW = "a very uncommon sentence"
MakeSite = Callable[..., Site]

CHANGES: dict[str, tuple[Callable[[int], object], str, str]] = {
    "disabling": (lambda i: disable_user(i, actor=CLI), "user_disabled", "user.disabled"),
    "a new role": (lambda i: change_role(i, "viewer", actor=CLI), "role_changed", "user.role_changed"),
    "a reset password": (
        lambda i: reset_password(i, NEW, actor=CLI), "password_changed", "user.password_reset",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_ends_the_users_sessions_at_the_next_request(any_site: Site, change: str) -> None:
    act, reason, verb = CHANGES[change]
    alice, bob = any_site.signed_in("alice"), any_site.signed_in("bob")
    with commanding(any_site):
        assert act(any_site.user_id("alice")) == 1
    assert not alice.is_signed_in()
    assert bob.is_signed_in()
    row = any_site.rows()[0]
    assert (row.end_reason, row.ended_by) == (reason, "root")
    assert any_site.payload(row) is None
    assert [event.verb for event in any_site.events()[-2:]] == [verb, "session.ended"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_ends_sessions_in_all_stores(make_site: MakeSite, change: str) -> None:
    in_redis = make_site(SESSION_LIMIT=5)
    in_sql = make_site(SESSION_LIMIT=5, SESSION_STORE_BY_ROLE={"member": "sql"})
    start(in_redis, "alice")
    start(in_sql, "alice")
    rows = in_redis.live("alice")
    assert [row.store for row in rows] == ["redis", "sql"]
    with commanding(in_redis):
        assert CHANGES[change][0](in_redis.user_id("alice")) == 2
    assert in_redis.live("alice") == []
    assert [in_redis.payload(row) for row in rows] == [None, None]


@pytest.mark.parametrize("change", CHANGES)
def test_without_its_event_nothing_changes(any_site: Site, change: str) -> None:
    alice = any_site.signed_in("alice")
    before = person(any_site, "alice")
    with any_site.system.ledger.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    with commanding(any_site), pytest.raises(Exception, match="audit_events"):
        CHANGES[change][0](any_site.user_id("alice"))
    assert person(any_site, "alice") == before
    assert alice.is_signed_in()


def person(site: Site, name: str) -> tuple[object, ...]:
    return tuple(site.system.ledger.read(select(User.__table__).where(User.name == name))[0])


@pytest.mark.parametrize("change", CHANGES)
def test_a_silent_store_does_not_keep_a_change_from_denying_at_once(
    site: Site, valkey: RedisServer, change: str
) -> None:
    alice = site.signed_in("alice")
    valkey.kill()
    with commanding(site):
        CHANGES[change][0](site.user_id("alice"))
    assert not alice.is_signed_in()
    assert site.rows()[0].purge_pending


def test_a_disabled_user_cannot_sign_in_and_is_not_told_apart(site: Site) -> None:
    with commanding(site):
        disable_user(site.user_id("alice"), actor=CLI)
    refused = site.browser().sign_in("alice")
    unknown = site.browser().sign_in("nobody")
    assert refused.status_code == unknown.status_code == 422
    assert "The user name or the password is wrong." in refused.text
    assert "The user name or the password is wrong." in unknown.text


def test_an_enabled_user_signs_in_again_and_no_ended_session_comes_back(site: Site) -> None:
    alice = site.signed_in("alice")
    old = alice.cookie or ""
    with commanding(site):
        disable_user(site.user_id("alice"), actor=CLI)
        enable_user(site.user_id("alice"), actor=CLI)
    assert not with_cookie(site, old).is_signed_in()
    assert site.browser().sign_in("alice").status_code == 303


@pytest.mark.admin
def test_a_new_role_counts_from_the_next_sign_in(site: Site) -> None:
    with commanding(site):
        change_role(site.user_id("alice"), "operator", actor=CLI)
    assert site.signed_in("alice").get("/admin/sessions").status_code == 200
    assert [row.store for row in site.live("alice")] == ["sql"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i: disable_user(i, actor=CLI), "last active administrator"),
        (lambda i: change_role(i, "operator", actor=CLI), "last active administrator"),
    ],
    ids=["disabling", "demoting"],
)
def test_the_last_active_administrator_stays(
    any_site: Site, change: Callable[[int], object], said: str
) -> None:
    ada = any_site.signed_in("ada")
    with commanding(any_site), pytest.raises(ChangeRefused, match=said):
        change(any_site.user_id("ada"))
    assert ada.is_signed_in()
    with commanding(any_site):
        change_role(any_site.user_id("bob"), "admin", actor=CLI)
        change(any_site.user_id("ada"))
        with pytest.raises(ChangeRefused, match=said):
            change(any_site.user_id("bob"))


def test_a_disabled_administrator_does_not_count_as_another(site: Site) -> None:
    with commanding(site):
        change_role(site.user_id("bob"), "admin", actor=CLI)
        disable_user(site.user_id("bob"), actor=CLI)
        with pytest.raises(ChangeRefused, match="last active administrator"):
            disable_user(site.user_id("ada"), actor=CLI)


def test_an_operator_disables_members_and_nobody_else(site: Site) -> None:
    ops = site.signed_in("ops")
    with acting(ops) as me:
        disable_user(site.user_id("alice"), actor=me)
        for name in ("vera", "otto", "ada"):
            with pytest.raises(ChangeRefused, match="Only an administrator"):
                disable_user(site.user_id(name), actor=me)
        with pytest.raises(ChangeRefused):
            disable_user(site.user_id("ops"), actor=me)
        for refused in (
            lambda: enable_user(site.user_id("alice"), actor=me),
            lambda: change_role(site.user_id("bob"), "admin", actor=me),
            lambda: reset_password(site.user_id("bob"), NEW, actor=me),
            lambda: create_user("eve", "member", NEW, actor=me),
        ):
            with pytest.raises(ChangeRefused, match="Your role may not do this"):
                refused()
    (event,) = site.events("user.disabled")
    assert (event.actor_name, event.target_name) == ("ops", "alice")


@pytest.mark.parametrize("name", ["alice", "vera", "otto"])
def test_who_may_not_change_people_cannot(site: Site, name: str) -> None:
    with acting(site.signed_in(name)) as me, pytest.raises(ChangeRefused):
        disable_user(site.user_id("bob"), actor=me)
    assert site.events("user.disabled") == []


def test_nobody_disables_oneself(site: Site) -> None:
    with commanding(site):
        change_role(site.user_id("bob"), "admin", actor=CLI)
    with acting(site.signed_in("ada")) as me, pytest.raises(ChangeRefused, match="yourself"):
        disable_user(site.user_id("ada"), actor=me)


@pytest.mark.parametrize(
    "again",
    [
        lambda i: enable_user(i, actor=CLI),
        lambda i: change_role(i, "member", actor=CLI),
        lambda i: (disable_user(i, actor=CLI), disable_user(i, actor=CLI)),
    ],
    ids=["enabling", "the same role", "disabling twice"],
)
def test_a_change_that_is_none_is_refused(site: Site, again: Callable[[int], object]) -> None:
    with commanding(site), pytest.raises(ChangeRefused):
        again(site.user_id("alice"))


def test_a_user_who_does_not_exist_cannot_be_changed(site: Site) -> None:
    for act, _, _ in CHANGES.values():
        with commanding(site), pytest.raises(ChangeRefused, match="no such user"):
            act(4711)


@pytest.mark.parametrize("name", ["Alice", "ALICE", "ａｌｉｃｅ", " alice "])
def test_a_name_that_is_taken_cannot_be_taken_again(any_site: Site, name: str) -> None:
    with commanding(any_site), pytest.raises(ChangeRefused, match="taken"):
        create_user(name, "member", NEW, actor=CLI)


def test_a_created_user_signs_in_with_any_capitals(any_site: Site) -> None:
    with commanding(any_site):
        create_user("Zoë", "member", NEW, actor=CLI)
    assert any_site.browser().sign_in("ZOË", NEW).status_code == 303
    (event,) = any_site.events("user.created")
    assert (event.target_name, event.actor_name) == ("Zoë", "root")
    assert NEW not in str(tuple(event))


@pytest.mark.parametrize(
    ("name", "role", "password", "field"),
    [
        ("", "member", NEW, "username"),
        ("a b", "member", NEW, "username"),
        ("x" * 65, "member", NEW, "username"),
        ("eve", "boss", NEW, "role"),
        ("eve", "member", "short", "password"),
    ],
)
def test_a_user_that_will_not_do_is_refused_at_its_field(
    site: Site, name: str, role: str, password: str, field: str
) -> None:
    with commanding(site), pytest.raises(ChangeRefused) as refused:
        create_user(name, role, password, actor=CLI)
    assert refused.value.field == field
    assert site.events() == []


def test_one_ends_ones_own_other_sessions_and_keeps_this_one(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT=5)
    start(site, "alice", "alice", "bob")
    own = site.signed_in("alice")
    with acting(own):
        assert end_own_other_sessions() == 2
    assert [row.name for row in site.rows() if row.ended_at is None] == ["bob", "alice"]
    assert {row.end_reason for row in site.rows() if row.ended_at} == {"signed_out"}
    assert own.is_signed_in()


def test_one_of_ones_own_other_sessions_is_ended_by_its_reference(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT=5)
    first, second = start(site, "alice", "alice")
    own = site.signed_in("alice")
    with acting(own):
        end_own_session(first)
    assert first not in alive(site)
    assert second in alive(site)


def test_anothers_this_ones_and_an_ended_ones_reference_are_refused(make_site: MakeSite) -> None:
    site = make_site(SESSION_LIMIT=5)
    (bobs,) = start(site, "bob")
    own = site.signed_in("alice")
    this = reference_of(site, "alice")
    with acting(own):
        for reference in (bobs, this, "aaaaaaaaaa", ""):
            with pytest.raises(ChangeRefused, match="none of your other sessions"):
                end_own_session(reference)
    assert alive(site) == {bobs, this}
    page = own.post(f"/account/sessions/{bobs}/end", form="/account/password")
    assert page.status_code == 404
    assert bobs in alive(site)


def test_the_password_of_the_cast_is_what_these_tests_think(site: Site) -> None:
    assert site.browser().sign_in("bob", PASSWORD).status_code == 303
