"""Count what the audit trail says. `Ledger.transaction()` calls `count` once its events are committed.

One funnel for all: what is no event is not counted, and what was rolled back did not happen.
"""

from collections import Counter
from collections.abc import Iterable

from app import metrics
from app.audit.models import ENDS, Verb
from app.audit.trail import Event
from app.sessions.models import EndReason, RevocationReason
from app.sessions.stores.configured import BUILDERS

_OTHER = "other"
_REASONS = {"", *BUILDERS, *EndReason, *RevocationReason}
_RESULTS = {"ok", "failed", "denied", "refused", "alarm"}
_NEW_IDS = {
    Verb.REGENERATED: "asked",
    Verb.STEPPED_UP: "step_up",
    Verb.PASSWORD_CHANGED: "password_changed",
}
_FAILURES = {
    "unknown name": "unknown_name",
    "wrong password": "wrong_password",
    "disabled": "disabled",
}

# Each starts at 0, so that the first one is seen as a change.
for _cause in EndReason:
    metrics.SESSIONS_ENDED.labels(_cause.value)
for _code in RevocationReason:
    metrics.REVOCATIONS.labels(_code.value)
for _cause_of_id in _NEW_IDS.values():
    metrics.REGENERATIONS.labels(_cause_of_id)
for _result in ("ok", *_FAILURES.values(), "at_limit"):
    metrics.SIGN_INS.labels(_result)
metrics.EVENTS.labels(Verb.IDS_GUESSED.value, "", "alarm")
for _store in BUILDERS:
    metrics.EVENTS.labels(Verb.WORKER_ALARM.value, _store, "alarm")


@metrics.unfailing
def count(events: Iterable[Event]) -> None:
    """Count committed events, and what they mean."""
    for (verb, reason, result, why), times in Counter(map(_labels, events)).items():
        metrics.EVENTS.labels(verb.value, reason, result).inc(times)
        _count_meaning(verb, reason, why, times)


def _labels(event: Event) -> tuple[Verb, str, str, str]:
    """Return what tells events apart here; a word that is none of ours is "other"."""
    reason = event.reason or ""
    return (
        event.verb,
        reason if reason in _REASONS else _OTHER,
        event.result if event.result in _RESULTS else _OTHER,
        _FAILURES.get(event.details.get("why", ""), _OTHER),
    )


def _count_meaning(verb: Verb, reason: str, why: str, times: int) -> None:
    if verb in ENDS:
        # A revocation's reason is the code that a person chose.
        cause = EndReason.REVOKED.value if verb is Verb.REVOKED else reason
        metrics.SESSIONS_ENDED.labels(cause).inc(times)
    elif verb in _NEW_IDS:
        metrics.REGENERATIONS.labels(_NEW_IDS[verb]).inc(times)
    elif verb is Verb.REVOCATION_CONFIRMED:
        metrics.REVOCATIONS.labels(reason).inc(times)
    elif verb is Verb.SIGNED_IN:
        metrics.SIGN_INS.labels("ok").inc(times)
    elif verb is Verb.SIGN_IN_FAILED:
        metrics.SIGN_INS.labels(why).inc(times)
    elif verb is Verb.SIGN_IN_DENIED:
        metrics.SIGN_INS.labels("at_limit").inc(times)
