"""Clients that decide without placing (shadow), or that place a small, exact share of each order (canary).

Invariants: a shadow client never calls the real client to place or to cancel; what a canary places depends on the order
and its settings alone, never on chance, so a restart decides the same; its daily count is taken before anything is
sent, so a lost answer still counts; the log is bounded and handed out as a copy.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from threading import RLock
from typing import Any
from zoneinfo import ZoneInfo

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock, rfc3339
from backend.tradingbot.execution.interfaces import ExecutionClient, OrderAck, OrderFill, OrderRequest

log = logging.getLogger(__name__)

LOG_LENGTH = 10_000
NEW_YORK = ZoneInfo("America/New_York")


class ShadowExecutionClient(ExecutionClient):
    """Takes every order, places none. ``real`` is asked only whether it is connected."""

    mode = "shadow"

    def __init__(self, real: ExecutionClient, log_all_orders: bool = True, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.real = real
        self.log_all_orders = log_all_orders
        self._clock = clock
        self._lock = RLock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)
        self._logged = 0

    def validate_connection(self) -> bool:
        """True when the real client answers; an error of it is False, since shadow trading needs no broker."""
        try:
            return bool(self.real.validate_connection())
        except Exception:  # whatever is wrong with the far side, it is not connected
            log.warning("shadow_real_client_unreachable", exc_info=True)
            return False

    def place_order(self, req: OrderRequest) -> OrderAck:
        """Log the order and accept it, with no broker's id and the reason ``shadow_mode``."""
        self._record("place_order", req)
        return OrderAck(req.client_order_id, None, True, "shadow_mode")

    def get_order(self, broker_order_id: str) -> OrderFill | Mapping[str, Any] | None:
        """Empty: no shadow order stands at the broker."""
        return {}

    def list_open_orders(self) -> Sequence[Any]:
        return []

    def cancel_order(self, broker_order_id: str) -> bool:
        """True, and nothing is asked of the real client: there is nothing of ours to cancel."""
        return True

    def reconcile(self) -> Any:
        """Nothing was placed, so nothing can differ."""
        return {}

    def get_order_log(self) -> list[dict[str, Any]]:
        """A copy of the last entries, oldest first, at most ``LOG_LENGTH``."""
        with self._lock:
            return [dict(entry) for entry in self._entries]

    def clear_order_log(self) -> None:
        with self._lock:
            self._entries.clear()
            self._logged = 0

    def get_order_count(self) -> int:
        """Orders logged since the log was cleared, also those that the bounded log has dropped."""
        with self._lock:
            return self._logged

    def status(self) -> dict[str, Any]:
        """``mode``, ``real_client_connected``, ``orders_logged`` and ``log_all_orders``."""
        return {
            "mode": self.mode,
            "real_client_connected": self.validate_connection(),
            "orders_logged": self.get_order_count(),
            "log_all_orders": self.log_all_orders,
        }

    def _get_timestamp(self) -> str:
        return rfc3339(self._clock.now()) or ""

    def _record(self, action: str, req: OrderRequest) -> None:
        entry = {
            "timestamp": self._get_timestamp(),
            "action": action,
            "client_order_id": req.client_order_id,
            "symbol": req.symbol,
            "side": req.side,
            "quantity": req.qty,
            "order_type": req.type,
            "price": req.limit_price,
            "time_in_force": req.time_in_force,
        }
        with self._lock:
            self._entries.append(entry)
            self._logged += 1
        if self.log_all_orders:
            log.info("%s_order client_order_id=%s symbol=%s", self.mode, req.client_order_id, req.symbol)


