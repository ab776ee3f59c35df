"""Server-side sessions: stores carry, the ledger decides.

request    open_session does no I/O. The first use of current_user, or of session data, asks the ledger:
           cookie -> handle -> one statement: user_sessions + users + cutoff + the database's clock.
           Not live: nobody, no store call. Live: a frozen Principal.
           The first use of session data: store.load(data_key) -> payload.decode -> flask.session.
touch      due when SESSION_TOUCH_INTERVAL has passed since last_seen and the request is not passive:
           one conditional UPDATE of the ledger, and the store's time left moves with it.
response   unchanged: nothing is written. Changed: store.save, a compare-and-set that never creates.
visitor    flask.session is Flask's own signed cookie, under a name of its own; the server stores nothing.
sign-in    new id, store.create -> transaction: lock the user, limit, row, event -> purge the superseded.
revoke     transactions: lock in id order, end, record -> purge -> read back -> receipt.
list       SessionFilter -> one ledger query -> stores.present(data keys on the page) -> rows.
upkeep     expire what is past its deadline, retry purges, find what a store has lost.
"""

from collections.abc import Callable
from typing import TypeVar

View = TypeVar("View", bound=Callable[..., object])

__all__ = ["passive"]


def passive(view: View) -> View:
    """Mark a view as one that the page calls, not the person: it never extends a session."""
    view.is_passive = True  # type: ignore[attr-defined]
    return view
