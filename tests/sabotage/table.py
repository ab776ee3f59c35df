"""The sabotages: for each invariant of the design, a one-line patch and the tests that must notice it."""

from dataclasses import dataclass

SESSIONS = "app/sessions"
STORES = "app/sessions/stores"


def node(file: str, name: str) -> str:
    """Return the node id of a test."""
    return f"tests/{file}.py::{name}"


STAYS_REVOKED = node(
    "processes/test_revocation",
    "test_a_revoked_session_stays_revoked_whatever_its_request_in_flight_does",
)


@dataclass(frozen=True)
class Sabotage:
    """A patch that takes a guard away. `old` stands in `file` exactly once."""

    invariant: int
    guard: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


TABLE = (
    Sabotage(
        1,
        "the live predicate leaves out what has ended",
        f"{SESSIONS}/transaction.py",
        "        UserSession.ended_at.is_(None),\n",
        "",
        (
            node("auth/test_sign_in", "test_a_replayed_cookie_is_nobodys_after_sign_out[sqlite]"),
            f"{STAYS_REVOKED}[sqlite-valkey-writes]",
        ),
    ),
    Sabotage(
        1,
        "data that is gone is a reason to ask the ledger again",
        f"{SESSIONS}/interface.py",
        "            self._raise_if_ended()\n",
        "            return {}\n",
        (f"{STAYS_REVOKED}[sqlite-sql-looks_late]",),
    ),
    Sabotage(
        2,
        "a save to Redis asks whether the key is there",
        f"{STORES}/redis.py",
        "if held == '' then return 'GONE' end",
        "if held == '' then held = ARGV[1] end",
        (f"{STAYS_REVOKED}[sqlite-valkey-writes]",),
    ),
    Sabotage(
        2,
        "a save to SQL updates and never inserts",
        f"{STORES}/sql.py",
        "        return Saved.GONE if held is None else Saved.CONFLICT",
        "        return Saved.CONFLICT if held else "
        "self.create(key, payload, timedelta(hours=1)) or Saved.SAVED",
        (f"{STAYS_REVOKED}[sqlite-sql-writes]",),
    ),
    Sabotage(
        3,
        "the sessions over the limit are counted with the one that begins",
        "app/auth/sign_in.py",
        "excess = len(others) + 1 - policy.limit",
        "excess = len(others) - policy.limit",
        (
            node(
                "auth/test_sign_in",
                "test_a_second_sign_in_supersedes_the_first_and_says_so[sqlite]",
            ),
        ),
    ),
    Sabotage(
        3,
        "a sign-in locks the user's row (PostgreSQL)",
        f"{SESSIONS}/transaction.py",
        "        return self.connection.execute(some.with_for_update(key_share=True)).all()\n",
        "        return self.connection.execute(some).all()\n",
        (
            node(
                "processes/test_races",
                "test_a_sign_in_waits_for_one_that_is_about_to_commit_and_counts_its_session"
                "[postgresql]",
            ),
        ),
    ),
    Sabotage(
        4,
        "what changes the ledger is one transaction",
        f"{STORES}/engines.py",
        "        _begin(connection)\n",
        "",
        (
            node("sessions/test_revocation", "test_without_their_events_no_session_ends[sqlite]"),
            node("auth/test_limit", "test_without_its_event_there_is_no_session[sqlite]"),
        ),
    ),
    Sabotage(
        4,
        "an end is recorded",
        f"{SESSIONS}/transaction.py",
        "        record_each(self.connection, self.now(), actor, event, _WHOM.where(among))\n",
        "",
        (
            node("auth/test_sign_out", "test_signing_out_is_recorded_as_ones_own_act"),
            node("sessions/test_revocation", "test_each_step_is_recorded[sqlite]"),
        ),
    ),
    Sabotage(
        4,
        "the worker purges what a killed process left",
        f"{SESSIONS}/upkeep.py",
        "    purge_ended(system, done)\n",
        "",
        (
            node(
                "processes/test_killed",
                "test_a_sign_in_that_is_killed_at_any_step_leaves_one_session[sqlite-in Redis]",
            ),
        ),
    ),
    Sabotage(
        5,
        "a payload's name is not made of the id",
        f"{SESSIONS}/interface.py",
        "Draft(_handle(session_id), new_data_key(), policy.store)",
        "Draft(_handle(session_id), DataKey(session_id), policy.store)",
        (
            node(
                "sabotage/test_guards", "test_the_id_of_a_session_is_in_its_cookie_and_nowhere_else"
            ),
        ),
    ),
    Sabotage(
        5,
        "the ledger holds the digest of the id",
        f"{SESSIONS}/handles.py",
        'return hashlib.sha256(session_id.encode("ascii")).digest()',
        'return session_id.encode("ascii")[:32]',
        (
            node(
                "sabotage/test_guards", "test_the_id_of_a_session_is_in_its_cookie_and_nowhere_else"
            ),
        ),
    ),
    Sabotage(
        5,
        "what the ledger and the stores hold is no cookie",
        f"{SESSIONS}/interface.py",
        "        handle = handle_for(cookie)\n",
        "        handle = bytes.fromhex(cookie) if len(cookie) == 64 else handle_for(cookie)\n",
        (
            node(
                "sabotage/test_guards", "test_no_string_that_is_held_anywhere_is_taken_for_a_cookie"
            ),
        ),
    ),
    Sabotage(
        6,
        "a visitor's form token is a constant that is not stored",
        f"{SESSIONS}/mapping.py",
        "        return key == CSRF_KEY and self._is_visitor() and not dict.__contains__(self, key)",
        "        return False",
        (
            node(
                "sessions/test_mapping", "test_a_visitors_token_is_a_constant_that_is_never_stored"
            ),
            node(
                "processes/test_visitors",
                "test_ten_thousand_visits_leave_stores_and_ledger_as_they_were[sqlite]",
            ),
        ),
    ),
    Sabotage(
        7,
        "a passive request moves no deadline",
        f"{SESSIONS}/interface.py",
        "self._touch_due = due and not _is_passive(self._app, self._request)",
        "self._touch_due = due",
        (node("sessions/test_timeouts", "test_a_hundred_passive_requests_leave_last_seen_alone"),),
    ),
    Sabotage(
        7,
        "activity leaves the absolute deadline alone",
        f"{SESSIONS}/ledger.py",
        '        idle_expires_at=clock("idle"),\n',
        '        idle_expires_at=clock("idle"), absolute_expires_at=clock(43200),\n',
        (
            node(
                "sessions/test_timeouts",
                "test_step_up_and_activity_leave_the_absolute_deadline_where_it_is",
            ),
        ),
    ),
    Sabotage(
        8,
        "a step-up gives the row the handle of a new id",
        f"{SESSIONS}/transaction.py",
        ".values(handle=new, regenerations=UserSession.regenerations + 1, **values)",
        ".values(regenerations=UserSession.regenerations + 1, **values)",
        (node("sessions/test_regenerate", "test_the_old_id_is_nobodys_and_sets_no_cookie"),),
    ),
    Sabotage(
        8,
        "a changed role ends the sessions",
        "app/auth/changes.py",
        "        ended = _end_all(tx, user_id, EndReason.ROLE_CHANGED, by)\n",
        "        ended = []\n",
        (
            node(
                "processes/test_updates",
                "test_a_demotion_survives_a_stale_request_in_flight[sqlite-sql]",
            ),
        ),
    ),
    Sabotage(
        9,
        "a save to Redis compares the version",
        f"{STORES}/redis.py",
        "if held ~= ARGV[1] then return 'CONFLICT' end",
        "",
        (
            node(
                "processes/test_updates",
                "test_two_processes_that_change_different_keys_both_keep_theirs[sqlite-valkey]",
            ),
        ),
    ),
    Sabotage(
        9,
        "a save to SQL compares the version",
        f"{STORES}/sql.py",
        "update(table).where(key, live, unchanged).values(replaced)",
        "update(table).where(key, live).values(replaced)",
        (
            node(
                "processes/test_updates",
                "test_two_processes_that_change_different_keys_both_keep_theirs[sqlite-sql]",
            ),
        ),
    ),
    Sabotage(
        10,
        "every read from Redis keeps the request's budget",
        f"{STORES}/connections.py",
        "        within = budget.timeout(longest)\n",
        "        within = longest\n",
        (
            node(
                "faults/test_site_without_redis",
                "test_a_member_gets_a_503_in_time_and_is_not_signed_out[closed-trickle]",
            ),
        ),
    ),
    Sabotage(
        10,
        "a save that fails replaces the page of success",
        f"{SESSIONS}/interface.py",
        "            _replace(response, app.make_response(app.handle_user_exception(error)))\n",
        "            pass\n",
        (
            node(
                "faults/test_site_without_redis",
                "test_a_redis_that_fails_in_mid_request_is_a_503_and_writes_nothing[before the save-reset]",
            ),
        ),
    ),
    Sabotage(
        10,
        "a store that refuses to write is read all the same",
        f"{SESSIONS}/data.py",
        "            if self._ttl is None or error.detail not in _UNWRITABLE:\n",
        "            if self._ttl is not None:\n",
        (
            node(
                "faults/test_site_without_redis",
                "test_a_redis_that_cannot_write_is_read_and_says_so[closed-min-replicas-to-write]",
            ),
        ),
    ),
    Sabotage(
        10,
        "a refused write does not open the breaker",
        f"{STORES}/failures.py",
        "(Failure.LOCKED, Failure.BUSY, Failure.READ_ONLY, Failure.FULL)",
        "(Failure.LOCKED, Failure.BUSY)",
        (
            node(
                "sessions/stores/test_faults",
                "test_a_write_that_is_refused_late_does_not_rest_a_server_that_can_be_read",
            ),
        ),
    ),
    Sabotage(
        10,
        "a store that lost nearly everything signs nobody out",
        f"{SESSIONS}/upkeep.py",
        "    return absent > max(_FEW, LOST_SHARE * live_rows)\n",
        "    return absent > live_rows\n",
        (
            node(
                "sessions/test_snapshots",
                "test_an_emptied_redis_ends_nobody_until_somebody_decides",
            ),
        ),
    ),
    Sabotage(
        11,
        "nothing but MessagePack and JSON is decoded",
        f"{SESSIONS}/payload.py",
        'decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode',
        'decode = __import__("pickle").loads',
        (node("sessions/test_payload", "test_a_pickle_is_unreadable_and_runs_nothing"),),
    ),
    Sabotage(
        11,
        "a payload has a largest size",
        f"{SESSIONS}/payload.py",
        'raise UnreadablePayload(f"{len(payload)} bytes, more than SESSION_MAX_BYTES")',
        "pass",
        (node("sessions/test_payload", "test_more_bytes_than_allowed_are_refused_both_ways"),),
    ),
    Sabotage(
        12,
        "saving the session commits nothing of the application's",
        f"{SESSIONS}/isolation.py",
        "        db.session.rollback()\n",
        "        db.session.commit()\n",
        (
            node(
                "sessions/test_isolation",
                "test_what_a_view_flushed_and_never_committed_is_not_there_afterwards[sqlite]",
            ),
        ),
    ),
    Sabotage(
        12,
        "a sign-in refuses to run beside uncommitted work",
        f"{SESSIONS}/isolation.py",
        "    if wrote:\n",
        "    if wrote is None:\n",
        (
            node(
                "sessions/test_isolation",
                "test_signing_in_beside_uncommitted_writes_fails_and_names_the_remedy",
            ),
        ),
    ),
    Sabotage(
        13,
        "a batch ends the rows that were frozen, and no others",
        f"{SESSIONS}/revocation.py",
        "        tx.lock_users([target.user_id for target in chosen])\n",
        "        tx.lock_users([target.user_id for target in chosen])\n"
        "        ids = [row.id for target in chosen for row in tx.live_of(target.user_id)]\n",
        (node("sessions/test_revocation", "test_a_session_that_began_after_the_freeze_survives"),),
    ),
    Sabotage(
        13,
        "one's own session is not among the targets",
        f"{SESSIONS}/freeze.py",
        "            chosen = chosen.where(UserSession.reference != own)\n",
        "            pass\n",
        (node("sessions/test_revocation", "test_ones_own_session_is_held_back[sqlite]"),),
    ),
    Sabotage(
        1,
        "a freeze of a user's sessions waits for a sign-in that has begun (PostgreSQL)",
        f"{SESSIONS}/freeze.py",
        "            tx.lock_users([targets.user_id])\n",
        "            pass\n",
        (
            node(
                "processes/test_races",
                "test_an_act_ends_the_session_of_a_sign_in_that_was_about_to_commit"
                "[postgresql-revoke_user]",
            ),
        ),
    ),
    Sabotage(
        1,
        "whom one cutoff denies, the next one does not spare",
        f"{SESSIONS}/cutoff.py",
        "    at, spared, by = later\n",
        "    at, by = row.created_at, row.id\n",
        (
            node(
                "processes/test_bulks",
                "test_signing_everyone_out_twice_at_once_lets_nobody_back_in[sqlite]",
            ),
        ),
    ),
    Sabotage(
        1,
        "who sets the cutoff waits for another who sets it (PostgreSQL)",
        f"{SESSIONS}/cutoff.py",
        "    the_one = select(Cutoff.__table__).with_for_update()\n",
        "    the_one = select(Cutoff.__table__)\n",
        (
            node(
                "sessions/test_everyone",
                "test_of_two_cutoffs_at_once_the_second_lets_nobody_in_whom_the_first_denies"
                "[postgresql-not the first]",
            ),
        ),
    ),
)
