"""What a page may weigh, and that it brings nothing but its own files (ui.md, "Budgets")."""

import gzip
import re
from collections.abc import Callable
from ipaddress import IPv6Address

from sqlalchemy import select, update

from app.sessions.models import UserSession
from tests.admin.test_exports import people
from tests.browser.pages import furnish, pages_of
from tests.sessions.test_revocation import start
from tests.site import Site

_LINK = re.compile(r'(?:href|src|action|formaction)="([^"]*)"')
_INLINE = re.compile(
    r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+=|javascript:", re.IGNORECASE
)


def test_a_page_of_fifty_sessions_is_small(make_site: Callable[..., Site]) -> None:
    site = make_site()
    people(site, 60)
    start(site, *(f"p{number:05}" for number in range(60)))
    with site.system.ledger.transaction() as tx:
        for row_id in tx.connection.execute(select(UserSession.id)).scalars().all():
            ip = str(IPv6Address(0x20010DB8 << 96 | row_id * 0x9E3779B97F4A7C15))
            tx.connection.execute(update(UserSession).where(UserSession.id == row_id).values(ip=ip))
    page = site.signed_in("ada").get("/admin/sessions")
    assert page.text.count('type="checkbox" name="reference"') == 49
    assert len(gzip.compress(page.data)) <= 30 * 1024


def test_no_page_has_inline_code_or_a_file_of_another_site(site: Site) -> None:
    values = furnish(site)
    ada = site.signed_in("ada")
    seen = 0
    for page in pages_of(site.app, values):
        text = ada.get(page.path, follow_redirects=True).text
        assert not _INLINE.findall(text), page.path
        foreign = [link for link in _LINK.findall(text) if not link.startswith(("/", "#"))]
        assert foreign == [], page.path
        seen += "<h1" in text
    assert seen > 20
