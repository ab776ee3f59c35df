"""Revoke sessions: freeze, review, confirm, receipt. What is confirmed is what was frozen."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from flask import Blueprint, abort, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Row, select

from app.admin.forms import RevocationForm
from app.admin.helpers import BATCH, ID, after_id, export_csv, person, record_export, refuse
from app.admin.words import is_done, receipt_verdict
from app.auth.access import require_step_up, requires, step_up_is_fresh
from app.auth.forms import safe_next
from app.filters import iso, store_name
from app.listing import asked_format, each_once, json_list, record, refuse_filters
from app.people.models import Permission
from app.sessions import freeze as freezing
from app.sessions import revocation
from app.sessions.filter import FilterError, SessionFilter
from app.sessions.freeze import NothingToRevoke, NotPermitted, Review, Targets
from app.sessions.later import later
from app.sessions.models import Revocation
from app.sessions.receipt import OUTCOME, Receipt, outcomes, receipt, row_ids, shown
from app.sessions.revocation import Stale
from app.sessions.rows import by_ids
from app.sessions.system import system
from app.texts import gettext as _

blueprint = Blueprint("revocations", __name__)

_NO_FILTERS = ("all_matching", "csrf_token", "next")
_PER_PAGE = 50
_SHOWN = 200
_COLUMNS = (
    "id",
    "confirmed_at",
    "finished_at",
    "actor_name",
    "reason",
    "note",
    "matched_by",
    "size",
    "present",
    "read_back_at",
)
_CONFIRMED = (
    "actor_name",
    "confirmed_at",
    "finished_at",
    "reason",
    "note",
    "matched_by",
    "held_back",
)
_LIST = (
    select(*(getattr(Revocation, name) for name in _COLUMNS))
    .where(Revocation.confirmed_at.is_not(None))
    .order_by(Revocation.id.desc())
)


@blueprint.get("/revocations")
@requires(Permission.STAFF)
def index() -> ResponseReturnValue:
    """List what was confirmed, newest first."""
    asked = asked_format()
    refuse_filters()
    after = after_id()
    if asked == "csv":
        return export_csv("revocations", _COLUMNS, _batches(after), _LIST)
    rows, following = _read(after, _PER_PAGE)
    if asked == "json":
        record_export("revocations", "json", len(rows))
        more: dict[str, Any] = {"after": following, "format": "json"}
        url = url_for("admin.revocations.index", **more) if following else None
        return json_list("revocations", [record(row, _COLUMNS) for row in rows], url)
    return render_template(
        "admin/revocations/list.html", rows=rows, now=system.ledger.now(), next=following
    )


def _read(after: int | None, size: int) -> tuple[list[Row[Any]], int | None]:
    """Return the rows that follow `after`, and after which the next ones follow."""
    statement = _LIST if after is None else _LIST.where(Revocation.id < after)
    rows = list(system.ledger.read(statement.limit(size + 1)))
    return rows[:size], rows[size - 1].id if len(rows) > size else None


def _batches(after: int | None) -> Iterator[list[dict[str, object]]]:
    while True:
        rows, after = _read(after, BATCH)
        yield [record(row, _COLUMNS) for row in rows]
        if after is None:
            return


@blueprint.post("/revocations")
@requires(Permission.REVOKE)
def freeze() -> ResponseReturnValue:
    """Freeze the chosen sessions and lead to their review; nothing has ended yet."""
    try:
        frozen = freezing.freeze(_targets(), actor=person())
    except FilterError as error:
        abort(400, error.message)
    except NotPermitted as error:
        refuse(str(error))
    except NothingToRevoke as error:
        flash(_("Nothing was revoked. %(why)s", why=str(error)), "warning")
        back = safe_next(request.form.get("next"), url_for("admin.sessions.index"))
        return redirect(back, 303)
    came_from = request.form.get("next") or None
    review = url_for("admin.revocations.show", revocation_id=frozen.id, next=came_from)
    return redirect(review, 303)


def _targets() -> Targets:
    """Read what was chosen: all that match a filter, all of a user, or the ticked references."""
    form = request.form
    if form.get("all_matching"):
        query = each_once(request.args or form, _NO_FILTERS)
        return Targets(matching=SessionFilter.from_query(query))
    if user := form.get("user"):
        if not user.isdecimal() or len(user) > 18:
            abort(400, _("There is no such user."))
        return Targets(user_id=int(user))
    return Targets(references=tuple(form.getlist("reference")))


@blueprint.get(f"/revocations/<{ID}:revocation_id>")
@requires(Permission.STAFF)
def show(revocation_id: int) -> ResponseReturnValue:
    """Show the receipt of what was confirmed, or the review of what was frozen."""
    done = receipt(system, revocation_id)
    if done is not None:
        return _receipt_page(done)
    asked_format("html")
    review = _review(revocation_id)
    if review.needs_step_up and not review.stale:
        require_step_up(_here())
    form = RevocationForm(_expected(review), formdata=None, data=review.draft)
    return _review_page(review, form)


@blueprint.post(f"/revocations/<{ID}:revocation_id>")
@requires(Permission.REVOKE)
def confirm(revocation_id: int) -> ResponseReturnValue:
    """End exactly what was frozen, then show the receipt under the same address."""
    here = redirect(url_for("admin.revocations.show", revocation_id=revocation_id), 303)
    if receipt(system, revocation_id) is not None:
        return here
    review = _review(revocation_id)
    form = RevocationForm(_expected(review))
    if review.stale:
        return _review_page(review, form), 409
    grave = review.needs_step_up or form.new_password.data
    if grave and not step_up_is_fresh():
        freezing.keep_draft(revocation_id, form.typed, actor=person())
        require_step_up(_here())
    if not form.validate_on_submit():
        return _review_page(review, form), 422
    try:
        revocation.confirm(
            revocation_id,
            actor=person(),
            reason=form.reason.data,
            note=form.note.data or "",
            tell=form.tell_user.data,
            new_password=form.new_password.data,
        )
    except NotPermitted as error:
        refuse(str(error))
    except Stale:
        return here
    return here


@blueprint.post(f"/revocations/<{ID}:revocation_id>/purge")
@requires(Permission.REVOKE)
def retry(revocation_id: int) -> ResponseReturnValue:
    """Try again to delete what silent stores, or the one that is named, still hold, and read back."""
    before, store = receipt(system, revocation_id), request.form.get("store") or None
    if before is None:
        abort(404, _("There is no such revocation."))
    if store is not None and store not in before.by_store:
        abort(400, _("This revocation has ended no session in that store."))
    done = revocation.retry_purge(revocation_id, store)
    assert done is not None
    if store is not None and not done.by_store[store].pending:
        flash(_("Tried again. %(store)s has deleted its data.", store=store_name(store)))
    elif is_done(done):
        flash(_("Tried again. All data is deleted. A second look found none."))
    else:
        flash(_("Tried again. It is not done yet: the receipt says what is left."), "warning")
    return redirect(url_for("admin.revocations.show", revocation_id=revocation_id), 303)


def _here() -> str:
    """Return the review's address, without the way back from it where that makes it too long to keep."""
    return safe_next(request.full_path.rstrip("?"), request.path)


