"""The commands: flask config | sessions | users | worker, on the same functions as the pages."""

from flask import Flask

from app.cli import config, sessions, users, worker


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(config.command)
    app.cli.add_command(sessions.group)
    app.cli.add_command(users.group)
    app.cli.add_command(worker.command)
