"""`flask users`: create people, change them, and let a locked-out administrator back in."""

import sys

import click
from click import ClickException
from flask.cli import AppGroup
from sqlalchemy import select

from app.auth import changes
from app.cli.helpers import operator, readable_errors
from app.people.models import Role, User
from app.people.names import name_key
from app.sessions.system import system

group = AppGroup("users", help="Create people and change them.")
_roles = click.Choice([role.value for role in Role])
_from_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


@group.command()
@click.argument("name")
@click.option("--role", type=_roles, default=Role.MEMBER.value, show_default=True)
@_from_stdin
def create(name: str, role: str, password_stdin: bool) -> None:
    """Create the user NAME. Asks for the password unless it comes from standard input."""
    with readable_errors():
        changes.create_user(name, role, _password(password_stdin), actor=operator())
    click.echo(f"Created {name} as {role}.")


@group.command()
@click.argument("name")
def disable(name: str) -> None:
    """Forbid NAME to sign in, and end all sessions."""
    with readable_errors():
        ended = changes.disable_user(_id(name), actor=operator())
    click.echo(f"Disabled {name}. Sessions ended: {ended}.")


@group.command()
@click.argument("name")
def enable(name: str) -> None:
    """Allow NAME to sign in again."""
    with readable_errors():
        changes.enable_user(_id(name), actor=operator())
    click.echo(f"Enabled {name}.")


@group.command()
@click.argument("name")
@click.argument("role", type=_roles)
def role(name: str, role: str) -> None:
    """Give NAME the role ROLE, and end all sessions."""
    with readable_errors():
        ended = changes.change_role(_id(name), role, actor=operator())
    click.echo(f"{name} is {role} now. Sessions ended: {ended}.")


@group.command()
@click.argument("name")
@_from_stdin
@click.option("--require", is_flag=True, help="Give none: NAME has to choose at the next sign-in.")
def password(name: str, password_stdin: bool, require: bool) -> None:
    """Give NAME another password, or require NAME to choose one, and end all sessions."""
    if require and password_stdin:
        raise click.UsageError("Give a password or require one, not both.")
    with readable_errors():
        user_id = _id(name)
        if require:
            ended = changes.require_new_password(user_id, actor=operator())
            click.echo(f"{name} has to choose a new password. Sessions ended: {ended}.")
            return
        ended = changes.reset_password(user_id, _password(password_stdin), actor=operator())
    click.echo(f"Changed the password of {name}. Sessions ended: {ended}.")


@group.command("list")
def list_users() -> None:
    """List everybody."""
    with readable_errors():
        rows = system.ledger.read(select(User.name, User.role, User.active).order_by(User.name_key))
    for row in rows:
        click.echo(f"{row.name:<32} {row.role:<10} {'' if row.active else 'disabled'}".rstrip())


def _id(name: str) -> int:
    rows = system.ledger.read(select(User.id).where(User.name_key == name_key(name)))
    if not rows:
        raise ClickException(f"There is no user {name!r}. `flask users list` shows all.")
    return int(rows[0].id)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    prompted: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return prompted
