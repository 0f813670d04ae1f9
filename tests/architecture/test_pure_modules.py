"""The modules that plain Python uses run with no framework, no store and no network library to be imported.

Each snippet is the text of the brief, word for word, run in a fresh interpreter that refuses those libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BLOCKED = ("django", "rest_framework", "celery", "redis", "psycopg", "requests")

BLOCKER = f"""
import sys
BLOCKED = {BLOCKED!r}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{{name}} is refused here", name=name)
        return None

sys.meta_path.insert(0, Refuse())
"""

CIRCUIT_BREAKER = """
from backend.tradingbot.risk.circuit_breaker import CircuitBreaker, BreakerLimits

breaker = CircuitBreaker(start_equity=1000000.0)
breaker.require_ok()  # Call before every order
breaker.mark_error()  # Call on errors
breaker.mark_data_fresh()  # Call on every tick
"""

REPLAY_GUARD = """
from backend.tradingbot.execution.replay_guard import ReplayGuard

guard = ReplayGuard()
if guard.seen("order_123"):
    raise RuntimeError("Order already processed")
guard.record("order_123", "acknowledged")
"""

DATA_QUALITY = """
from backend.tradingbot.data.quality import DataQualityMonitor

monitor = DataQualityMonitor(max_staleness_sec=20, max_return_z=6.0)
monitor.assert_fresh()  # Call before strategy decisions
monitor.check_all(bars, symbol)  # Comprehensive check
"""

BUILD_INFO = """
from backend.tradingbot.infra.build_info import build_id, BuildStamper

build_id_str = build_id()
with BuildStamper("trading") as stamper:
    stamped_data = stamper.stamp(order_data)
"""

EOD_RECON = """
from backend.tradingbot.ops.eod_recon import EODReconciler, LocalOrder, BrokerFill

reconciler = EODReconciler()
breaks = reconciler.run_daily_reconciliation(local_orders, broker_fills)
if reconciler.check_pending_breaks():
    disable_next_day()
"""

EOD_RECONCILIATION = """
from backend.tradingbot.ops.eod_recon import EODReconciler, LocalOrder, BrokerFill

reconciler = EODReconciler()
breaks = reconciler.run_daily_reconciliation(local_orders, broker_fills)
if reconciler.check_pending_breaks():
    disable_next_day()
"""

DATA_QUALITY = """
from backend.tradingbot.data.quality import DataQualityMonitor

monitor = DataQualityMonitor(max_staleness_sec=20, max_return_z=6.0)
monitor.assert_fresh()  # Call before strategy decisions
monitor.check_all(bars, symbol)  # Comprehensive check
"""

GREEKS = """
from backend.tradingbot.risk.greek_exposure_limits import GreekExposureLimiter, PositionGreeks

limiter = GreekExposureLimiter()
limiter.add_position(PositionGreeks("AAPL", delta=1000, gamma=50, theta=-10, vega=200, beta=1.2, notional=100000))
limiter.require_ok()  # Call before every order
"""

SHADOW = """
from backend.tradingbot.execution.shadow_client import ShadowExecutionClient, CanaryExecutionClient

