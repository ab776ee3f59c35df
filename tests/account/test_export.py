"""One's own sessions as JSON and CSV say no more of how they ended than the page does."""

import pytest

from tests.site import Site

NOTE = "watched since Monday, do not warn"


@pytest.mark.admin
@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("told", [True, False])
def test_the_operator_s_note_is_there_only_if_it_was_for_the_user(
    site: Site, form: str, told: bool
) -> None:
    site.signed_in("alice")
    (row,) = site.live("alice")
    more = {"tell_user": "y"} if told else {}
    site.signed_in("ops").revoke(row.reference, note=NOTE, **more)
    mine = site.signed_in("alice").get(f"/account/sessions?format={form}").text
    assert row.reference in mine
    assert (NOTE in mine) is told
    for each in site.rows():
        mine = mine.replace(each.reference, "")
    assert "ops" not in mine
