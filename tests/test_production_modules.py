"""All production modules: each alone, wired together, in error, and how their cost grows (counted or as a ratio)."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from time import perf_counter

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import TradingBlockedError
from backend.tradingbot.data.quality import DataQualityMonitor
from backend.tradingbot.execution.interfaces import ExecutionClient, OrderAck, OrderRequest
from backend.tradingbot.execution.replay_guard import ReplayGuard
from backend.tradingbot.execution.shadow_client import CanaryExecutionClient, ShadowExecutionClient
from backend.tradingbot.infra.build_info import BuildStamper, build_id, get_strategy_version, version_info
from backend.tradingbot.ops.eod_recon import BrokerFill, EODReconciler, LocalOrder, reconcile
from backend.tradingbot.production.integration_example import LastPriceClient, TradingSystem
from backend.tradingbot.risk.circuit_breaker import KEPT_ERRORS, BreakerLimits, CircuitBreaker
from backend.tradingbot.risk.greek_exposure_limits import GreekExposureLimiter, GreekLimits, PositionGreeks

ROOT = Path(__file__).resolve().parents[1]
AAPL = PositionGreeks("AAPL", delta=1000, gamma=50, theta=-10, vega=200, beta=1.2, notional=100_000)


def order(name: str, qty: int = 10, symbol: str = "AAPL") -> OrderRequest:
    return OrderRequest(name, symbol, Decimal(qty), "buy", "market")


class TestEachModule:
    def test_the_breaker_trips_at_its_drawdown_and_stays_open(self) -> None:
        clock = FixedClock()
        breaker = CircuitBreaker(1_000_000.0, BreakerLimits(max_daily_drawdown=0.05), clock=clock)
        breaker.check_mtm(950_001.0)
        assert breaker.can_trade()
        breaker.check_mtm(950_000.0)
        assert breaker.reason == "daily-dd-0.050"
        clock.advance(86_400)
        with pytest.raises(TradingBlockedError, match="CIRCUIT_OPEN: daily-dd-0.050"):
            breaker.require_ok()

    def test_the_replay_guard_gives_one_claim_an_id_across_restarts(self, tmp_path: Path) -> None:
        path = tmp_path / "guard.json"
        assert ReplayGuard(path).should_process_order(order("a"))
        assert not ReplayGuard(path).should_process_order(order("a", qty=99))

    def test_reconciliation_finds_a_missing_fill_and_disables_the_next_day(self, tmp_path: Path) -> None:
        reconciler = EODReconciler(str(tmp_path / "breaks.json"))
        breaks = reconciler.run_daily_reconciliation([LocalOrder("a", "b-1", "AAPL", "buy", 10, "filled")], [])
        assert [text.split()[0].strip(":,") for text in breaks.missing_fill] == ["a"]
        assert reconciler.check_pending_breaks() is True

    def test_the_monitor_blocks_stale_data_and_an_outlier(self) -> None:
        clock = FixedClock()
        monitor = DataQualityMonitor(max_staleness_sec=20, max_return_z=6.0, clock=clock)
        monitor.mark_tick()
        clock.advance(21)
        with pytest.raises(TradingBlockedError, match="DATA_STALE"):
            monitor.assert_fresh()
        for number in range(10):
            monitor.validate_price("AAPL", 100 + number * 0.01)
        with pytest.raises(TradingBlockedError, match="PRICE_OUTLIER"):
            monitor.validate_price("AAPL", 100_000.0)

    def test_the_limiter_breaches_long_and_short_alike(self) -> None:
        for sign in (1, -1):
            limiter = GreekExposureLimiter(GreekLimits(max_per_name_delta=500, max_portfolio_delta=10_000))
            limiter.add_position(PositionGreeks("AAPL", 1000.0 * sign, 0, 0, 0, 0, 0))
            with pytest.raises(TradingBlockedError, match="Greek exposure limits violated"):
                limiter.require_ok()

    def test_shadow_and_canary_place_nothing_unless_live(self) -> None:
        client = LastPriceClient()
        assert ShadowExecutionClient(client).place_order(order("a")).reason == "shadow_mode"
        assert CanaryExecutionClient(client).place_order(order("b")).reason == "shadow_mode"
        assert client.fills == []

    def test_the_build_is_on_what_is_stamped(self) -> None:
        with BuildStamper("trading") as stamper:
            assert stamper.stamp({"id": 1})["build_id"] == build_id() == version_info()["build_id"]
        assert get_strategy_version("mean") == f"mean@{build_id()}"


@pytest.fixture
def client() -> LastPriceClient:
    client = LastPriceClient()
    client.prices["AAPL"] = Decimal(100)
    return client


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def system(client: LastPriceClient, clock: FixedClock, tmp_path: Path) -> TradingSystem:
    system = TradingSystem(client, 1_000_000.0, tmp_path, clock=clock)
    system.on_tick("AAPL", 100.0, 1_000_000.0)
    return system


class TestWiredTogether:
    def test_an_order_passes_every_gate_once_and_is_stamped(
        self, system: TradingSystem, client: LastPriceClient
    ) -> None:
        ack = system.place_order(order("a"), AAPL)
        assert ack == OrderAck("a", "example-1", True)
        assert system.replay_guard.get_state("a") == "acknowledged"
        assert system.orders["a"]["build_id"] == build_id()
        with pytest.raises(TradingBlockedError, match="ALREADY_PROCESSED: a is acknowledged"):
            system.place_order(order("a"), AAPL)
        assert len(client.fills) == 1

    def test_a_gate_that_blocks_leaves_the_id_free(
        self, system: TradingSystem, client: LastPriceClient, clock: FixedClock
    ) -> None:
        clock.advance(25)
        with pytest.raises(TradingBlockedError, match="DATA_STALE"):
            system.place_order(order("a"), AAPL)
        system.on_tick("AAPL", 100.0, 1_000_000.0)
        assert system.place_order(order("a"), AAPL).accepted

    def test_exposure_after_the_order_is_what_is_judged(self, system: TradingSystem, client: LastPriceClient) -> None:
        much = PositionGreeks("AAPL", delta=200_000, gamma=0, theta=0, vega=0, beta=0, notional=0)
        with pytest.raises(TradingBlockedError, match="GREEK_LIMIT"):
            system.place_order(order("a"), much)
        assert client.fills == []
        assert not system.replay_guard.seen("a")

    def test_a_clean_day_enables_the_next_and_a_break_disables_it(
        self, system: TradingSystem, client: LastPriceClient
    ) -> None:
        system.place_order(order("a"), AAPL)
        local = LocalOrder("a", "example-1", "AAPL", "buy", 10, "filled")
        breaks, disabled = system.end_of_day([local], client.fills)
        assert (bool(breaks), disabled) == (False, False)
        breaks, disabled = system.end_of_day([local], [*client.fills, BrokerFill("x-9", "AAPL", 5, 100.0, "filled")])
        assert (len(breaks.unknown_broker_fill), disabled) == (1, True)

    def test_the_example_plays_its_day_in_a_process_of_its_own(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "backend.tradingbot.production.integration_example"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "CIRCUIT_OPEN: daily-dd-0.070" in done.stdout.splitlines()[-1]


class LostAnswer(ExecutionClient):
    """A broker whose answers get lost after it took the order."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def place_order(self, req: OrderRequest) -> OrderAck:
        self.taken.append(req.client_order_id)
        raise TimeoutError("read timeout")


