"""The way of one order. Transaction 1 decides and reserves; the broker is called with none open; transaction 2 records.

Invariants: the unique row of (account, client order id) decides who sends; only the request that inserted it sends, at
most once, and not after ``send_by``; a denial is stored, never rolled back; an order in doubt keeps its reservation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.brokers.answers import (
    BrokerInDoubtError,
    BrokerOrder,
    BrokerRejectedError,
    BrokerUnreachableError,
)
from backend.tradingbot.brokers.registry import client_for
from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock, Deadline
from backend.tradingbot.core.errors import ConflictError, NotFoundError, TradingbotError
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import OrderIntent, plain
from backend.tradingbot.execution.order_state import Event, Status, next_status
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.infra import failpoints, metrics
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, Order, RiskRow, Strategy
from backend.tradingbot.risk.gate_book import reserved_cash_a_unit
from backend.tradingbot.risk.gates import Decision, RiskSnapshot, evaluate
from backend.tradingbot.risk.snapshot_json import to_json
from backend.tradingbot.selectors.risk import read_market, risk_snapshot, with_stops_of_now
from backend.tradingbot.selectors.risk_parts import MarketReading, headroom
from backend.tradingbot.services import breakers, exposures, journal, shadow
from backend.tradingbot.services.claims import claim
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.order_life import evidence_of, record_answer, reservation
from backend.tradingbot.services.permits import after_decision
from backend.tradingbot.services.routing import Split, count_canary, split_by_mode

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Submission:
    """What became of a request: the order as it stands, and whether it was there before."""

    order: Order
    replayed: bool


def submit_order(
    intent: OrderIntent,
    *,
    account: Account,
    strategy: Strategy,
    actor: str,
    flattening: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> Submission:
    """Place ``intent`` once. A repeat answers with the same order; another body raises ``client_order_id_reused``.

    ``flattening`` is for the flatten service alone: its reductions pass a halt, also of an account that is not active.
    """
    if not flattening:
        _require_active(intent, account, strategy)
    deadline = Deadline.after(settings.TRADINGBOT.send_by_seconds, clock)
    with metrics.stage("whole"):
        with metrics.stage("market_data"):
            market = read_market(hot_state(), intent, actor, clock, consume=True)
        with metrics.stage("decide"):
            judged = _decide(intent, account, strategy, market, actor, flattening, clock)
        if judged is None:
            return Submission(_replay(intent, account), replayed=True)
        order, split = judged
        if order.status == Status.PENDING_SUBMIT and split.placed is not None:
            failpoints.hit("submit.before_send", order.client_order_id)
            order = _send(split.placed, order, split, deadline, clock)
    metrics.ORDERS.labels(str(order.status), intent.strategy, order.mode).inc()
    return Submission(order, replayed=False)


def check_order(intent: OrderIntent, *, actor: str = "", clock: Clock = SYSTEM_CLOCK) -> Decision:
    """The decision that ``submit_order`` would make now; nothing is written."""
    account = Account.objects.filter(code=intent.account).first()
    strategy = Strategy.objects.filter(code=intent.strategy).first()
    account, strategy = _require_active(intent, account, strategy)
    market = read_market(hot_state(), intent, actor, clock, consume=False)
    row = RiskRow.objects.filter(pk=account_scope(account.code)).first()
    if row is None:
        raise NotFoundError("the account has no risk row", code="account_not_ready", remedy="set the account up")
    used = Order.objects.filter(account=account, client_order_id=intent.client_order_id).exists()
    split = split_by_mode(intent, risk_snapshot(intent, account, strategy, row, market, clock.now(), used))
    return evaluate(split.whole, split.snapshot, watch=metrics.GateWatch())


def _require_active(
    intent: OrderIntent, account: Account | None, strategy: Strategy | None
) -> tuple[Account, Strategy]:
    if account is None or not account.active or account.code != intent.account:
        raise NotFoundError(f"there is no active account {intent.account}", code="not_found", remedy="check the name")
    if strategy is None or not strategy.active or strategy.code != intent.strategy:
        raise NotFoundError(f"there is no active strategy {intent.strategy}", code="not_found", remedy="check the name")
    return account, strategy


def _decide(
    intent: OrderIntent,
    account: Account,
    strategy: Strategy,
    market: MarketReading,
    actor: str,
    flattening: bool,
    clock: Clock,
) -> tuple[Order, Split] | None:
    """Transaction 1. None when the id was there before."""
    now = clock.now()
    order = _new_order(intent, account, strategy, now)
    with transaction.atomic(durable=True):
        if not claim(order):
            return None
        failpoints.hit("submit.id_claimed", order.client_order_id)
        row = lock_risk(account_scope(account.code))
        judged = risk_snapshot(intent, row.account, strategy, row, market, now, False, flattening)
        decision, split = _judge(order, split_by_mode(intent, judged))
        snapshot = split.snapshot
        order.decision, order.snapshot = decision.as_dict(), to_json(snapshot)
        order.mode = "live" if flattening else snapshot.strategy_mode.mode or "shadow"
        order.reduces = snapshot.is_reduction(intent)
        kind = "order_denied"
        order.status = next_status(order.status, Event.RESERVE if decision.allowed else Event.DENY)
        if decision.allowed:
            kind = _reserve(order, row, split, judged.at)
        failed = [check.code for check in decision.checks if not check.passed]
        data: dict[str, Any] = {
            "before": "new",
            "after": str(order.status),
            "body": intent.canonical(),
            "failed": failed,
        }
        data |= {"mode": order.mode, "placed": plain(order.qty), "strategy_build": order.strategy_build}
        journal.append_with_order(row, order, kind=kind, actor=actor, data=data, at=now, deciding=True)
        after_decision(row, order, intent, snapshot, decision)
        if decision.allowed and split.shadowed > 0:
            shadow.open_part(order, replace(intent, qty=split.shadowed), split.shadowed, snapshot)
        if decision.allowed:
            count_canary(order, split, judged)
        failpoints.hit("submit.before_intent_commit", order.client_order_id)
    for check in decision.checks:
        if not check.passed:
            metrics.DENIALS.labels(check.gate, check.code, intent.strategy, order.mode).inc()
    return order, split


def _reserve(order: Order, row: RiskRow, split: Split, database_time: datetime) -> str:
    """What an order that was let through takes: cash and time to be sent for the placed part. An order that is all
    simulated takes nothing real and is accepted at once. The kind of its journal entry."""
    if split.shadowed > 0:
        order.requested_qty, order.qty = split.whole.qty, Decimal(0)
    if split.placed is None:
        order.status = next_status(order.status, Event.ACCEPT)
        return "order_shadowed"
    order.qty = split.placed.qty
    price = reserved_cash_a_unit(split.placed, split.real) or Decimal(0)
    order.reserved_price = price.quantize(Decimal("1e-9"), ROUND_UP)
    row.reserved_cash += reservation(order)
    order.send_by = database_time + timedelta(seconds=settings.TRADINGBOT.send_by_seconds)
    return "order_reserved"


def _judge(order: Order, split: Split) -> tuple[Decision, Split]:
    """The decision on the whole, with the placed part's exposure taken when it is a yes. A part that the real book has
    no room for by itself is simulated like the rest."""
    if split.shadowed == 0:
        decision, snapshot = _judge_placed(order, split.whole, split.real)
        return decision, replace(split, snapshot=snapshot, real=snapshot)
    decision = evaluate(split.whole, split.snapshot, watch=metrics.GateWatch())
    if not decision.allowed or split.placed is None:
        return decision, split
    part, snapshot = _judge_placed(order, split.placed, split.real)
    if not part.allowed:
        order.evidence = {"not_placed": [check.code for check in part.checks if not check.passed]}
        return decision, split.all_shadowed()
    return decision, replace(split, real=snapshot)


def _judge_placed(order: Order, intent: OrderIntent, snapshot: RiskSnapshot) -> tuple[Decision, RiskSnapshot]:
    """The decision, its exposure taken when it is a yes. Headroom above the account is taken last; when it went to
    others since the snapshot was read, the order is judged again by what is left, with those rows locked."""
    decision = evaluate(intent, snapshot, watch=metrics.GateWatch())
    if not decision.allowed or exposures.reserve(order, intent, snapshot):
        return decision, snapshot
    oldest = snapshot.headroom[0].oldest_greeks
    left = headroom(intent, snapshot.limits, exposures.locked_headroom(intent), oldest)
    snapshot = replace(snapshot, headroom=left)
    decision = evaluate(intent, snapshot, watch=metrics.GateWatch())
    if decision.allowed and not exposures.reserve(order, intent, snapshot):
        raise RuntimeError(f"{order.client_order_id} fits, and its headroom cannot be taken; nothing is committed")
    return decision, snapshot


def _new_order(intent: OrderIntent, account: Account, strategy: Strategy, now: datetime) -> Order:
    return Order(
        account=account,
        strategy=strategy,
        client_order_id=intent.client_order_id,
        body_digest=digest(intent.canonical()),
        symbol=intent.symbol,
        side=intent.side.value,
        qty=intent.qty,
        type=intent.type.value,
        limit_price=intent.limit_price,
        time_in_force=intent.time_in_force.value,
        greeks={name: plain(value) for name, value in intent.greeks.items()},
        permit_id=intent.permit_id or "",
        strategy_build=intent.strategy_build,
        build_id=build_id(),
        trace_id=TRACE_ID.get(),
        created_at=now,
        updated_at=now,
    )


def _replay(intent: OrderIntent, account: Account) -> Order:
    order = Order.objects.select_related("account", "strategy").get(
        account=account, client_order_id=intent.client_order_id
    )
    if order.body_digest != digest(intent.canonical()):
        raise ConflictError(
            f"client_order_id: {intent.client_order_id} was used for another order{_differing(intent, order)}",
            code="client_order_id_reused",
            remedy="send a new id, or repeat the same body",
        )
    return order


def _differing(intent: OrderIntent, order: Order) -> str:
    """The fields in which the two bodies differ, as far as the order still shows them."""
    there = {
        "strategy": order.strategy.code, "symbol": order.symbol, "side": order.side, "type": order.type,
        "qty": plain(order.requested_qty or order.qty), "limit_price": plain(order.limit_price),
        "time_in_force": order.time_in_force,
    }  # fmt: skip
    body = intent.canonical()
    found = [f"{name} was {kept}, and is {body[name]} now" for name, kept in there.items() if kept != body[name]]
    return f" ({'; '.join(found)})" if found else ""


def _send(intent: OrderIntent, order: Order, split: Split, deadline: Deadline, clock: Clock) -> Order:
    """Call the broker once, with no transaction open, and record what it said.

    ``deadline`` is kept by the clocks of this process, up to the write to the broker's socket.
    """
    latest, database_time = with_stops_of_now(intent, order.account, order.strategy, split.real)
    verdict = evaluate(intent, latest, watch=metrics.GateWatch())
    if not split.still_trusted(latest.strategy_mode.mode):
        return record_answer(order, Event.DENY, _demoted(latest), cause="gateway", clock=clock)
    if not verdict.allowed:
        return record_answer(order, Event.DENY, _stopped(verdict), cause="gateway", clock=clock)
    if order.send_by is None or database_time >= order.send_by or deadline.passed():
        return order  # its time is over: recovery will look whether it is there
    failpoints.hit("submit.send_begins", order.client_order_id)
    with metrics.stage("broker"):
        event, evidence, found = _place(intent, order.account.broker_account, deadline, clock)
    failpoints.hit("submit.before_record", order.client_order_id)
    with metrics.stage("record"):
        return record_answer(order, event, evidence, cause="broker", clock=clock, found=found)


def _demoted(latest: RiskSnapshot) -> dict[str, Any]:
    """The build is trusted less than when the order was split: its new risk is withheld, nothing was sent."""
    message = f"strategy_mode: the build was demoted to {latest.strategy_mode.mode} before the order was sent"
    return {"code": "stopped_before_send", "message": message, "failed": ["demoted"]}


def _stopped(verdict: Decision) -> dict[str, Any]:
    """Something tripped or was halted after the decision was committed: the order is withheld, nothing was sent."""
    failed = [check for check in verdict.checks if not check.passed]
    message = "; ".join(f"{check.gate}: {check.message}" for check in failed)
    return {"code": "stopped_before_send", "message": message, "failed": [check.code for check in failed]}


def _place(
    intent: OrderIntent, broker_account: str, deadline: Deadline, clock: Clock
) -> tuple[Event, dict[str, Any], BrokerOrder | None]:
    """What became of the one request to the broker; anything but a yes is counted on a breaker.

    That it cannot be counted must not keep what the broker said from being recorded.
    """
    try:
        found = client_for(settings.TRADINGBOT, broker_account).place_order(intent.request(), deadline)
    except BrokerRejectedError as error:
        _count(error, intent, clock)
        return Event.REJECT, {"code": error.code, "message": error.message, **error.evidence}, None
    except BrokerUnreachableError as error:
        _count(error, intent, clock)
        return Event.REJECT, {"code": error.code, "message": error.message, **error.evidence}, None
    except BrokerInDoubtError as error:
        _count(error, intent, clock)
        return Event.LOSE_SIGHT, {"code": "broker_in_doubt", "message": error.message, **error.evidence}, None
    if not found.accepted:
        _count(BrokerRejectedError("broker_rejected", "the broker took the order and rejected it"), intent, clock)
    return Event.ACCEPT, {"broker_status": found.status, **evidence_of(found)}, found


def _count(error: TradingbotError, intent: OrderIntent, clock: Clock) -> None:
    try:
        breakers.count_broker_error(error, account=intent.account, strategy=intent.strategy, clock=clock)
    except Exception:
        log.exception("broker_error_not_counted", client_order_id=intent.client_order_id, code=error.code)
