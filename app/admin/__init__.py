"""The staff site, one module per noun; each brings its own blueprint."""

from flask import Blueprint

from app.admin import (
    audit,
    overview,
    patterns,
    policy,
    revocations,
    sessions,
    statistics,
    stores,
    users,
)

blueprint = Blueprint("admin", __name__, url_prefix="/admin")
for _noun in (overview, sessions, revocations, users, audit, stores, statistics, policy, patterns):
    blueprint.register_blueprint(_noun.blueprint)
