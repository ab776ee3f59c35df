"""Changes to people: offered, shown and made only to whom one may make them; a refusal is recorded."""

import json

import pytest

from tests.site import Site

CHANGES = ["role", "password", "require", "disable", "enable"]


def refused(site: Site) -> list[tuple[str, str]]:
    found = [json.loads(event.details) for event in site.events("access.refused")]
    return [(details["method"], details["path"]) for details in found]


@pytest.mark.parametrize("action", ["role", "password", "require", "enable"])
def test_an_operator_sees_no_form_of_an_administrator_and_the_refusal_is_recorded(
    site: Site, action: str
) -> None:
    page = f"/admin/users/{site.user_id('alice')}/{action}"
    response = site.signed_in("ops").get(page)
    assert response.status_code == 403
    assert "Only an administrator may do this." in response.text
    assert f'action="{page}"' not in response.text
    assert refused(site) == [("GET", page)]
    (event,) = site.events("access.refused")
    assert (event.actor_name, event.result) == ("ops", "refused")


def test_an_operator_disables_members_and_no_staff(site: Site) -> None:
    ops = site.signed_in("ops")
    page = f"/admin/users/{site.user_id('vera')}/disable"
    response = ops.get(page)
    assert response.status_code == 403
    assert "Only an administrator may do this to staff." in response.text
    assert ops.post(page, form="/account/sessions").status_code == 403
    assert refused(site) == [("GET", page), ("POST", page)]
    assert ops.post(f"/admin/users/{site.user_id('alice')}/disable").status_code == 303


@pytest.mark.parametrize("action", CHANGES)
def test_nobody_changes_oneself(site: Site, action: str) -> None:
    ada = site.signed_in("ada")
    page = f"/admin/users/{site.user_id('ada')}/{action}"
    assert ada.get(page).status_code == 403
    assert ada.post(page, {"role": "member"}, form="/account/sessions").status_code == 403
    assert len(site.live("ada")) == 1
    assert len(refused(site)) == 2


def test_what_is_done_already_is_not_offered(site: Site) -> None:
    ada = site.signed_in("ada")
    page = f"/admin/users/{site.user_id('alice')}/enable"
    response = ada.get(page)
    assert response.status_code == 404
    assert "somebody has done it already" in response.text
    assert refused(site) == []


def test_a_revocation_that_is_not_permitted_is_recorded(site: Site) -> None:
    response = site.signed_in("ops").post(
        "/admin/revocations?state=live", {"all_matching": "1"}, form="/account/sessions"
    )
    assert response.status_code == 403
    assert refused(site) == [("POST", "/admin/revocations")]
