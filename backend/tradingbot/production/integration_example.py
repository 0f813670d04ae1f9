"""All seven modules wired together in plain Python: gate every order, update on every tick, close the day.

``python -m backend.tradingbot.production.integration_example`` plays a short day with a client that fills at the last
price. Invariants: the id is claimed before anything is sent, and only the claimer sends; what is recorded is what the
broker said, and an answer that was lost is recorded as in doubt, which is never sent again; any gate that raises
blocks.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import TradingBlockedError
from backend.tradingbot.data.quality import DataQualityMonitor
from backend.tradingbot.execution.interfaces import ExecutionClient, OrderAck, OrderRequest
from backend.tradingbot.execution.replay_guard import ReplayGuard
from backend.tradingbot.execution.shadow_client import CanaryExecutionClient, ShadowExecutionClient
from backend.tradingbot.infra.build_info import BuildStamper, build_id
from backend.tradingbot.infra.metrics import update_prometheus_metrics
from backend.tradingbot.ops.eod_recon import BrokerFill, EODReconciler, LocalOrder, ReconciliationBreaks
from backend.tradingbot.risk.circuit_breaker import BreakerLimits, CircuitBreaker
from backend.tradingbot.risk.greek_exposure_limits import GreekExposureLimiter, GreekLimits, PositionGreeks
from backend.tradingbot.risk.sizing import size_order


class TradingSystem:
    """One strategy's order path through every gate. ``client`` places; ``state_dir`` holds the guard and the breaks."""

    def __init__(
        self,
        client: ExecutionClient,
        start_equity: float,
        state_dir: Path,
        *,
        breaker_limits: BreakerLimits | None = None,
        greek_limits: GreekLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.client = client
        self.circuit_breaker = CircuitBreaker(start_equity, breaker_limits, clock=clock)
        self.data_quality = DataQualityMonitor(clock=clock)
        self.greek_limiter = GreekExposureLimiter(greek_limits)
        self.replay_guard = ReplayGuard(state_dir / "replay_guard.json", clock=clock)
        self.eod_reconciler = EODReconciler(str(state_dir / "eod_breaks.json"))
        self.orders: dict[str, dict[str, Any]] = {}

    def on_tick(self, symbol: str, price: float, equity: float) -> None:
        """Check the price, then freshness, the drawdown and the metrics. Raises TradingBlockedError for a bad price."""
        self.data_quality.validate_price(symbol, price)
        self.data_quality.mark_tick(symbol)
        self.circuit_breaker.mark_data_fresh()
        self.circuit_breaker.check_mtm(equity)
        self.circuit_breaker.poll()
        update_prometheus_metrics(
            staleness_sec=self.data_quality.get_staleness_seconds(symbol),
            circuit_open=not self.circuit_breaker.can_trade(),
        )

    def place_order(self, req: OrderRequest, after: PositionGreeks) -> OrderAck:
        """Gate, claim, send once, record. ``after`` is the name's exposure if the order fills whole.

        Raises TradingBlockedError when a gate blocks (the id stays free), and whatever the client raises when its
        answer was lost (the id is then in doubt and is never sent again).
        """
        self.data_quality.assert_fresh(req.symbol)
        self.circuit_breaker.require_ok()
        self.greek_limiter.require_ok()
        fits, violations = self.greek_limiter.validate_position(after)
        if not fits:
            raise TradingBlockedError(f"GREEK_LIMIT: {'; '.join(violations)}", code="greek_limit")
        if not self.replay_guard.should_process_order(req):
            state = self.replay_guard.get_state(req.client_order_id)
            raise TradingBlockedError(f"ALREADY_PROCESSED: {req.client_order_id} is {state}", code="already_processed")
        try:
            ack = self.client.place_order(req)
        except Exception:
            self.circuit_breaker.mark_error()
            self.replay_guard.record(req.client_order_id, "in_doubt")
            self._remember(req, None, "in_doubt")
            raise
        if not ack.accepted:
            self.circuit_breaker.mark_error()
        state = "acknowledged" if ack.accepted else "rejected"
        self.replay_guard.record(req.client_order_id, state)
        self._remember(req, ack.broker_order_id, "accepted" if ack.accepted else "rejected")
        if ack.accepted and ack.broker_order_id is not None:
            self.greek_limiter.add_position(after)
        return ack

    def end_of_day(
        self, orders: Sequence[LocalOrder], fills: Sequence[BrokerFill]
    ) -> tuple[ReconciliationBreaks, bool]:
        """The day's breaks, and whether the next day is disabled because of these or of older ones."""
        breaks = self.eod_reconciler.run_daily_reconciliation(orders, fills)
        return breaks, self.eod_reconciler.check_pending_breaks()

    def _remember(self, req: OrderRequest, broker_order_id: str | None, state: str) -> None:
        with BuildStamper("trading") as stamper:
            order = {"symbol": req.symbol, "side": req.side, "qty": req.qty, "state": state}
            self.orders[req.client_order_id] = stamper.stamp({**order, "broker_order_id": broker_order_id})


class LastPriceClient(ExecutionClient):
    """The example's counterparty, in this process: it fills every order whole at the last price it was told."""

    def __init__(self) -> None:
        self.prices: dict[str, Decimal] = {}
        self.fills: list[BrokerFill] = []

    def validate_connection(self) -> bool:
        return True

    def place_order(self, req: OrderRequest) -> OrderAck:
        broker_order_id = f"example-{len(self.fills) + 1}"
        price = float(self.prices[req.symbol])
        self.fills.append(BrokerFill(broker_order_id, req.symbol, float(req.qty), price, "filled"))
        return OrderAck(req.client_order_id, broker_order_id, True)


def main() -> int:
    """Play a short day and say what happened; 0 when everything came out as it must."""
    equity, client = 1_000_000.0, LastPriceClient()
    with tempfile.TemporaryDirectory() as folder:
        system = TradingSystem(client, equity, Path(folder))
        print(f"build {build_id()}")
        client.prices["AAPL"] = Decimal("190.00")
        system.on_tick("AAPL", 190.0, equity)
        qty = size_order(equity, 0.01, 190.0)
        order = OrderRequest("example-1", "AAPL", Decimal(qty), "buy", "market")
        exposure = PositionGreeks("AAPL", delta=qty, gamma=0, theta=0, vega=0, beta=1.2, notional=qty * 190.0)
        ack = system.place_order(order, exposure)
        print(f"placed {qty} AAPL (1 % of equity): {ack.broker_order_id}")
        repeated = blocked(system, order, exposure)
        print(f"the same again: {repeated}")

        shadow = ShadowExecutionClient(client)
        shadowed = shadow.place_order(OrderRequest("shadow-1", "AAPL", Decimal(10), "buy", "market"))
        print(f"a shadow order: {shadowed.reason}")
        canary = CanaryExecutionClient(client, canary_allocation_pct=0.1, live=True)
        share = canary.place_order(OrderRequest("canary-1", "AAPL", Decimal(100), "buy", "market"))
        print(f"a canary order of 100: {client.fills[-1].filled_qty:g} placed as {share.broker_order_id}")

        local = [
            LocalOrder("example-1", ack.broker_order_id, "AAPL", "buy", float(qty), "filled"),
            LocalOrder("canary-1", share.broker_order_id, "AAPL", "buy", 10.0, "filled"),
        ]
        breaks, disabled = system.end_of_day(local, client.fills)
        print(f"end of day: {breaks or 'no breaks'}, next day {'disabled' if disabled else 'enabled'}")

        system.circuit_breaker.check_mtm(equity * 0.93)
        stopped = blocked(system, OrderRequest("example-2", "AAPL", Decimal(1), "buy", "market"), exposure)
        print(f"after a loss of 7 %: {stopped}")
    right = (
        repeated.startswith("ALREADY_PROCESSED") and stopped.startswith("CIRCUIT_OPEN") and not breaks and not disabled
    )
    return 0 if right else 1


def blocked(system: TradingSystem, order: OrderRequest, exposure: PositionGreeks) -> str:
    """Why the order was blocked, or ``placed``."""
    try:
        system.place_order(order, exposure)
    except TradingBlockedError as error:
        return str(error)
    return "placed"


if __name__ == "__main__":
    sys.exit(main())