class TestErrors:
    def test_a_lost_answer_is_in_doubt_and_never_sent_again(self, tmp_path: Path, clock: FixedClock) -> None:
        broker = LostAnswer()
        system = TradingSystem(broker, 1_000_000.0, tmp_path, clock=clock)
        system.on_tick("AAPL", 100.0, 1_000_000.0)
        with pytest.raises(TimeoutError):
            system.place_order(order("a"), AAPL)
        with pytest.raises(TradingBlockedError, match="ALREADY_PROCESSED: a is in_doubt"):
            system.place_order(order("a"), AAPL)
        restarted = TradingSystem(broker, 1_000_000.0, tmp_path, clock=clock)
        with pytest.raises(TradingBlockedError, match="in_doubt"):
            restarted.place_order(order("a"), AAPL)
        assert broker.taken == ["a"]

    def test_errors_of_the_broker_open_the_breaker(self, tmp_path: Path, clock: FixedClock) -> None:
        system = TradingSystem(
            LostAnswer(), 1e6, tmp_path, clock=clock, breaker_limits=BreakerLimits(max_error_rate_per_min=3)
        )
        system.on_tick("AAPL", 100.0, 1e6)
        for name in "abc":
            with pytest.raises(TimeoutError):
                system.place_order(order(name), AAPL)
        with pytest.raises(TradingBlockedError, match="CIRCUIT_OPEN: error-rate"):
            system.place_order(order("d"), AAPL)

    @pytest.mark.parametrize("price", [float("nan"), float("inf"), 0.0, -1.0])
    def test_a_price_that_is_none_stops_the_tick(self, system: TradingSystem, price: float) -> None:
        with pytest.raises(TradingBlockedError):
            system.on_tick("AAPL", price, 1_000_000.0)

    def test_an_equity_that_is_not_a_number_trips(self, system: TradingSystem) -> None:
        system.on_tick("AAPL", 100.01, float("nan"))
        assert system.circuit_breaker.reason == "bad-equity"

    def test_a_damaged_guard_sends_nothing(
        self, system: TradingSystem, client: LastPriceClient, tmp_path: Path
    ) -> None:
        system.place_order(order("a"), AAPL)
        path = tmp_path / "replay_guard.json"
        path.write_bytes(b"x" + path.read_bytes()[1:] + b"\n{}\n")
        with pytest.raises(TradingBlockedError, match="REPLAY_GUARD_CORRUPT"):
            TradingSystem(client, 1e6, tmp_path).place_order(order("b"), AAPL)
        assert len(client.fills) == 1