shadow = ShadowExecutionClient(real_client)
canary = CanaryExecutionClient(real_client, canary_allocation_pct=0.1, max_daily_orders=10)
"""

WIRING = """
# Before any order:
data_quality.assert_fresh()
circuit_breaker.require_ok()
greek_limiter.require_ok()
replay_guard.seen(client_order_id)
# Update freshness and metrics:
data_quality.mark_tick()
circuit_breaker.poll()
update_prometheus_metrics()
# Run reconciliation:
breaks = eod_reconciler.run_daily_reconciliation(local_orders, broker_fills)
if breaks:
    disable_next_day()
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter whose working folder is ``folder``, with the libraries refused."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "COV_"))}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def output_of(code: str, folder: Path) -> str:
    done = run(code, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("library", BLOCKED)
def test_the_blocker_really_refuses(library: str, tmp_path: Path) -> None:
    done = run(f"import {library}", tmp_path)
    assert done.returncode == 1
    assert f"ModuleNotFoundError: {library} is refused here" in done.stderr


def test_the_breaker_snippet_runs_and_leaves_the_breaker_closed(tmp_path: Path) -> None:
    assert output_of(CIRCUIT_BREAKER + "print(breaker.can_trade(), breaker.reason)", tmp_path) == "True None"


def test_the_replay_guard_snippet_runs_once_and_refuses_the_second_run(tmp_path: Path) -> None:
    assert output_of(REPLAY_GUARD + 'print(guard.get_state("order_123"))', tmp_path) == "acknowledged"
    assert (tmp_path / ".state" / "replay_guard.json").is_file()
    again = run(REPLAY_GUARD, tmp_path)
    assert again.returncode == 1
    assert again.stderr.strip().endswith("RuntimeError: Order already processed")


def test_the_build_info_snippet_runs_and_stamps_a_copy(tmp_path: Path) -> None:
    before = 'order_data = {"symbol": "AAPL"}\n'
    after = 'print(sorted(stamped_data), stamped_data["build_id"] == build_id_str, order_data)'
    told = "['build_id', 'build_timestamp', 'operation_type', 'symbol'] True {'symbol': 'AAPL'}"
    assert output_of(before + BUILD_INFO + after, tmp_path) == told


def test_the_reconciliation_snippet_runs_and_disables_the_next_day_only_for_a_break(tmp_path: Path) -> None:
    before = """
from backend.tradingbot.ops.eod_recon import LocalOrder, BrokerFill
disabled = []
disable_next_day = lambda: disabled.append("disabled")
local_orders = [LocalOrder("order_1", "broker_1", "AAPL", "buy", 100, "filled")]
"""
    good = 'broker_fills = [BrokerFill("broker_1", "AAPL", 100, 150.0, "filled")]\n'
    bad = 'broker_fills = [BrokerFill("broker_1", "AAPL", 90, 150.0, "filled")]\n'
    after = "print(bool(breaks), disabled, breaks.qty_mismatch)"
    assert output_of(before + good + EOD_RECON + after, tmp_path) == "False [] []"
    assert (tmp_path / ".state" / "eod_breaks.json").is_file()
    done = run(before + bad + EOD_RECON + after, tmp_path)
    assert done.stderr.startswith("reconciliation_break kind=qty_mismatch order_1")
    assert done.stdout.strip() == "True ['disabled'] ['order_1: 100 here, 90 at the broker']"


def test_the_data_quality_snippet_runs_and_stops_on_a_missing_value(tmp_path: Path) -> None:
    before = """
import pandas
symbol = "AAPL"
closes = [100, 100.5, 100.2, 100.7, 100.4, 100.6]
bars = pandas.DataFrame({"Open": closes, "High": 101.0, "Low": 99.0, "Close": closes, "Volume": 10})
"""
    assert output_of(before + DATA_QUALITY + 'print(monitor.status()["is_fresh"])', tmp_path) == "True"
    missing = run(before + "bars.loc[3, 'Low'] = None" + DATA_QUALITY, tmp_path)
    assert missing.stderr.strip().endswith("DATA_INCOMPLETE: AAPL lacks low in 1 of 6 bars")


DISABLED = """
told = []
def disable_next_day():
    told.append("disabled")
"""


def test_the_reconciliation_snippet_runs_and_a_break_disables_the_next_day(tmp_path: Path) -> None:
    clean = DISABLED + "local_orders, broker_fills = [], []\n" + EOD_RECONCILIATION + "print(bool(breaks), told)"
    assert output_of(clean, tmp_path) == "False []"
    missing = "from backend.tradingbot.ops.eod_recon import LocalOrder\n" + DISABLED
    missing += 'local_orders, broker_fills = [LocalOrder("a", "b", "AAPL", "buy", 1, "filled")], []\n'
    done = run(missing + EOD_RECONCILIATION + "print(bool(breaks), told)", tmp_path)
    assert done.stdout.strip() == "True ['disabled']"
    assert "missing_fill a: filled here, no fill at the broker" in done.stderr


def test_the_data_quality_snippet_runs_on_good_bars_and_raises_on_an_empty_frame(tmp_path: Path) -> None:
    frame = """
import pandas
symbol = "AAPL"
row = {"Open": 10.0, "High": 10.2, "Low": 9.9, "Close": 10.1, "Volume": 100}
bars = pandas.DataFrame([row] * 30)
"""
    assert output_of(frame + DATA_QUALITY + "print('passed')", tmp_path) == "passed"
    empty = run(frame + "bars = bars[:0]\n" + DATA_QUALITY, tmp_path)
    assert empty.returncode == 1
    assert "DATA_EMPTY" in empty.stderr


def test_the_greek_snippet_runs_within_the_default_limits(tmp_path: Path) -> None:
    assert output_of(GREEKS + "print(limiter.get_portfolio_greeks()['delta'])", tmp_path) == "1000.0"


def test_the_shadow_snippet_runs(tmp_path: Path) -> None:
    client = "from backend.tradingbot.execution.interfaces import ExecutionClient\nreal_client = ExecutionClient()\n"
    assert output_of(client + SHADOW + "print(shadow.mode, canary.mode)", tmp_path) == "shadow canary"


def test_the_minimal_wiring_runs_in_the_order_it_is_written(tmp_path: Path) -> None:
    before = (
        DISABLED
        + """
from backend.tradingbot.data.quality import DataQualityMonitor
from backend.tradingbot.execution.replay_guard import ReplayGuard
from backend.tradingbot.infra.metrics import update_prometheus_metrics
from backend.tradingbot.ops.eod_recon import EODReconciler
from backend.tradingbot.risk.circuit_breaker import CircuitBreaker
from backend.tradingbot.risk.greek_exposure_limits import GreekExposureLimiter

data_quality, circuit_breaker = DataQualityMonitor(), CircuitBreaker(start_equity=1000000.0)
greek_limiter, replay_guard, eod_reconciler = GreekExposureLimiter(), ReplayGuard(), EODReconciler()
client_order_id, local_orders, broker_fills = "order_123", [], []
"""
    )
    assert output_of(before + WIRING + "print(bool(breaks), told)", tmp_path) == "False []"
