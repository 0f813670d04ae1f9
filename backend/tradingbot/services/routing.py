"""An order split by its strategy's mode, and judged: the whole on the real and the shadow book, the placed part on the
real book alone.

Invariants: a shadow part is only opened for an order that every gate let through; the placed part passes every gate by
itself as well, with its own quantity on the real book, else it is not placed; a canary's share counts on its day before
it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from django.db import connection

from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.execution.routing import Mode, OwnBook, Route, route
from backend.tradingbot.models import Order
from backend.tradingbot.risk.promotion import cap_reached
from backend.tradingbot.risk.snapshot import RiskSnapshot, notional
from backend.tradingbot.selectors.risk import Judged

ZERO = Decimal(0)
COUNT = """
INSERT INTO tradingbot_canaryday AS day (account_id, strategy_id, session, orders, notional, loss, opening, marks)
VALUES (%s, %s, %s, 1, %s, 0, '{}', '{}')
ON CONFLICT ON CONSTRAINT canary_day_once
DO UPDATE SET orders = day.orders + 1, notional = day.notional + excluded.notional
"""


@dataclass(frozen=True)
class Split:
    """``whole`` is what the gates are asked about, on ``snapshot``; ``placed`` is the part for the broker, None when
    there is none, to be judged on ``real`` as well when it is not the whole."""

    whole: OrderIntent
    snapshot: RiskSnapshot
    placed: OrderIntent | None
    real: RiskSnapshot
    route: Route

    @property
    def shadowed(self) -> Decimal:
        return self.route.shadowed

    def still_trusted(self, mode: str | None) -> bool:
        """Whether a build that is in ``mode`` by now may still place this. What only reduces is let out in every mode;
        a mode that is not known any more is the gate's to deny."""
        decided = self.real.strategy_mode.mode
        if self.snapshot.flattening or self.route.placed <= self.route.reducing or None in (mode, decided):
            return True
        return Mode(str(mode)).rank >= Mode(str(decided)).rank

    def all_shadowed(self) -> Split:
        return replace(self, placed=None, route=Route(ZERO, self.whole.qty, ZERO))


def split_by_mode(intent: OrderIntent, judged: Judged) -> Split:
    """How ``intent`` divides. An order whose mode is not known is judged whole, and the gate denies it."""
    snapshot = judged.snapshot
    known = snapshot.strategy_mode.mode
    if known is None or snapshot.flattening:
        return Split(intent, snapshot, intent, snapshot, Route(intent.qty, ZERO, ZERO))
    mode = Mode(known)
    if mode is not Mode.SHADOW and (snapshot.strategy_mode.reducing or snapshot.strategy_mode.cap_reached):
        mode = Mode.SHADOW
    book = snapshot.book
    own = OwnBook(book.strategy_position, book.strategy_buys, book.strategy_sells)
    parts = route(mode, intent.side, intent.qty, own, judged.canary, judged.shadow.own())
    if mode is Mode.CANARY and parts.placed > parts.reducing:
        capped = _cap(intent, judged, parts)
        if capped:
            snapshot = replace(snapshot, strategy_mode=replace(snapshot.strategy_mode, cap_reached=capped))
            parts = route(Mode.SHADOW, intent.side, intent.qty, own, None, judged.shadow.own())
    if parts.shadowed == 0:
        return Split(intent, snapshot, intent, snapshot, parts)
    placed = replace(intent, qty=parts.placed) if parts.placed > 0 else None
    return Split(intent, judged.shadow.on_top_of(snapshot), placed, snapshot, parts)


def _cap(intent: OrderIntent, judged: Judged, parts: Route) -> str | None:
    """Which daily cap the placed part would pass; a part that cannot be priced passes the one on notional."""
    if judged.caps is None:
        return "orders"
    value = notional(replace(intent, qty=parts.placed - parts.reducing), judged.snapshot)
    return "notional" if value is None else cap_reached(judged.caps, judged.day, next_notional=value)


def count_canary(order: Order, split: Split, judged: Judged) -> None:
    """The share of new risk that is about to be placed, on its session's row. The caller's transaction commits it."""
    share = split.route.placed - split.route.reducing
    if split.placed is None or share <= 0 or split.real.strategy_mode.mode != Mode.CANARY:
        return
    value = notional(replace(split.whole, qty=share), split.real) or ZERO
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [order.account.pk, order.strategy.pk, judged.session, value.quantize(Decimal("1e-9"))])
