"""Reconciliation runs: one account and session, from the statement to stored breaks, proofs and the next day's block.

Invariants: one run an account at a time, by an advisory lock; sessions are closed in their order, the missed ones
first; everything that a run found is stored in one transaction, so that a run that dies leaves nothing half and ends
the same when it is started again; the same inputs twice add nothing. A statement that cannot be had is a break and a
block, never a flat day. ``disable_next_day`` is the one door to a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import structlog
from django.db import connection, transaction

from backend.tradingbot.brokers.answers import BrokerQueryError
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldError, InvalidInputError, TradingbotError
from backend.tradingbot.data.calendar import session_date, session_on
from backend.tradingbot.infra import failpoints
from backend.tradingbot.infra.build_info import build_id, build_stamp
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, ReconRun
from backend.tradingbot.ops.statements import SECTIONS, StatementError
from backend.tradingbot.selectors.closing_days import first_session, missed_sessions, reconciled_through
from backend.tradingbot.selectors.statements import statements_of
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.recon_blocks import disable_next_day
from backend.tradingbot.services.recon_day import DayOpening, compare, opening_of
from backend.tradingbot.services.recon_policies import Policy, policy_of
from backend.tradingbot.services.recon_pull import pull_statement
from backend.tradingbot.services.recon_store import BooksMovedError, store_failure, store_result

__all__ = ["close_missed", "disable_next_day", "run_session"]

log = structlog.get_logger(__name__)

TRIES = 5
RUN_LOCK = 7_320  # with the account's id: one run an account
LONGEST_STATEMENT = "10min"


@contextmanager
def _alone(account: Account) -> Iterator[None]:
    """The session advisory lock of this account's runs; a worker that dies releases it with its connection. Meanwhile
    a statement may take as long as reading a large day takes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [RUN_LOCK, account.pk])
        held = bool(cursor.fetchone()[0])
    if not held:
        raise ConflictError(f"{account.code} is being reconciled", code="recon_running", remedy="wait for that run")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [LONGEST_STATEMENT])
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [RUN_LOCK, account.pk])


def run_session(
    account: Account, session: date, *, actor: str, clock: Clock, pull: bool = True, interim: bool = False
) -> ReconRun:
    """Reconcile ``session``, after any earlier one that was missed; later ones that were closed are closed anew on it.

    ``pull`` asks the broker; without it, and for accounts whose statements are uploaded, what is stored is used. With
    ``interim`` the session of now is compared as it stands: its breaks open and block at once, and it is closed after
    its end all the same. Raises InvalidInputError for a session that has not ended or is none of this account's,
    ConflictError ``recon_running``.
    """
    _check_session(account, session, clock.now(), interim)
    with _alone(account):
        through = reconciled_through(account)
        for earlier in missed_sessions(account, through, clock.now()):
            if earlier >= session:
                break
            if _close(account, earlier, actor, clock, pull=pull).state != "completed":
                log.warning("recon_earlier_incomplete", account=account.code, session=str(earlier))
                raise ConflictError(
                    f"session {earlier} comes first and could not be closed", code="recon_earlier_incomplete",
                    remedy="see its breaks; upload its statement and run it again",
                )  # fmt: skip
        run = _close(account, session, actor, clock, pull=pull, interim=interim)
        if run.state == "completed":
            later = ReconRun.objects.filter(account=account, session__gt=session, state="completed")
            for day in list(later.order_by("session").values_list("session", flat=True)):
                _close(account, day, actor, clock, pull=False)
        return ReconRun.objects.get(pk=run.pk)


def close_missed(account: Account, *, actor: str, clock: Clock, pull: bool = True) -> list[ReconRun]:
    """Close every session that is due and was not closed, oldest first; stops at the first that cannot be."""
    runs = []
    with _alone(account):
        for session in missed_sessions(account, reconciled_through(account), clock.now()):
            runs.append(_close(account, session, actor, clock, pull=pull))
            if runs[-1].state != "completed":
                break
    return runs


def accounts_to_close(*, clock: Clock) -> list[int]:
    """The ids of the active accounts that have a session to close."""
    now = clock.now()
    active = Account.objects.filter(active=True).order_by("pk")
    return [each.pk for each in active if missed_sessions(each, reconciled_through(each), now)]


def _check_session(account: Account, session: date, now: datetime, interim: bool) -> None:
    found = session_on(session, account.session_calendar)
    problem = ""
    if found is None:
        problem = f"is no session of {account.session_calendar}"
    elif interim and session_date(now, account.session_calendar) != session:
        problem = "is not the session of now"
    elif not interim and found.closes_at > now:
        problem = "has not ended"
    elif session < first_session(account):
        problem = "was before the account was set up"
    if problem:
        error = FieldError("session", str(session), problem, "name a session that has ended")
        raise InvalidInputError([error], code="no_session")


def _close(account: Account, session: date, actor: str, clock: Clock, *, pull: bool, interim: bool = False) -> ReconRun:
    run, policy = _begin(account, session, actor, clock.now()), policy_of(account)
    opening = opening_of(account, session)
    failpoints.hit("recon.begun", account.code)
    try:
        if pull and not policy.upload_only and not _all_uploaded(account, session):
            pull_statement(account, session, opening.point.cut, actor=actor, clock=clock)
        failpoints.hit("recon.statement_stored", account.code)
        return _compare_and_store(run, opening, policy, clock, interim)
    except (BrokerQueryError, StatementError) as error:
        return store_failure(run, error, policy, clock=clock)
    except TradingbotError as error:
        log.exception("recon_failed", account=account.code, session=str(session))
        return store_failure(run, error, policy, clock=clock)


def _compare_and_store(run: ReconRun, opening: DayOpening, policy: Policy, clock: Clock, interim: bool) -> ReconRun:
    """Compare and store; what was booked in between makes it compare again."""
    for _ in range(TRIES):
        statements = statements_of(run.account, run.session)
        if not statements:
            raise StatementError("statement_missing", "none was received for this session", "upload it, or ask again")
        compared = compare(run.account, run.session, opening, statements, policy)
        failpoints.hit("recon.before_store", run.account.code)
        try:
            return store_result(run, compared, policy, clock=clock, interim=interim)
        except BooksMovedError:
            run.refresh_from_db()
    raise ConflictError("the books keep moving", code="recon_books_moving", remedy="run it again")


def _all_uploaded(account: Account, session: date) -> bool:
    """Whether uploaded statements tell every section, so that the broker need not be asked."""
    told: set[str] = set()
    for statement in statements_of(account, session):
        if statement.source != "broker":
            told |= set(statement.sections)
    return set(SECTIONS) <= told


def _begin(account: Account, session: date, actor: str, now: datetime) -> ReconRun:
    """The run's row, marked as running; a run that died before is taken up by its row."""
    with transaction.atomic(durable=True):
        lock_risk(account_scope(account.code))
        run, _ = ReconRun.objects.get_or_create(
            account=account, session=session,
            defaults={"started_at": now, "started_by": actor, "build_id": build_id()},
        )  # fmt: skip
        changes: dict[str, Any] = {"state": "running", "attempts": run.attempts + 1, "started_at": now}
        changes |= {"started_by": actor, "trace_id": TRACE_ID.get()}
        changes |= {"build_id": build_id(), "build_stamp": build_stamp()}
        if run.state == "completed":
            changes.pop("state")  # its results stand until newer ones take their place
        for name, value in changes.items():
            setattr(run, name, value)
        run.save(update_fields=list(changes))
    return run
