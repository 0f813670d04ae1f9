"""The pure breaker: when it trips, that it stays open, who may close it, and that a snapshot goes on as it was."""

from __future__ import annotations

import json
import threading
from dataclasses import FrozenInstanceError
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError, TradingBlockedError
from backend.tradingbot.risk.circuit_breaker import BreakerLimits, CircuitBreaker


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


def make(clock: FixedClock, start: Any = 100_000.0, **limits: Any) -> CircuitBreaker:
    return CircuitBreaker(start, BreakerLimits(**limits), clock=clock)


def test_defaults_are_those_of_the_document() -> None:
    limits = BreakerLimits()
    assert (limits.max_daily_drawdown, limits.max_error_rate_per_min) == (0.06, 5)
    assert (limits.max_data_staleness_sec, limits.cooldown_sec) == (30, 1800)
    with pytest.raises(FrozenInstanceError):
        limits.cooldown_sec = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", ["max_daily_drawdown", "max_error_rate_per_min", "max_data_staleness_sec", "cooldown_sec"]
)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), None, "5", True])
def test_limits_refuse_nonsense(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        BreakerLimits(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("max_daily_drawdown", 1.01), ("max_error_rate_per_min", 2.5)])
def test_limits_refuse_what_is_out_of_their_own_range(name: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=name):
        BreakerLimits(**{name: value})


@pytest.mark.parametrize("start", [0, -1.0, float("nan"), float("inf"), None, "x"])
def test_start_equity_must_be_above_zero(start: Any) -> None:
    with pytest.raises(ValueError, match="start_equity"):
        CircuitBreaker(start)


def test_a_new_breaker_lets_trade() -> None:
    breaker = CircuitBreaker(start_equity=1_000_000.0)
    breaker.require_ok()
    assert (breaker.start_equity, breaker.tripped_at, breaker.reason) == (1_000_000.0, None, None)
    assert breaker.can_trade() is True


@pytest.mark.parametrize(
    ("equity", "limit", "reason"),
    [
        (94_000.0, 0.06, "daily-dd-0.060"),
        (94_000.01, 0.06, None),
        (95_000, 0.05, "daily-dd-0.050"),
        (Decimal("95000"), 0.05, "daily-dd-0.050"),
        (Decimal("95000.000000000000000001"), 0.05, None),
        (0.01, 1.0, None),
        (0, 1.0, "daily-dd-1.000"),
        (-50_000.0, 0.06, "daily-dd-1.500"),
        (100_000.01, 0.0, None),
        (float("nan"), 0.06, "bad-equity"),
        (float("inf"), 0.06, "bad-equity"),
        (float("-inf"), 0.06, "bad-equity"),
        (Decimal("NaN"), 0.06, "bad-equity"),
        (Decimal("sNaN"), 0.06, "bad-equity"),
        (Decimal("1e999999"), 0.06, "bad-equity"),
        (None, 0.06, "bad-equity"),
    ],
)
def test_drawdown_trips_exactly_at_the_limit(clock: FixedClock, equity: Any, limit: float, reason: str | None) -> None:
    breaker = make(clock, max_daily_drawdown=limit)
    breaker.check_mtm(equity)
    assert breaker.reason == reason
    assert breaker.tripped_at == (None if reason is None else clock.time())


@pytest.mark.parametrize(
    ("pnl", "reason"),
    [(-6_000.0, "realized-loss-0.060"), (-5_999.99, None), (9_000.0, None), (float("nan"), "bad-equity")],
)
def test_a_realised_loss_trips_like_a_drawdown(clock: FixedClock, pnl: float, reason: str | None) -> None:
    breaker = make(clock)
    breaker.check_realized(pnl)
    assert breaker.reason == reason


def test_the_fifth_error_within_a_minute_trips(clock: FixedClock) -> None:
    breaker = make(clock)
    for _ in range(4):
        breaker.mark_error()
    assert breaker.can_trade() is True
    breaker.mark_error()
    assert breaker.reason == "error-rate"


def test_the_error_window_slides(clock: FixedClock) -> None:
    breaker = make(clock, max_error_rate_per_min=3)
    breaker.mark_error()
    clock.advance(59)
    breaker.mark_error()
    clock.advance(1)  # the first error is now 60 s old and out
    breaker.mark_error()
    assert (breaker.reason, breaker.status()["errors_last_min"]) == (None, 2)
    clock.advance(58)
    breaker.mark_error()
    assert breaker.reason == "error-rate"


