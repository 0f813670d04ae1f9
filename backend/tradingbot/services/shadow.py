"""The shadow book: orders that were not placed, filled as the ticks that really came would have filled them.

Invariants: every change is made under the account's risk row, like the real book's; a shadow execution is never an
execution, moves no real position and no cash, and nothing here knows the broker; an order that is simulated as a whole
lives by the same table of transitions, moved from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal

import structlog
from django.conf import settings

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.core.occ import multiplier_of
from backend.tradingbot.core.values import OrderIntent, OrderType, Side, TimeInForce, plain
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.execution import shadow_fill
from backend.tradingbot.execution.average_cost import Holding
from backend.tradingbot.execution.order_state import Event
from backend.tradingbot.execution.shadow_fill import ShadowFill, Touch, fill_against
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import Account, RiskRow, ShadowExecution, ShadowName, ShadowOrder
from backend.tradingbot.models import Order as OrderRow
from backend.tradingbot.risk.exposure import UnitRisk, name_risk
from backend.tradingbot.risk.gate_book import reserved_cash_a_unit
from backend.tradingbot.risk.snapshot import RiskSnapshot
from backend.tradingbot.selectors.exposure import name_now
from backend.tradingbot.services import exposures
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.order_life import transition

log = structlog.get_logger(__name__)

ZERO, NINE_PLACES = Decimal(0), Decimal("1e-9")
AT_ONCE = 500


def open_part(order: OrderRow, intent: OrderIntent, qty: Decimal, snapshot: RiskSnapshot) -> None:
    """Put ``qty`` of an order that the gates let through into the shadow book. Inside the caller's transaction."""
    price = (reserved_cash_a_unit(intent, snapshot) or ZERO).quantize(NINE_PLACES, ROUND_UP)
    quote = snapshot.quote
    touch = None if quote is None else (quote.ask if intent.side is Side.BUY else quote.bid) or quote.price
    ShadowOrder.objects.create(order=order, qty=qty, reserved_price=price, arrival_price=touch)
    name = _name(order)
    _open(name, order.side, qty, price)
    _save(name, snapshot.book.unit)


def match(touches: Mapping[str, Touch], *, clock: Clock) -> int:
    """Fill open shadow orders against one tick a symbol; how many executions that made."""
    rows = ShadowOrder.objects.filter(status="open", order__symbol__in=list(touches)).order_by("pk")
    found = rows.values_list("order__account__code", "pk")[:AT_ONCE]
    by_account: dict[str, list[int]] = {}
    for account, key in found:
        by_account.setdefault(account, []).append(key)
    latency = timedelta(seconds=settings.TRADINGBOT.shadow_latency_seconds)
    made = 0
    for account, keys in by_account.items():
        with locked_risk(account_scope(account)) as row:
            for part in _locked(keys):
                touch = touches[part.order.symbol]
                fill = fill_against(_asked(part), touch, latency=latency)
                if fill is not None:
                    made += _book(row, part, fill, touch, clock)
    return made


def cancel(order: OrderRow, *, actor: str, clock: Clock) -> None:
    """Cancel what is open of the order's shadow part. Raises ConflictError ``order_terminal`` for an order that is
    simulated as a whole and has ended; beside a placed part, one that has ended is nothing to speak of."""
    closed = _close([order.pk], account_scope(order.account.code), "canceled", Event.CANCEL, actor, clock)
    if not closed and order.qty == 0:
        message = f"{order.client_order_id} has ended"
        raise ConflictError(message, code="order_terminal", remedy="nothing is left to cancel")


def cancel_parts(orders: Iterable[OrderRow], *, actor: str, clock: Clock) -> int:
    """Cancel what is open of the shadow parts of many orders; how many that were."""
    by_account: dict[str, list[int]] = {}
    for order in orders:
        by_account.setdefault(order.account.code, []).append(order.pk)
    return sum(
        _close(keys, account_scope(code), "canceled", Event.CANCEL, actor, clock)
        for code, keys in sorted(by_account.items())
    )


def expire(*, clock: Clock) -> int:
    """End the shadow parts of day orders whose session is over; how many."""
    ended, now = 0, clock.now()
    for account in Account.objects.filter(active=True):
        today = session_date(now, account.session_calendar)
        rows = ShadowOrder.objects.filter(status="open", order__account=account, order__time_in_force="day")
        old = [
            key
            for key, at in rows.values_list("pk", "order__created_at")
            if session_date(at, account.session_calendar) < today
        ]
        if old:
            ended += _close(old, account_scope(account.code), "expired", Event.EXPIRE, "session end", clock)
    return ended


