"""The trading day of an account: when it begins, what the account was worth then, and how cash flows move that.

Invariants: a day begins with the broker's equity at the previous close, or with the first reading when the broker does
not say; until the broker was asked no new day begins, and a breaker whose day has not begun is not evaluated, which
denies. Deposits and withdrawals are neither gain nor loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.brokers.answers import BrokerAccount, BrokerQueryError
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import previous_session, session_date
from backend.tradingbot.models import Account, Breaker, RiskRow
from backend.tradingbot.models.breakers import FIRST_READING, PREVIOUS_CLOSE
from backend.tradingbot.selectors.equity import cash_flows_after, realized_ever
from backend.tradingbot.services import journal
from backend.tradingbot.services.breakers import LockedBreaker, lock_breaker
from backend.tradingbot.services.locks import account_scope, lock_risk

log = structlog.get_logger(__name__)

ASK_AGAIN = timedelta(minutes=5)


@dataclass(frozen=True)
class PreviousClose:
    """What the broker says the account was worth at the close before ``session``; ``equity`` None: it does not say.

    ``session`` None stands for any session: there is no broker to ask.
    """

    session: date | None = None
    equity: Decimal | None = None


NO_BROKER = PreviousClose()


def close_before(session: date) -> datetime:
    """The exchange's last close before ``session``: what a broker values the previous day at, also round the clock."""
    return previous_session(session).closes_at


def ask_previous_close(account: Account, *, clock: Clock) -> PreviousClose | None:
    """Ask the broker, when the start of the account's day is not settled yet; None when there is nothing to ask, or no
    answer. Talks to the network: never call it inside a transaction."""
    row = Breaker.objects.filter(scope=account_scope(account.code)).first()
    now = clock.now()
    today = session_date(now, account.session_calendar)
    if row is None or not _unsettled(row, today, now):
        return None
    try:
        found = execution_client(settings.TRADINGBOT).account()
    except BrokerQueryError as error:
        log.warning("previous_close_unknown", account=account.code, problem=error.message)
        return None
    return PreviousClose(today, _equity_before(found, account, today))


def _unsettled(row: Breaker, today: date, now: datetime) -> bool:
    if row.session is None or row.session < today:
        return True
    asked = row.start_asked_at
    return row.start_source == FIRST_READING and (asked is None or now - asked >= ASK_AGAIN)


def _equity_before(found: BrokerAccount, account: Account, today: date) -> Decimal | None:
    """Its equity at the close of the session before ``today``; an older or undated figure is none, and so is another
    account's."""
    before = previous_session(today, account.session_calendar).date
    if found.account_number != account.broker_account or found.last_equity_on != before or found.last_equity <= 0:
        return None
    return found.last_equity


def settle_day(
    guard: LockedBreaker,
    account: Account,
    row: RiskRow,
    equity: Decimal | None,
    realized: Decimal,
    close: PreviousClose | None,
) -> bool:
    """Begin today, or correct its start now that the broker says; whether the breaker's day is today's.

    ``guard`` and ``row`` are locked; ``equity`` is this reading, ``realized`` what was realised ever; ``close`` None
    says that the broker was not asked or did not answer.
    """
    now = guard.clock.now()
    today = session_date(now, account.session_calendar)
    said = close if close is not None and close.session in (None, today) else None
    begun = guard.row.session is not None and guard.row.session >= today
    if said is None:
        return begun
    if said.session is not None:
        guard.row.start_asked_at = now
    if said.equity is not None and (not begun or guard.row.start_source == FIRST_READING):
        start = said.equity + cash_flows_after(account, close_before(today))
        if begun and start > 0:
            guard.pure.correct_start(start)
            guard.row.start_source = PREVIOUS_CLOSE
            _tell(guard, row, "day_start_corrected", start)
        elif not begun and begin_day(guard, today, start, PREVIOUS_CLOSE, realized):
            _tell(guard, row, "day_started", start)
            return True
    elif not begun and equity is not None and begin_day(guard, today, equity, FIRST_READING, realized):
        _tell(guard, row, "day_started", equity)
        return True
    return begun


def begin_day(guard: LockedBreaker, today: date, start: Decimal, source: str, realized: Decimal) -> bool:
    """Without a positive equity no day begins: a breaker that never had one stays unevaluated, which denies."""
    if start <= 0:
        return False
    guard.pure.start_day(start)
    breaker = guard.row
    breaker.session, breaker.start_source, breaker.realized_before = today, source, realized
    return True


def _tell(guard: LockedBreaker, row: RiskRow, kind: str, start: Decimal) -> None:
    breaker = guard.row
    data = {"session": str(breaker.session), "start_equity": plain(start), "source": breaker.start_source}
    data["realized_before"] = plain(breaker.realized_before)
    journal.append(row, kind=kind, actor=guard.actor, subject=breaker.scope, data=data, at=guard.clock.now())


def mark_realized(account: Account, *, clock: Clock) -> None:
    """Show the breaker what the day has realised, as soon as an execution is booked; the next mark does it again."""
    scope = account_scope(account.code)
    with transaction.atomic(durable=True):
        row = lock_risk(scope)
        guard = lock_breaker(scope, actor="marking", clock=clock)
        before, today = guard.row.realized_before, session_date(clock.now(), row.account.session_calendar)
        if before is None or guard.row.session is None or guard.row.session < today:
            return
        guard.pure.check_realized(realized_ever(account) - before)
        guard.save()


def move_start(guard: LockedBreaker, amount: Decimal, occurred_at: datetime) -> bool:
    """Move the day's start by a deposit or a withdrawal that it does not hold yet; whether it did.

    A start that the broker gave holds what happened before that close. One that was read here holds nothing that was
    not recorded here, whenever it happened. When nothing is left to lose, no day is under way any more.
    """
    breaker = guard.row
    if breaker.session is None:
        return False
    if breaker.start_source == PREVIOUS_CLOSE and occurred_at <= close_before(breaker.session):
        return False
    if Decimal(guard.pure.start_equity) + amount <= 0:
        breaker.session = breaker.evaluated_at = None
        return False
    guard.pure.record_cash_flow(amount)
    return True
