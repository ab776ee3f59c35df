"""`flask sessions`: list, show and revoke sessions, and do one worker pass by hand."""

import json
from dataclasses import asdict

import click
from click import ClickException
from flask.cli import AppGroup

from app.audit.trail import Actor
from app.cli.helpers import operator, readable_errors
from app.listing import session_record
from app.sessions import revocation, rows, search, upkeep
from app.sessions.filter import STATES, FilterError, SessionFilter
from app.sessions.freeze import Frozen, NothingToRevoke, Targets, freeze, review
from app.sessions.models import RevocationReason
from app.sessions.receipt import COUNTS
from app.sessions.system import system

group = AppGroup("sessions", help="List, show and revoke sessions.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_reasons = click.Choice([reason.value for reason in RevocationReason])


@group.command("list")
@click.argument("words", nargs=-1, metavar="[SEARCH...]")
@click.option("--state", type=click.Choice(STATES), help="Live ones unless said otherwise.")
@click.option("--user", help="The name of the user.")
@click.option("--ip", help="An address or a network, as 10.31.0.0/16.")
@click.option("--store", help="The name of the store.")
@click.option("--limit", type=click.IntRange(1, search.LONGEST_PAGE), default=50)
@_as_json
def list_sessions(words: tuple[str, ...], limit: int, as_json: bool, **where: str | None) -> None:
    """List sessions, newest activity first.

    SEARCH is what the search box of the site takes: 'user:alice idle:>20m'.
    """
    with readable_errors():
        try:
            where["q"] = " ".join(words)
            given = {name: value for name, value in where.items() if value}
            page = search.find(SessionFilter.from_query(given), limit=limit)
        except FilterError as error:
            raise ClickException(error.message) from None
    if as_json:
        rows = [session_record(row) for row in page.rows]
        silent = list(page.unavailable)
        click.echo(json.dumps({"sessions": rows, "total": page.total, "unavailable": silent}))
        return
    if page.rows:
        # Beside the rows, not among them: what is piped on is rows alone.
        click.echo(_row("reference", "user", "status", "store", "last seen", "from"), err=True)
    for row in page.rows:
        seen = row.last_seen_at.strftime("%Y-%m-%d %H:%M:%SZ")
        click.echo(_row(row.reference, row.user, row.status, row.store, seen, row.ip))
    click.echo(f"{len(page.rows)} of {page.total}", err=True)
    for name in page.unavailable:
        click.echo(f"{name} did not answer: whether its data is there was not checked.", err=True)


def _row(reference: str, user: str, status: str, store: str, seen: str, ip: str) -> str:
    return f"{reference:<10}  {user:<20} {status:<9} {store:<6} {seen:<20}  {ip}"


@group.command()
@click.argument("reference")
@_as_json
def show(reference: str, as_json: bool) -> None:
    """Show the session REFERENCE."""
    with readable_errors():
        row = rows.get(reference)
    if row is None:
        raise ClickException(f"There is no session {reference!r}.")
    record = session_record(row)
    if as_json:
        click.echo(json.dumps(record))
        return
    for name, value in record.items():
        click.echo(f"{name:<20} {'' if value is None else value}".rstrip())


@group.command()
@click.argument("references", nargs=-1, metavar="[REFERENCE...]")
@click.option("--all", "everyone", is_flag=True, help="Every live session: sign everyone out.")
@click.option("--yes", is_flag=True, help="With --all: do not ask for the count.")
@click.option("--reason", type=_reasons, required=True)
@click.option("--note", default="", help="Kept in the trail.")
@click.option("--tell-user", is_flag=True, help="Show the note to the person it hits.")
@click.option("--new-password", is_flag=True, help="Require a new password of whom it hits.")
@_as_json
def revoke(
    references: tuple[str, ...],
    everyone: bool,
    yes: bool,
    reason: str,
    note: str,
    tell_user: bool,
    new_password: bool,
    as_json: bool,
) -> None:
    """End the sessions REFERENCE..., purge their data and read back.

    With --all every session, administrators' too: it shows what that touches and asks for the count.
    Exit code 3: they are ended, but data is still there or waits for a silent store.
    """
    if everyone == bool(references):
        raise click.UsageError("Name the sessions by REFERENCE, or all of them by --all, not both.")
    if yes and not everyone:
        raise click.UsageError("--yes goes with --all.")
    with readable_errors():
        by = operator()
        targets = _everyone(by, ask=not yes) if everyone else _known(references)
        done = None
        if targets:
            done = revocation.revoke(
                targets,
                actor=by,
                reason=reason,
                note=note,
                tell=tell_user,
                new_password=new_password,
            )
    counts = dict.fromkeys(COUNTS, 0) if done is None else done.counts()
    if as_json:
        click.echo(json.dumps(counts))
    else:
        click.echo(", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in counts.items()))
    if done and (done.purge_pending or done.present):
        raise SystemExit(3)


def _known(references: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [each for each in references if rows.get(each) is None]
    if unknown:
        raise ClickException(f"No such session, nothing was ended: {', '.join(unknown)}")
    return references


def _everyone(by: Actor, *, ask: bool) -> Frozen | None:
    """Freeze all live sessions, say on stderr what that touches, and ask; None if nobody is signed in."""
    try:
        frozen = freeze(Targets(everyone=True), actor=by)
    except NothingToRevoke:
        click.echo("Nobody is signed in.", err=True)
        return None
    touched = review(frozen.id, actor=by)
    assert touched is not None
    stores = ", ".join(f"{store} {count}" for store, count in sorted(touched.by_store.items()))
    users = "" if touched.users is None else f"Users: {touched.users}. "
    click.echo(
        f"Sessions: {touched.count} ({stores}). {users}"
        f"Staff's: {touched.staff}, of them administrators': {touched.admins}.",
        err=True,
    )
    if ask and click.prompt("Type the number of sessions to end them", err=True) != str(
        frozen.size
    ):
        raise ClickException("That is not the number of sessions. Nothing was ended.")
    return frozen


@group.command()
@_as_json
def sweep(as_json: bool) -> None:
    """Do one worker pass: expire, purge, look for lost data."""
    with readable_errors():
        revocation.resume(system)
        done = upkeep.run(system)
    result = asdict(done)
    if as_json:
        click.echo(json.dumps(result))
    else:
        for name, value in result.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' '):<14} {shown}".rstrip())
    if done.alarms:
        raise SystemExit(3)
