"""`flask worker`: what goes on beside the requests, on APScheduler's clock, until a signal ends it."""

import logging
import signal
from time import monotonic
from types import FrameType

import click
from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask, current_app
from flask.cli import with_appcontext

from app.cli.passes import Passes, served
from app.sessions import revocation, upkeep
from app.sessions.store import StoreUnavailable
from app.sessions.system import system_of

log = logging.getLogger(__name__)

PASS_EVERY = 30
RESUME_EVERY = 2


@click.command("worker")
@with_appcontext
def command() -> None:
    """Record expiries, retry purges, finish revocations, find lost data. Ends on SIGTERM or Ctrl-C."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    passes = Passes()
    with served(passes, app.config["WORKER_METRICS_ADDRESS"], app.config["METRICS_TOKEN"]):
        _work(app, passes)


def _work(app: Flask, passes: Passes) -> None:
    scheduler = BackgroundScheduler(timezone="UTC", job_defaults={"coalesce": True})
    walk = upkeep.Walk()
    scheduler.add_job(_run_pass, "interval", [app, passes, walk], seconds=PASS_EVERY, id="pass")
    scheduler.add_job(_resume, "interval", [app], seconds=RESUME_EVERY, id="resume")
    log.info("worker_started pass_every=%d", PASS_EVERY)
    signal.signal(signal.SIGTERM, _stop)
    _run_pass(app, passes, walk)
    scheduler.start()
    try:
        signal.pause()
    except (KeyboardInterrupt, SystemExit):
        log.info("worker_stopping")
    finally:
        scheduler.shutdown(wait=True)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _run_pass(app: Flask, passes: Passes, walk: upkeep.Walk | None = None) -> None:
    """Do one pass; a silent database ends the pass, not the worker."""
    began = monotonic()
    try:
        with app.app_context():
            done = upkeep.run(system_of(app), walk=walk)
    except StoreUnavailable as error:
        passes.skipped()
        log.warning("pass_skipped store=%s detail=%s", error.store, error.detail)
    else:
        passes.finished(done, monotonic() - began)
        if done.expired or done.purged or done.lost or done.silent or done.alarms:
            log.info("pass %s", done)


def _resume(app: Flask) -> None:
    """Go on with confirmed revocations that a request left for the worker, or a crash cut short."""
    try:
        with app.app_context():
            revocation.resume(system_of(app))
    except StoreUnavailable as error:
        log.warning("resume_skipped store=%s detail=%s", error.store, error.detail)