def _review(revocation_id: int) -> Review:
    me = person()
    if not me.may(Permission.REVOKE):
        abort(404, _("There is no such revocation."))
    found = freezing.review(revocation_id, actor=me)
    if found is None:
        abort(404, _("There is no such revocation, or somebody else is preparing it."))
    return found


def _expected(review: Review) -> int | None:
    return review.count if review.needs_count else None


def _review_page(review: Review, form: RevocationForm) -> str:
    return render_template(
        "admin/revocations/review.html",
        review=review,
        form=form,
        problem=None,
        back=safe_next(request.args.get("next"), url_for("admin.sessions.index")),
        now=system.ledger.now(),
    )


def _receipt_page(done: Receipt) -> ResponseReturnValue:
    asked, revocation_id = asked_format(), done.revocation_id
    if asked == "csv":
        rows = outcomes(system, revocation_id, BATCH)
        count = row_ids(system, revocation_id)
        return export_csv(f"revocation-{revocation_id}", OUTCOME, rows, count)
    if asked == "json":
        body: dict[str, Any] = {"revocation_id": revocation_id, "finished": done.finished}
        body |= done.counts() | {"waiting": done.waiting, "done": is_done(done)}
        body["by_store"] = {name: asdict(part) for name, part in done.by_store.items()}
        body["read_back_at"] = iso(done.read_back_at)
        body |= record(done, _CONFIRMED) | {"tell_user": done.tell}
        body["verdict"] = asdict(receipt_verdict(done))
        return jsonify(body)
    return render_template(
        "admin/revocations/receipt.html",
        receipt=done,
        rows=by_ids(shown(system, revocation_id, _SHOWN)),
        verdict=receipt_verdict(done),
        done=is_done(done),
        later=_later(done),
        may_retry=not is_done(done) and person().may(Permission.REVOKE),
        now=system.ledger.now(),
    )


def _later(done: Receipt) -> dict[str, Any] | None:
    """Return how many match now what was chosen then, and where they are listed; None if nobody does."""
    found = later(done) if done.finished else None
    if found is None or not found.count:
        return None
    query: dict[str, Any] = found.where.to_query()
    if user_id := query.pop("user_id", None):
        href = url_for("admin.users.show", user_id=user_id)
    else:
        href = url_for("admin.sessions.index", **query)
    return {"count": found.count, "href": href}
