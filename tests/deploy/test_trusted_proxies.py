"""What docs/deploy.md says about TRUSTED_PROXIES, right and wrong (S38)."""

from collections.abc import Callable

import pytest

from tests.site import Site

PROXY, CLIENT, CLAIMED = "10.0.0.2", "198.51.100.7", "203.0.113.7"


def signed_in_from(
    site: Site, forwarded: str, proto: str, origin: str | None
) -> tuple[int, list[str]]:
    """Sign alice in as through one proxy; return the status and the address that was written down."""
    browser = site.browser(ip=PROXY)
    sent = {"HTTP_X_FORWARDED_FOR": forwarded, "HTTP_X_FORWARDED_PROTO": proto}
    browser.client.environ_base |= sent
    token = browser.token("/login")
    if origin is not None:
        browser.client.environ_base["HTTP_ORIGIN"] = origin
    form = {"csrf_token": token, "username": "alice", "password": "correct horse battery staple"}
    status = browser.client.post("/login", data=form).status_code
    return status, [row.ip for row in site.live("alice")]


@pytest.mark.parametrize(
    ("hops", "status", "addresses"),
    [(1, 303, [CLIENT]), (0, 403, []), (2, 403, [])],
    ids=["right", "too few", "too many"],
)
def test_a_wrong_number_shows_at_once_behind_a_proxy_that_replaces(
    make_site: Callable[..., Site], hops, status, addresses
):
    """Browsers send the Origin, and with the wrong number the scheme is not believed."""
    site = make_site(TRUSTED_PROXIES=hops)
    assert signed_in_from(site, CLIENT, "https", "https://localhost") == (status, addresses)


def test_too_few_hops_take_the_proxys_address_for_everybodys(make_site: Callable[..., Site]):
    site = make_site(TRUSTED_PROXIES=0)
    assert signed_in_from(site, CLIENT, "https", None) == (303, [PROXY])


def test_too_many_hops_behind_a_proxy_that_appends_let_the_client_choose(
    make_site: Callable[..., Site],
):
    site = make_site(TRUSTED_PROXIES=2)
    assert signed_in_from(site, f"{CLAIMED}, {CLIENT}", "https", None) == (303, [CLAIMED])
