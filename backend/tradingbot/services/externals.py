"""Orders that were placed elsewhere at the broker: stored as the strategy ``external``, counted, never sent from here.

Invariant: one row an external order, by the broker's own id, so that finding it again adds nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from backend.tradingbot.brokers.answers import BrokerFillActivity, BrokerOrder
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import plain
from backend.tradingbot.execution.order_state import Event, IllegalTransitionError, Status
from backend.tradingbot.execution.order_view import ENDED
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, Order, Strategy
from backend.tradingbot.services import breaks, exposures, journal
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.order_life import note_refusal, rereserving, take_view
from backend.tradingbot.services.positions import multiplier

EXTERNAL = "external"
STEP = Decimal("1e-9")


def create_external(
    account: Account,
    found: BrokerOrder,
    *,
    clock: Clock,
    executed: bool = False,
    contradicts: tuple[Order, str] | None = None,
) -> Order | None:
    """The row of an order placed elsewhere, its exposure reserved. None when it ended and nothing was ``executed``.

    ``contradicts`` is the order here that the broker's denies, and how; its state stays as it is.
    """
    if found.status in ENDED and found.filled_qty == 0 and not executed:
        return None
    if not found.side or not found.symbol:
        return None  # the parent of a multi-leg order: its legs are orders of their own
    with locked_risk(account_scope(account.code)) as row:
        known = Order.objects.filter(account=account, broker_order_id=found.broker_order_id).first()
        if known is not None:
            return known
        order = _row(account, found, clock)
        order.save(force_insert=True)
        with rereserving(row, order):
            order.status = Status.ACCEPTED
        data = {"before": "new", "after": "accepted", "broker_order_id": found.broker_order_id, "body": _body(found)}
        journal.append_with_order(row, order, kind="external_order", actor="broker", data=data, at=clock.now())
        exposures.follow(order, now=clock.now(), price=found.limit_price)
        breaks.open_break(
            row, kind="missing_internal", subject=found.broker_order_id[:120], severity="warning", cause="broker",
            clock=clock, symbol=found.symbol, theirs=_body(found),
            explanation="an order that was placed elsewhere, past the gates; it is counted as external",
        )  # fmt: skip
        if contradicts is not None:
            ours, explanation = contradicts
            refused = IllegalTransitionError(explanation, status=str(ours.status), event=str(Event.ACCEPT))
            note_refusal(row, ours, refused, cause="broker", clock=clock)
        take_view(row, order, found, cause="broker", clock=clock)
    return order


def order_of(fill: BrokerFillActivity) -> BrokerOrder:
    """The least that an execution says of an order that the broker no longer knows."""
    return BrokerOrder(
        broker_order_id=fill.broker_order_id, client_order_id=fill.broker_order_id, symbol=fill.symbol, side=fill.side,
        qty=fill.qty, type="market", limit_price=None, status="unknown", filled_qty=fill.qty, filled_avg_price=None,
        submitted_at=None, updated_at=None, replaced_by=None, raw={},
    )  # fmt: skip


def _row(account: Account, found: BrokerOrder, clock: Clock) -> Order:
    now = clock.now()
    strategy, _ = Strategy.objects.get_or_create(
        code=EXTERNAL, defaults={"name": "Placed elsewhere at the broker", "active": False}
    )
    limited = found.limit_price is not None and found.limit_price > 0
    return Order(
        account=account, strategy=strategy, client_order_id=_own_id(found.broker_order_id),
        body_digest=digest(_body(found)), symbol=found.symbol, side=found.side, qty=_quantity(found),
        type="limit" if limited else "market", limit_price=found.limit_price if limited else None,
        time_in_force=str(found.raw.get("time_in_force") or "day")[:3], status=Status.NEW,
        broker_order_id=found.broker_order_id,
        reserved_price=_reserved_price(found),
        decision={"allowed": None, "checks": [], "origin": EXTERNAL}, evidence={EXTERNAL: _body(found)},
        build_id=build_id(), trace_id=TRACE_ID.get(), created_at=now, updated_at=now,
    )  # fmt: skip


def _own_id(broker_order_id: str) -> str:
    """An id in our own form; a strategy could only take it by guessing the broker's random id."""
    short = f"ext-{broker_order_id}"
    return short if len(short) <= 48 else f"ext-{digest(broker_order_id)[:40]}"


def _reserved_price(found: BrokerOrder) -> Decimal:
    """What one unit of a purchase holds back; nothing when its price is the market's, which is not known here."""
    if found.side != "buy" or found.limit_price is None:
        return Decimal(0)
    return (found.limit_price * multiplier(found.symbol)).quantize(STEP)


def _quantity(found: BrokerOrder) -> Decimal:
    """The quantity; of an order by notional what it comes to at the one price known of it, else as if a unit cost a
    dollar, which counts too much rather than too little."""
    if found.qty is not None and found.qty > 0:
        return found.qty
    notional = Decimal(str(found.raw.get("notional") or 0))
    price = found.filled_avg_price or found.limit_price or Decimal(1)
    return max(found.filled_qty, (notional / price).quantize(STEP), STEP)


def _body(found: BrokerOrder) -> dict[str, Any]:
    return {
        "broker_order_id": found.broker_order_id, "client_order_id": found.client_order_id, "symbol": found.symbol,
        "side": found.side, "qty": plain(found.qty), "type": found.type, "limit_price": plain(found.limit_price),
        "status": found.status, "submitted_at": rfc3339(found.submitted_at),
    }  # fmt: skip
