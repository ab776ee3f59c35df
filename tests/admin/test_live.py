"""An open list asks whether what its filter finds has changed, and extends nobody's session by it."""

from sqlalchemy import update

from app.audit.models import Verb
from app.audit.trail import Actor
from app.sessions import upkeep
from app.sessions.changed import Seen, changed_since, seen_now
from app.sessions.filter import SessionFilter
from app.sessions.models import EndReason, UserSession
from app.sessions.revocation import revoke
from tests.processes.web import in_background
from tests.sessions.test_revocation import commanding, start
from tests.site import CHROME, Site, clock_moved


def test_a_list_changes_when_a_session_that_fits_begins_ends_or_changes_its_client(
    any_site: Site,
) -> None:
    alice = any_site.signed_in("alice")
    lists = {
        "live": SessionFilter(),
        "of members": SessionFilter(role="member"),
        "of vera": SessionFilter(user="vera"),
        "ended": SessionFilter(state="ended"),
    }
    with commanding(any_site):
        since = seen_now()

    def changed() -> set[str]:
        nonlocal since
        with commanding(any_site):
            found = {name: changed_since(where, since) for name, where in lists.items()}
            since = seen_now()
        assert {newest for _changed, newest in found.values()} == {since}
        return {name for name, (changed, _newest) in found.items() if changed}

    assert changed() == set()
    (vera,) = start(any_site, "vera")
    assert changed() == {"live", "of vera"}
    assert changed() == set()
    with clock_moved(120):
        assert alice.is_signed_in()
        assert changed() == set(), "to be seen again is no change"
        alice.get("/", headers={"User-Agent": CHROME})
    with clock_moved(240):
        alice.get("/", headers={"User-Agent": CHROME})
    assert changed() == {"live", "of members"}
    with commanding(any_site):
        revoke([vera], actor=Actor.cli("root"), reason="policy")
    assert changed() == {"live", "of vera", "ended"}


def test_the_overdue_change_when_one_of_them_is_recorded_and_not_when_somebody_signs_out(
    site: Site,
) -> None:
    alice = site.signed_in("alice")
    start(site, "vera")

    def changed(since: Seen) -> bool:
        with commanding(site):
            return changed_since(SessionFilter(state="overdue"), since)[0]

    with clock_moved(1021):
        with commanding(site):
            since = seen_now()
        alice.post("/logout", form="/account/sessions")
        assert not site.live("alice")
        assert not changed(since)
        with site.app.app_context():
            upkeep.run(site.system)
        assert changed(since), "vera's time was over after 900 seconds"


def test_what_appears_after_events_with_higher_ids_is_not_missed(shared_site: Site) -> None:
    (alice, _vera) = start(shared_site, "alice", "vera")
    lists = {"live": SessionFilter(), "of vera": SessionFilter(user="vera")}

    def changed() -> set[str]:
        with commanding(shared_site):
            found = {name: changed_since(where, seen[name]) for name, where in lists.items()}
        seen.update({name: newest for name, (_changed, newest) in found.items()})
        return {name for name, (changed, _newest) in found.items() if changed}

    (row,) = [row for row in shared_site.rows() if row.reference == alice]
    with shared_site.system.ledger.transaction() as tx:
        tx.end([row.id], EndReason.REVOKED, Actor.cli("root"), Verb.REVOKED)
        in_background(lambda: start(shared_site, "bob")).result(10)
        with commanding(shared_site):
            seen = dict.fromkeys(lists, Seen.from_text(str(seen_now())))
        assert changed() == set(), "bob is on the page already, and alice is still"
    assert changed() == {"live"}
    assert changed() == set()


def test_the_page_asks_from_its_own_moment_on_and_extends_nothing(site: Site) -> None:
    vera = site.signed_in("vera")
    page = vera.get("/admin/sessions?role=member").text
    asks = page.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")
    assert vera.get(asks).json["changed"] is False
    site.signed_in("alice")
    answer = vera.get(asks).json
    assert answer["changed"] is True
    later = asks.partition("since=")[0] + f"since={answer['since']}"
    assert vera.get(later).json == {"changed": False, "since": answer["since"]}

    seen = site.live("vera")[0].last_seen_at
    with clock_moved(600):
        assert vera.get(asks).status_code == 200
    assert site.live("vera")[0].last_seen_at == seen
    with site.system.ledger.transaction() as tx:
        tx.connection.execute(update(UserSession).values(idle_expires_at=seen))
    assert vera.get(asks, headers={"X-Passive": "1"}).status_code == 401


def test_who_may_not_see_the_list_is_not_told_of_its_changes(site: Site) -> None:
    asks = "/admin/sessions/changes?since=0"
    assert site.signed_in("alice").get(asks).status_code == 403
    vera = site.signed_in("vera")
    for query in ("", "&store=tape", "&usr=alice", "&since=x", "&since=9.4-5.7"):
        given = asks if query and "since" not in query else asks.replace("since=0", "")
        path = given + query
        assert vera.get(path).status_code == 400, path
