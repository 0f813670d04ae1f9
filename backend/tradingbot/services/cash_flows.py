"""Cash that moves by itself. Deposits and withdrawals change the cash and the start of the day alike, so that no day is
won or lost by them; fees, dividends and interest change the cash alone.

Invariants: an activity of the broker counts once, by its id; cash, equity, the start of the day and the journal move in
one transaction; what happened before the account was set up here is in its opening cash already.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.brokers.answers import BrokerCashFlow, BrokerQueryError
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.cash_kinds import is_funding
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError
from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import NEW_YORK, session_date
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, BookEntry, CashFlow, RiskRow
from backend.tradingbot.models.cash_flows import BROKER
from backend.tradingbot.services import journal
from backend.tradingbot.services.breakers import lock_breaker
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.trading_day import move_start
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

LOOK_BACK = timedelta(days=14)
NOON = time(12, 0)
LARGEST = Decimal("1e12")


def record_cash_flow(
    account: Account,
    *,
    activity_id: str,
    kind: str,
    amount: Decimal,
    occurred_at: datetime,
    reason: str,
    actor: str,
    clock: Clock,
) -> bool:
    """Book one flow of the broker (below zero: out of the account); False when its id was booked before, by this door
    or by a reconciliation that adopted it.

    ``activity_id`` is the broker's own, so that nothing counts twice when the broker tells of it too. Raises
    InvalidInputError naming every wrong field, ConflictError ``cash_flow_conflict`` when the id has another amount.
    """
    _check(activity_id, kind, amount, occurred_at, reason, clock)
    scope = account_scope(account.code)
    with transaction.atomic(durable=True):
        row = lock_risk(scope)
        known = CashFlow.objects.filter(account=account, activity_id=activity_id).first()
        if known is not None:
            _refuse_other(known, kind, amount)
            return False
        if BookEntry.objects.filter(account=account, activity_id=activity_id).exists():
            return False
        guard = lock_breaker(scope, actor=actor, clock=clock)
        moved = is_funding(kind) and move_start(guard, amount, occurred_at)
        guard.save()
        for name in ("cash", "equity", "equity_floor"):
            before = getattr(row, name)
            setattr(row, name, None if before is None else before + amount)
        flow = CashFlow.objects.create(
            account=account,
            activity_id=activity_id,
            kind=kind,
            amount=amount,
            session=session_date(occurred_at, row.account.session_calendar),
            occurred_at=occurred_at,
            recorded_at=clock.now(),
            moved_start=moved,
            reason=reason,
            actor=actor,
            trace_id=TRACE_ID.get(),
            build_id=build_id(),
        )
        _journal(row, flow)
    return True


def _journal(row: RiskRow, flow: CashFlow) -> None:
    data = {"kind": flow.kind, "amount": plain(flow.amount), "occurred_at": rfc3339(flow.occurred_at)}
    data |= {"session": str(flow.session), "moved_start": flow.moved_start, "cash": plain(row.cash)}
    data["reason"] = flow.reason
    journal.append(row, kind="cash_flow", actor=flow.actor, subject=flow.activity_id, data=data, at=flow.recorded_at)


def _refuse_other(known: CashFlow, kind: str, amount: Decimal) -> None:
    if (known.kind, known.amount) != (kind, amount):
        raise ConflictError(
            f"{known.activity_id} was booked as {known.kind} {plain(known.amount)}, not as {kind} {plain(amount)}",
            code="cash_flow_conflict",
            remedy="ask the broker which one is true; the first one stays booked",
        )


def _check(activity_id: Any, kind: Any, amount: Any, occurred_at: Any, reason: Any, clock: Clock) -> None:
    errors = FieldErrors()
    for name, text, longest in (("activity_id", activity_id, 80), ("kind", kind, 8), ("reason", reason, 200)):
        if not isinstance(text, str) or not text.strip() or len(text) > longest or not text.isprintable():
            errors.add(name, text, f"must be 1 to {longest} printable characters", f"name the {name}")
    if not isinstance(amount, Decimal) or not amount.is_finite() or amount == 0 or abs(amount) >= LARGEST:
        errors.add("amount", amount, "must be a finite amount other than zero", "a withdrawal is below zero")
    elif amount != round(amount, 9):
        errors.add("amount", amount, "has more than nine decimals", "send what was really moved")
    if not isinstance(occurred_at, datetime) or occurred_at.tzinfo is None:
        errors.add("occurred_at", occurred_at, "must be a time with its zone", "send it in UTC")
    elif occurred_at > clock.now() + timedelta(days=1):
        errors.add("occurred_at", occurred_at, "is in the future", "record it once it has happened")
    if errors:
        raise InvalidInputError(errors.errors)


def read_all(*, clock: Clock) -> int:
    """Book what is new at the broker for each active account; how many were booked. One account that fails keeps no
    other waiting; the first error that nobody thought of is raised at the end."""
    booked = 0
    with Turns() as turns:
        for account in Account.objects.filter(active=True):
            with turns.each("cash_flows_failed", account=account.code):
                try:
                    booked += read_cash_flows(account, clock=clock)
                except BrokerQueryError as error:
                    log.warning("cash_flows_unknown", account=account.code, problem=error.message)
    return booked


def read_cash_flows(account: Account, *, clock: Clock) -> int:
    """Book the broker's new cash flows of ``account``. Raises BrokerQueryError: then nothing is known."""
    client = execution_client(settings.TRADINGBOT)
    if client.account().account_number != account.broker_account:
        return 0
    booked = 0
    for flow in client.cash_flows(clock.now() - LOOK_BACK):
        if flow.status != "executed" or flow.amount == 0 or _is_in_opening_cash(flow, account):
            continue
        try:
            booked += record_cash_flow(
                account,
                activity_id=flow.activity_id,
                kind=flow.kind,
                amount=flow.amount,
                occurred_at=_moment(flow),
                reason=_printable(flow.description) or "told by the broker",
                actor=BROKER,
                clock=clock,
            )
        except (ConflictError, InvalidInputError) as error:
            log.error("cash_flow_refused", account=account.code, activity_id=flow.activity_id, problem=error.message)
    return booked


def _moment(flow: BrokerCashFlow) -> datetime:
    """When it happened; noon in New York, between two closes, when the broker gives only the day."""
    return flow.occurred_at or datetime.combine(flow.occurred_on, NOON, NEW_YORK)


def _is_in_opening_cash(flow: BrokerCashFlow, account: Account) -> bool:
    if flow.occurred_at is not None:
        return flow.occurred_at <= account.created_at
    return flow.occurred_on <= account.created_at.astimezone(NEW_YORK).date()


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:200].strip()