def _close(keys: list[int], scope: str, status: str, event: Event, actor: str, clock: Clock) -> int:
    with locked_risk(scope) as row:
        parts = _locked(keys)
        for part in parts:
            _end(part, status)
            if part.order.qty == 0:
                transition(row, part.order, event, {"shadow": status}, cause=actor, clock=clock)
    return len(parts)


def _locked(keys: list[int]) -> list[ShadowOrder]:
    rows = ShadowOrder.objects.select_related("order__account", "order__strategy").select_for_update(of=("self",))
    return list(rows.filter(pk__in=keys, status="open").order_by("pk"))


def _asked(part: ShadowOrder) -> shadow_fill.ShadowOrder:
    order = part.order
    return shadow_fill.ShadowOrder(
        Side(order.side), OrderType(order.type), TimeInForce(order.time_in_force), part.qty - part.filled_qty,
        order.limit_price, order.created_at,
    )  # fmt: skip


def _book(row: RiskRow, part: ShadowOrder, fill: ShadowFill, touch: Touch, clock: Clock) -> int:
    """One simulated execution (or the end of an ioc order that met no price); how many executions that was."""
    order, now = part.order, clock.now()
    if fill.qty == 0:
        _end(part, "canceled")
        if order.qty == 0:
            transition(row, order, Event.CANCEL, {"shadow": "ioc met no price"}, cause="shadow", clock=clock)
        return 0
    tick = {name: plain(getattr(touch, name)) for name in ("price", "size", "bid", "ask")}
    ShadowExecution.objects.create(
        order=order, qty=fill.qty, price=fill.price, tick={**tick, "at": rfc3339(touch.at)}, occurred_at=touch.at,
        recorded_at=now, build_id=build_id(),
    )  # fmt: skip
    paid = (part.avg_price or ZERO) * part.filled_qty + fill.price * fill.qty
    part.filled_qty += fill.qty
    part.avg_price = (paid / part.filled_qty).quantize(NINE_PLACES)
    part.first_fill_at = part.first_fill_at or touch.at
    _move(part, fill, now)
    whole = part.filled_qty == part.qty
    part.status = "filled" if whole else "open"
    part.save()
    evidence = {"shadow": True, "qty": plain(fill.qty), "price": plain(fill.price)}
    if order.qty == 0:
        transition(row, order, Event.FILL if whole else Event.PARTIAL_FILL, evidence, cause="shadow", clock=clock)
    if fill.ends_order and not whole:
        _end(part, "canceled")
        if order.qty == 0:
            transition(row, order, Event.CANCEL, {"shadow": "the rest of an ioc order"}, cause="shadow", clock=clock)
    return 1


def _move(part: ShadowOrder, fill: ShadowFill, now: datetime) -> None:
    order, name = part.order, _name(part.order)
    signed = fill.qty * Side(order.side).sign
    multiplier = multiplier_of(order.symbol) or Decimal(1)
    held = Holding(name.position, name.avg_price, ZERO).moved(signed, fill.price)
    name.position, name.avg_price = held.qty, held.avg_price
    name.realized_pnl += held.realized_pnl * multiplier
    name.spent += (signed * fill.price * multiplier).quantize(NINE_PLACES)
    _open(name, order.side, -fill.qty, part.reserved_price)
    unit = name_now(order.account.pk, order.strategy.pk, order.symbol, now).unit
    _save(name, unit or exposures.unit_by_fill(order.symbol, fill.price, now))


def _end(part: ShadowOrder, status: str) -> None:
    name, order = _name(part.order), part.order
    _open(name, order.side, -(part.qty - part.filled_qty), part.reserved_price)
    found = name_now(order.account.pk, order.strategy.pk, order.symbol, order.updated_at)
    _save(name, found.unit)
    part.status = status
    part.save()


def _name(order: OrderRow) -> ShadowName:
    name, _ = ShadowName.objects.get_or_create(account=order.account, strategy=order.strategy, symbol=order.symbol)
    return name


def _open(name: ShadowName, side: str, qty: Decimal, price: Decimal) -> None:
    """Take (or, with a negative quantity, give back) what an open shadow order may still do."""
    if side == Side.BUY:
        name.buys = max(name.buys + qty, ZERO)
    else:
        name.sells = max(name.sells + qty, ZERO)
    name.reserved = max(name.reserved + (qty * price).quantize(NINE_PLACES, ROUND_UP), ZERO)


def _save(name: ShadowName, unit: UnitRisk | None) -> None:
    risk = name_risk(unit, name.position, name.buys, name.sells)
    if risk.known:  # an unknown unit keeps what was last known of the name, rather than letting its risk vanish
        name.gross, name.short, name.low, name.high = risk.gross, risk.short, list(risk.low), list(risk.high)
    name.save()