@pytest.mark.parametrize("limit", [0, 1])
def test_a_limit_of_none_or_one_trips_at_the_first_error(clock: FixedClock, limit: int) -> None:
    breaker = make(clock, max_error_rate_per_min=limit)
    assert breaker.poll() is True
    breaker.mark_error()
    assert breaker.reason == "error-rate"


def test_silence_beyond_the_limit_trips_when_polled(clock: FixedClock) -> None:
    breaker = make(clock)
    clock.advance(30)
    assert breaker.poll() is True
    clock.advance(0.5)
    with pytest.raises(RuntimeError, match=r"^CIRCUIT_OPEN: stale-data$") as caught:
        breaker.require_ok()
    assert isinstance(caught.value, TradingBlockedError)
    assert caught.value.code == "circuit_open"


def test_fresh_data_does_not_close_an_open_breaker(clock: FixedClock) -> None:
    breaker = make(clock)
    clock.advance(31)
    breaker.poll()
    breaker.mark_data_fresh()
    clock.advance(100_000)
    breaker.mark_data_fresh()
    assert (breaker.poll(), breaker.reason) == (False, "stale-data")


def test_a_wall_clock_stepped_back_does_not_make_old_data_fresh(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.mark_data_fresh()
    clock.advance(31)
    clock.step_wall(-3_600)
    assert breaker.status()["data_staleness_sec"] == pytest.approx(31)
    assert (breaker.poll(), breaker.reason) == (False, "stale-data")


def test_a_patched_time_time_ages_the_data() -> None:
    breaker = CircuitBreaker(100_000.0)
    later = breaker.snapshot().started_at + 31
    with patch("time.time", return_value=later):
        assert breaker.poll() is False
    assert (breaker.reason, breaker.tripped_at) == ("stale-data", later)


def test_the_first_reason_stays_and_later_ones_are_evidence(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.trip("operator")
    breaker.check_mtm(93_000)
    breaker.check_mtm(92_000)
    breaker.trip("operator")
    clock.advance(31)
    breaker.poll()
    assert breaker.reason == "operator"
    assert breaker.status()["later_causes"] == ["daily-dd-0.070", "stale-data"]


def test_a_blank_reason_still_trips(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.trip(" ")
    assert (breaker.can_trade(), breaker.reason) == (False, "unspecified")


def test_a_reset_is_refused_inside_the_cooldown(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.trip("operator")
    clock.advance(1_799)
    with pytest.raises(ConflictError) as caught:
        breaker.reset("ann", "looked at it")
    assert (caught.value.code, caught.value.details) == ("cooldown_active", {"cooldown_remaining_sec": 1.0})
    assert "force" in caught.value.remedy
    clock.advance(1)
    assert breaker.reset("ann", "looked at it") is True
    assert (breaker.can_trade(), breaker.tripped_at, breaker.reason) == (True, None, None)


def test_a_wall_clock_stepped_back_does_not_lengthen_the_cooldown_in_process(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.trip("operator")
    clock.advance(1_800)
    clock.step_wall(-3_600)
    assert breaker.status()["cooldown_remaining_sec"] == 0


def trip_by(kind: str, breaker: CircuitBreaker, clock: FixedClock) -> None:
    match kind:
        case "daily-dd":
            breaker.check_mtm(90_000)
        case "realized-loss":
            breaker.check_realized(-7_000)
        case "bad-equity":
            breaker.check_mtm(float("nan"))
        case "stale-data":
            clock.advance(31)
            breaker.poll()
        case "error-rate":
            for _ in range(5):
                breaker.mark_error()


def mend(kind: str, breaker: CircuitBreaker, clock: FixedClock) -> None:
    match kind:
        case "daily-dd" | "bad-equity":
            breaker.check_mtm(99_000)
        case "realized-loss":
            breaker.check_realized(-100)
        case "stale-data":
            breaker.mark_data_fresh()
        case "error-rate":
            clock.advance(60)


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("kind", ["daily-dd", "realized-loss", "bad-equity", "stale-data", "error-rate"])
def test_a_reset_is_refused_while_the_cause_holds(clock: FixedClock, kind: str, restored: bool) -> None:
    limits = BreakerLimits(cooldown_sec=0)
    breaker = CircuitBreaker(100_000.0, limits, clock=clock)
    trip_by(kind, breaker, clock)
    if restored:
        breaker = CircuitBreaker.restore(breaker.snapshot(), limits, clock=clock)
    with pytest.raises(ConflictError) as caught:
        breaker.reset("ann", "impatient")
    assert (caught.value.code, caught.value.details) == ("cause_holds", {"causes": [kind]})
    assert breaker.can_trade() is False
    mend(kind, breaker, clock)
    assert breaker.reset("ann", "mended") is True
    assert breaker.can_trade() is True


def test_a_later_cause_that_holds_refuses_the_reset_too(clock: FixedClock) -> None:
    breaker = make(clock, cooldown_sec=0)
    breaker.trip("operator")
    breaker.check_mtm(90_000)
    with pytest.raises(ConflictError, match="daily-dd"):
        breaker.reset("ann", "why not")


def test_a_good_equity_does_not_excuse_a_bad_realised_figure(clock: FixedClock) -> None:
    breaker = make(clock, cooldown_sec=0)
    breaker.check_realized(float("nan"))
    breaker.check_mtm(100_000)
    assert breaker.holding_causes() == ["bad-equity"]


def test_a_forced_reset_closes_and_the_next_check_trips_again(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.check_mtm(90_000)
    assert breaker.reset("ann", "known deposit in flight", force=True) is True
    assert breaker.can_trade() is True
    assert breaker.snapshot().last_reset == {
        "actor": "ann",
        "reason": "known deposit in flight",
        "at": clock.time(),
        "forced": True,
        "causes": ["daily-dd-0.100"],
    }
    breaker.check_mtm(90_000)
    assert breaker.reason == "daily-dd-0.100"


def test_a_reset_after_an_error_rate_empties_the_window(clock: FixedClock) -> None:
    breaker = make(clock)
    trip_by("error-rate", breaker, clock)
    breaker.reset("ann", "broker is back", force=True)
    assert breaker.status()["errors_last_min"] == 0
    trip_by("error-rate", breaker, clock)
    assert breaker.reason == "error-rate"


@pytest.mark.parametrize(("actor", "reason"), [("", "why"), ("ann", "  "), (None, "why")])
def test_a_reset_needs_who_and_why(clock: FixedClock, actor: Any, reason: Any) -> None:
    breaker = make(clock)
    breaker.trip("operator")
    with pytest.raises(InvalidInputError):
        breaker.reset(actor, reason, force=True)
    assert breaker.can_trade() is False


def test_resetting_a_closed_breaker_changes_nothing(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.mark_error()
    before = breaker.snapshot()
    assert breaker.reset("ann", "to be sure") is False
    assert breaker.snapshot() == before


def test_a_new_day_moves_the_start_equity_and_leaves_the_breaker_open(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.check_mtm(90_000)
    breaker.start_day(90_000)
    assert (breaker.start_equity, breaker.reason, breaker.can_trade()) == (90_000, "daily-dd-0.100", False)
    assert breaker.holding_causes() == []
    with pytest.raises(InvalidInputError):
        breaker.start_day(0)


def test_status_names_what_people_need(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.mark_error()
    breaker.trip("operator")
    clock.advance(10)
    status = breaker.status()
    assert {name: status[name] for name in ("tripped", "reason", "can_trade", "errors_last_min")} == {
        "tripped": True,
        "reason": "operator",
        "can_trade": False,
        "errors_last_min": 1,
    }
    assert (status["data_staleness_sec"], status["cooldown_remaining_sec"]) == (10.0, 1790.0)
    assert json.loads(json.dumps(status)) == status


def test_errors_marked_by_many_threads_are_all_counted(clock: FixedClock) -> None:
    breaker = make(clock, max_error_rate_per_min=401)
    threads = [threading.Thread(target=lambda: [breaker.mark_error() for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (breaker.status()["errors_last_min"], breaker.can_trade()) == (400, True)
    breaker.mark_error()
    assert breaker.reason == "error-rate"


class CountedClock(FixedClock):
    looks = 0

    def time(self) -> float:
        self.looks += 1
        return super().time()


def test_an_error_costs_the_same_however_many_are_in_the_window() -> None:
    clock = CountedClock()
    breaker = CircuitBreaker(100_000, BreakerLimits(max_error_rate_per_min=100_000), clock=clock)
    for _ in range(3_000):
        breaker.mark_error()
        clock.advance(0.03)
    assert clock.looks < 10 * 3_000
    assert breaker.status()["errors_last_min"] == 1_999