def canary_share(
    qty: Decimal, allocation: Decimal, *, lot: Decimal = Decimal(1), at_least_one: bool = False
) -> Decimal:
    """The part of ``qty`` that a canary places: ``qty * allocation`` rounded down to a multiple of ``lot``.

    ``allocation`` is a fraction in (0, 1]. With ``at_least_one`` a share that rounds to nothing is one lot, though
    never more than ``qty``. The same order always gives the same share. Raises ValueError for figures that are not
    finite and above zero, or an allocation above 1.
    """
    for name, value in (("qty", qty), ("allocation", allocation), ("lot", lot)):
        if not value.is_finite() or value <= 0:
            raise ValueError(f"{name} must be finite and above zero, not {value}")
    if allocation > 1:
        raise ValueError(f"allocation must be at most 1, not {allocation}")
    share = qty * allocation // lot * lot
    return lot if share == 0 and at_least_one and lot <= qty else share


class CanaryExecutionClient(ShadowExecutionClient):
    """A shadow client with a daily order limit; with ``live=True`` it places the allocated share of each order.

    The rest of each order is shadowed. The day is New York's. Raises ValueError for an allocation outside (0, 1] or a
    negative limit.
    """

    mode = "canary"

    def __init__(
        self,
        real: ExecutionClient,
        canary_allocation_pct: float | Decimal = 0.1,
        max_daily_orders: int = 10,
        live: bool = False,
        *,
        lot: Decimal | int = 1,
        at_least_one_lot: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(real, clock=clock)
        share = Decimal(str(canary_allocation_pct))
        if not share.is_finite() or not 0 < share <= 1:
            raise ValueError(f"canary_allocation_pct must be in (0, 1], not {canary_allocation_pct!r}")
        if isinstance(max_daily_orders, bool) or not isinstance(max_daily_orders, int) or max_daily_orders < 0:
            raise ValueError(f"max_daily_orders must be a whole number, not negative, not {max_daily_orders!r}")
        self.canary_allocation_pct = canary_allocation_pct
        self.max_daily_orders = max_daily_orders
        self.live = live
        self._share, self._lot, self._at_least_one = share, Decimal(lot), at_least_one_lot
        self._count = 0
        self._day = self._get_current_date()

    def place_order(self, req: OrderRequest) -> OrderAck:
        """Place the share (when live) and shadow the rest; over the daily limit nothing is placed or counted.

        An exception of the real client, an order in doubt among them, is the caller's; the order stays counted.
        """
        if not self._count_one():
            return OrderAck(req.client_order_id, None, False, "canary_daily_limit_exceeded")
        self._record("place_order", req)
        if self.live:
            share = canary_share(Decimal(str(req.qty)), self._share, lot=self._lot, at_least_one=self._at_least_one)
            if share > 0:
                return self.real.place_order(replace(req, qty=share))
        return OrderAck(req.client_order_id, None, True, "shadow_mode")

    def get_order(self, broker_order_id: str) -> OrderFill | Mapping[str, Any] | None:
        return self.real.get_order(broker_order_id) if self.live else {}

    def list_open_orders(self) -> Sequence[Any]:
        return self.real.list_open_orders() if self.live else []

    def cancel_order(self, broker_order_id: str) -> bool:
        """What a live canary placed is really there, and is really cancelled."""
        return self.real.cancel_order(broker_order_id) if self.live else True

    def reconcile(self) -> Any:
        return self.real.reconcile() if self.live else {}

    def status(self) -> dict[str, Any]:
        """The shadow client's status and ``canary_allocation_pct``, ``max_daily_orders``, ``daily_order_count``,
        ``last_reset_date`` and ``live``."""
        with self._lock:
            self._roll()
            count, day = self._count, self._day
        return {
            **super().status(),
            "canary_allocation_pct": self.canary_allocation_pct,
            "max_daily_orders": self.max_daily_orders,
            "daily_order_count": count,
            "last_reset_date": day,
            "live": self.live,
        }

    def _get_current_date(self) -> str:
        return self._clock.now().astimezone(NEW_YORK).date().isoformat()

    def _roll(self) -> None:
        today = self._get_current_date()
        if today != self._day:
            self._day, self._count = today, 0

    def _count_one(self) -> bool:
        with self._lock:
            self._roll()
            if self._count >= self.max_daily_orders:
                return False
            self._count += 1
            return True