class TestCost:
    """How the cost grows, as ratios within one run; a busy machine slows both sides of a ratio."""

    @staticmethod
    def best(action: object, times: int = 5) -> float:
        """The least seconds of several tries: noise only ever adds."""
        found = []
        for _ in range(times):
            began = perf_counter()
            action()  # type: ignore[operator]
            found.append(perf_counter() - began)
        return min(found)

    def test_the_limiter_costs_the_same_with_ten_and_with_ten_thousand_names(self) -> None:
        def limiter(names: int) -> GreekExposureLimiter:
            made = GreekExposureLimiter()
            for number in range(names):
                made.add_position(PositionGreeks(f"S{number}", 1, 0, 0, 0, 0, 0))
            return made

        few, many = limiter(10), limiter(10_000)

        def ask(one: GreekExposureLimiter) -> None:
            for _ in range(200):
                one.require_ok()

        assert self.best(lambda: ask(many)) < 20 * self.best(lambda: ask(few))

    def test_a_record_of_the_guard_writes_one_line_at_any_size(self, tmp_path: Path) -> None:
        guard = ReplayGuard(tmp_path / "guard.json")
        grown = []
        for number in range(50):
            before = (tmp_path / "guard.json").stat().st_size
            guard.record(f"id-{number:04}", "acknowledged")
            grown.append((tmp_path / "guard.json").stat().st_size - before)
        assert max(grown) - min(grown) <= 4

    def test_the_monitors_memory_is_bounded(self) -> None:
        monitor = DataQualityMonitor()
        for number in range(2_000):
            monitor.validate_price("AAPL", 100 + (number % 7) * 0.01)
        assert len(monitor.price_history["AAPL"]) <= 150

    def test_reconciling_ten_times_the_orders_costs_about_ten_times_as_much(self) -> None:
        def day(size: int) -> tuple[list[LocalOrder], list[BrokerFill]]:
            names = range(size)
            orders = [LocalOrder(f"c{n}", f"b{n}", "AAPL", "buy", 10, "filled") for n in names]
            return orders, [BrokerFill(f"b{n}", "AAPL", 10, 100.0, "filled") for n in reversed(names)]

        few, many = day(500), day(5_000)
        assert not reconcile(*many)
        assert self.best(lambda: reconcile(*many)) < 40 * self.best(
            lambda: reconcile(*few)
        )  # a hundred if each met each

    def test_what_the_breaker_keeps_of_a_storm_of_errors_is_bounded(self) -> None:
        breaker = CircuitBreaker(1e6, clock=FixedClock())
        for _ in range(3 * KEPT_ERRORS):
            breaker.mark_error()
        assert breaker.status()["errors_last_min"] == KEPT_ERRORS
        assert breaker.reason == "error-rate"

    def test_a_stamp_starts_no_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        build_id()
        started: list[object] = []
        monkeypatch.setattr(subprocess, "run", lambda *given, **options: started.append(given))
        with BuildStamper("trading") as stamper:
            stamped = [stamper.stamp({"number": number}) for number in range(1_000)]
        assert started == [] and {one["build_id"] for one in stamped} == {build_id()}
