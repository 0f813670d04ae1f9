"""The breaker's day and its state: cash flows, corrected starts, a feed's own limit, and what a restart keeps."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.risk.circuit_breaker import BreakerLimits, BreakerState, CircuitBreaker


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


def make(clock: FixedClock, start: Any = 100_000.0, **limits: Any) -> CircuitBreaker:
    return CircuitBreaker(start, BreakerLimits(**limits), clock=clock)


def test_a_snapshot_survives_json_and_goes_on(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.mark_data_fresh()
    for _ in range(4):
        breaker.mark_error()
    breaker.check_mtm(97_000)
    state = BreakerState.from_dict(json.loads(json.dumps(breaker.snapshot().as_dict())))
    assert state == breaker.snapshot()
    clock.advance(59)
    again = CircuitBreaker.restore(
        state, BreakerLimits(max_data_staleness_sec=60), clock=FixedClock(clock.at, ticks=5.0)
    )
    again.mark_error()
    assert (again.reason, again.status()["data_staleness_sec"]) == ("error-rate", 59.0)


def test_a_restart_does_not_renew_the_grace(clock: FixedClock) -> None:
    state = make(clock).snapshot()
    assert state.last_fresh_at is None
    clock.advance(31)
    assert CircuitBreaker.restore(state, clock=clock).poll() is False


def test_data_stamped_in_the_future_is_stale_once_restored(clock: FixedClock) -> None:
    breaker = make(clock)
    breaker.mark_data_fresh()
    state = breaker.snapshot()
    clock.step_wall(-3_600)
    restored = CircuitBreaker.restore(state, clock=clock)
    resaved = restored.snapshot()
    assert (restored.poll(), restored.reason) == (False, "stale-data")
    clock.step_wall(3_600)
    assert CircuitBreaker.restore(resaved, clock=clock).poll() is False


@pytest.mark.parametrize(
    "change",
    [
        {"start_equity": 0},
        {"tripped_at": 5.0},
        {"error_times": [float("nan")]},
        {"error_times": 3},
        {"equity_bad": "no"},
        {"started_at": None},
        {"surprise": 1},
    ],
)
def test_a_damaged_state_is_refused(clock: FixedClock, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(change)) if "tripped_at" not in change else "reason"):
        BreakerState.from_dict(make(clock).snapshot().as_dict() | change)


@pytest.mark.parametrize(
    ("age", "limit", "reason"),
    [
        (900, 900, None),
        (900.5, 900, "stale-data"),
        (-1, 900, None),
        (float("nan"), 900, "stale-data"),
        (float("inf"), 900, "stale-data"),
        (0, 0, None),
    ],
)
def test_a_feeds_own_limit_decides_when_it_is_silent(
    clock: FixedClock, age: float, limit: float, reason: str | None
) -> None:
    breaker = make(clock, cooldown_sec=0)
    breaker.check_data(age, limit)
    assert breaker.reason == reason
    assert breaker.holding_causes() == ([] if reason is None else ["stale-data"])


def test_a_silence_that_tripped_holds_until_a_better_look_also_when_restored(clock: FixedClock) -> None:
    breaker = make(clock, cooldown_sec=0)
    breaker.check_data(900.5, 900)
    restored = CircuitBreaker.restore(breaker.snapshot(), breaker.limits, clock=clock)
    with pytest.raises(ConflictError, match="stale-data"):
        restored.reset("ann", "the feed is back")
    restored.check_data(3, 900)
    assert restored.reset("ann", "the feed is back") is True


def test_a_cash_flow_is_neither_gain_nor_loss(clock: FixedClock) -> None:
    breaker = make(clock, start=Decimal(100_000))
    breaker.check_mtm(Decimal(95_000))
    breaker.record_cash_flow(Decimal(-50_000))
    assert (breaker.start_equity, breaker.status()["last_equity"]) == (Decimal(50_000), 45_000.0)
    breaker.check_mtm(Decimal("47000.01"))
    assert breaker.reason is None
    breaker.check_mtm(Decimal(47_000))
    assert breaker.reason == "daily-dd-0.060"


@pytest.mark.parametrize("amount", [Decimal(-100_000), Decimal(-100_001), float("nan"), None, "5"])
def test_a_cash_flow_that_leaves_nothing_or_is_no_number_is_refused(clock: FixedClock, amount: Any) -> None:
    breaker = make(clock, start=Decimal(100_000))
    before = breaker.snapshot()
    with pytest.raises(InvalidInputError):
        breaker.record_cash_flow(amount)
    assert breaker.snapshot() == before


def test_a_corrected_start_keeps_what_the_day_has_brought(clock: FixedClock) -> None:
    breaker = make(clock, cooldown_sec=0)
    breaker.check_realized(-6_500)
    breaker.correct_start(100_500)
    assert breaker.start_equity == 100_500
    assert breaker.holding_causes() == ["realized-loss"]
    breaker.start_day(100_500)
    assert breaker.holding_causes() == []


def test_would_trip_says_what_a_reading_would_do_and_changes_nothing(clock: FixedClock) -> None:
    breaker = make(clock)
    before = breaker.snapshot()
    answers = [breaker.would_trip_at(equity) for equity in (94_000, 94_000.01, float("nan"), 200_000)]
    assert answers == [True, False, True, False]
    assert breaker.snapshot() == before


@pytest.mark.parametrize("equity", ["123456789012.123456789", "0.000000001", "-5.5", "94000", "94000.10"])
def test_a_stored_equity_is_the_same_money_to_the_last_digit(clock: FixedClock, equity: str) -> None:
    breaker = make(clock, start=Decimal("123456789012.987654321"), max_daily_drawdown=1)
    breaker.check_mtm(Decimal(equity))
    stored = json.loads(json.dumps(breaker.snapshot().as_dict()))
    assert (stored["start_equity"], Decimal(stored["last_equity"])) == ("123456789012.987654321", Decimal(equity))
    again = CircuitBreaker.restore(BreakerState.from_dict(stored), breaker.limits, clock=clock)
    assert again.start_equity == Decimal("123456789012.987654321")
    assert again.snapshot() == breaker.snapshot()


def test_a_state_that_was_stored_as_numbers_can_still_be_read(clock: FixedClock) -> None:
    old = make(clock).snapshot().as_dict() | {"start_equity": 100_000.0, "last_equity": 97_000.5}
    breaker = CircuitBreaker.restore(BreakerState.from_dict(old), clock=clock)
    assert (breaker.start_equity, breaker.snapshot().last_equity) == (100_000, "97000.5")
