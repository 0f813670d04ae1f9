"""The way of one order. Transaction 1 decides and reserves; the broker is called with none open; transaction 2 records.

Invariants: the unique row of (account, client order id) decides who sends; only the request that inserted it sends, at
most once, and not after ``send_by``; a denial is stored, never rolled back; an order in doubt keeps its reservation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction

from backend.tradingbot.brokers.answers import BrokerInDoubtError, BrokerRejectedError, BrokerUnreachableError
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import ConflictError, NotFoundError
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.execution.order_state import Event, Status, next_status
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, Order, RiskRow, Strategy
from backend.tradingbot.risk.gates import Decision, evaluate, reserved_price
from backend.tradingbot.selectors.risk import read_quote, risk_snapshot
from backend.tradingbot.services import breakers, journal
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.order_life import record_answer

log = structlog.get_logger(__name__)

INSERT = """
INSERT INTO tradingbot_order (account_id, strategy_id, client_order_id, body_digest, symbol, side, qty, type,
  limit_price, time_in_force, status, mode, filled_qty, reserved_price, decision, snapshot, evidence, lookup_misses,
  build_id, trace_id, created_at, updated_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'new', 'live', 0, 0, '{}', '{}', '{}', 0, %s, %s, %s, %s)
ON CONFLICT ON CONSTRAINT order_client_id_once DO NOTHING RETURNING id
"""


@dataclass(frozen=True)
class Submission:
    """What became of a request: the order as it stands, and whether it was there before."""

    order: Order
    replayed: bool


def hot_state() -> HotState:
    config = settings.TRADINGBOT
    return HotState(config.redis_url.get_secret_value(), config.store_timeout_seconds)


def _parties(intent: OrderIntent) -> tuple[Account, Strategy]:
    account = Account.objects.filter(code=intent.account, active=True).first()
    strategy = Strategy.objects.filter(code=intent.strategy, active=True).first()
    if account is None or strategy is None:
        missing = f"account {intent.account}" if account is None else f"strategy {intent.strategy}"
        raise NotFoundError(f"there is no active {missing}", code="not_found", remedy="check the name")
    return account, strategy


def submit_order(intent: OrderIntent, *, actor: str, clock: Clock = SYSTEM_CLOCK) -> Submission:
    """Place ``intent`` once. A repeat answers with the same order; another body raises ``client_order_id_reused``."""
    account, strategy = _parties(intent)
    market = read_quote(hot_state(), intent.symbol)
    order = _decide(intent, account, strategy, market, actor, clock)
    if order is None:
        return Submission(_replay(intent, account), replayed=True)
    if order.status == Status.PENDING_SUBMIT:
        order = _send(intent, order, clock)
    return Submission(order, replayed=False)


def check_order(intent: OrderIntent, *, clock: Clock = SYSTEM_CLOCK) -> Decision:
    """The decision that ``submit_order`` would make now; nothing is written."""
    account, _ = _parties(intent)
    market = read_quote(hot_state(), intent.symbol)
    row = RiskRow.objects.filter(pk=account_scope(account.code)).first()
    if row is None:
        raise NotFoundError("the account has no risk row", code="account_not_ready", remedy="set the account up")
    used = Order.objects.filter(account=account, client_order_id=intent.client_order_id).exists()
    return evaluate(intent, risk_snapshot(intent, account, row, market, clock.now(), used))


def _decide(
    intent: OrderIntent, account: Account, strategy: Strategy, market: Any, actor: str, clock: Clock
) -> Order | None:
    """Transaction 1. None when the id was there before."""
    now = clock.now()
    with transaction.atomic(durable=True):
        order_id = _insert(intent, account, strategy, now)
        if order_id is None:
            return None
        row = lock_risk(account_scope(account.code))
        snapshot = risk_snapshot(intent, account, row, market, now, used=False)
        decision = evaluate(intent, snapshot)
        order = Order.objects.get(pk=order_id)
        order.decision = decision.as_dict()
        order.snapshot = {name: str(value) for name, value in vars(snapshot).items()}
        order.status = next_status(order.status, Event.RESERVE if decision.allowed else Event.DENY)
        if decision.allowed:
            price = reserved_price(intent, snapshot) or Decimal(0)
            order.reserved_price = price.quantize(Decimal("1e-9")) if intent.side.sign > 0 else Decimal(0)
            row.reserved_cash += order.reserved_price * order.qty
            order.send_by = clock.now() + timedelta(seconds=settings.TRADINGBOT.send_by_seconds)
        order.save()
        failed = [check["code"] for check in order.decision["checks"] if not check["passed"]]
        data = {"before": "new", "after": order.status, "body": intent.canonical(), "failed": failed}
        kind = "order_reserved" if decision.allowed else "order_denied"
        journal.append(row, kind=kind, actor=actor, subject=order.client_order_id, data=data, at=now)
    order.account, order.strategy = account, strategy
    return order


def _insert(intent: OrderIntent, account: Account, strategy: Strategy, now: Any) -> int | None:
    """The referee: one row an id. None when another request has it."""
    values = [account.pk, strategy.pk, intent.client_order_id, digest(intent.canonical()), intent.symbol]
    values += [intent.side.value, intent.qty, intent.type.value, intent.limit_price, intent.time_in_force.value]
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [*values, build_id(), TRACE_ID.get(), now, now])
        found = cursor.fetchone()
    return found[0] if found else None


def _replay(intent: OrderIntent, account: Account) -> Order:
    order = Order.objects.select_related("account", "strategy").get(
        account=account, client_order_id=intent.client_order_id
    )
    if order.body_digest != digest(intent.canonical()):
        raise ConflictError(
            f"{intent.client_order_id} was used for another order",
            code="client_order_id_reused",
            remedy="send a new id, or repeat the same body",
        )
    return order


def _send(intent: OrderIntent, order: Order, clock: Clock) -> Order:
    """Call the broker once, with no transaction open, and record what it said."""
    if order.send_by is None or clock.now() >= order.send_by:
        return order  # its time is over: recovery will look whether it is there
    try:
        found = execution_client(settings.TRADINGBOT).place_order(intent.request())
    except BrokerRejectedError as error:
        breakers.mark_error(f"strategy:{intent.strategy}", clock=clock)
        evidence = {"code": error.code, "message": error.message, **error.evidence}
        return record_answer(order, Event.REJECT, evidence, cause="broker", clock=clock)
    except BrokerUnreachableError as error:
        breakers.mark_error(account_scope(intent.account), clock=clock)
        evidence = {"code": "broker_unreachable", "message": error.message, **error.evidence}
        return record_answer(order, Event.REJECT, evidence, cause="broker", clock=clock)
    except BrokerInDoubtError as error:
        breakers.mark_error(account_scope(intent.account), clock=clock)
        evidence = {"code": "broker_in_doubt", "message": error.message, **error.evidence}
        return record_answer(order, Event.LOSE_SIGHT, evidence, cause="broker", clock=clock)
    evidence = {"broker_status": found.status}
    return record_answer(
        order, Event.ACCEPT, evidence, cause="broker", clock=clock, broker_order_id=found.broker_order_id
    )
