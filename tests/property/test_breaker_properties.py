"""Whatever happens to a breaker, it stays open once open, and a snapshot decides as the original would."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.risk.circuit_breaker import BreakerLimits, BreakerState, CircuitBreaker

LIMITS = BreakerLimits(max_error_rate_per_min=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(0, 45).map(float)),
        st.tuples(st.just("mtm"), st.floats(80_000, 120_000) | st.just(float("nan"))),
        st.tuples(st.just("realized"), st.floats(-10_000, 10_000)),
        st.tuples(st.sampled_from(["error", "fresh", "poll"]), st.just(0.0)),
        st.tuples(st.just("day"), st.floats(1, 1e6)),
    ),
    max_size=40,
)


def apply(breaker: CircuitBreaker, clock: FixedClock, step: tuple[str, float]) -> None:
    name, value = step
    match name:
        case "advance":
            clock.advance(value)
        case "mtm":
            breaker.check_mtm(value)
        case "realized":
            breaker.check_realized(value)
        case "error":
            breaker.mark_error()
        case "fresh":
            breaker.mark_data_fresh()
        case "poll":
            breaker.poll()
        case "day":
            breaker.start_day(value)


@given(STEPS)
def test_an_open_breaker_never_closes_by_itself_and_keeps_its_first_reason(steps: list[tuple[str, float]]) -> None:
    clock = FixedClock()
    breaker = CircuitBreaker(100_000.0, LIMITS, clock=clock)
    first: tuple[float | None, str | None] = (None, None)
    for step in steps:
        apply(breaker, clock, step)
        if first == (None, None):
            first = (breaker.tripped_at, breaker.reason)
        assert (breaker.tripped_at, breaker.reason) == first
        assert breaker.can_trade() is (first == (None, None))


@given(STEPS)
def test_a_breaker_restored_at_every_step_decides_as_one_that_lived_on(steps: list[tuple[str, float]]) -> None:
    clock = FixedClock()
    lived = CircuitBreaker(100_000.0, LIMITS, clock=clock)
    moved = CircuitBreaker(100_000.0, LIMITS, clock=clock)
    for step in steps:
        apply(lived, clock, step)
        stored = json.dumps(moved.snapshot().as_dict(), allow_nan=False)
        moved = CircuitBreaker.restore(BreakerState.from_dict(json.loads(stored)), LIMITS, clock=clock)
        if step[0] != "advance":
            apply(moved, clock, step)
        assert moved.status() == lived.status()


@given(st.floats(0.01, 1e12), st.floats(allow_nan=False, allow_infinity=False), st.floats(0.001, 1))
def test_a_drawdown_trips_exactly_when_it_has_reached_the_limit(start: float, equity: float, limit: float) -> None:
    breaker = CircuitBreaker(start, BreakerLimits(max_daily_drawdown=limit), clock=FixedClock())
    breaker.check_mtm(equity)
    begun, seen, most = (Fraction(Decimal(repr(number))) for number in (start, equity, limit))
    assert breaker.can_trade() is ((begun - seen) / begun < most)


@given(st.integers(0, 100_000), st.floats(0, 10**6), st.floats(-1e6, 1e6))
def test_no_wall_clock_step_makes_old_data_fresh(older: int, silence: float, step: float) -> None:
    clock = FixedClock()
    clock.advance(older)
    breaker = CircuitBreaker(100_000.0, LIMITS, clock=clock)
    breaker.mark_data_fresh()
    clock.advance(31 + silence)
    clock.step_wall(step)
    assert breaker.poll() is False


TICKING = st.lists(
    st.one_of(
        st.just(("error", 0.0)),
        st.tuples(st.just("advance"), st.integers(0, 40).map(float)),
        st.tuples(st.just("step"), st.integers(-90, 90).map(float)),
        st.just(("restore", 0.0)),
    ),
    max_size=60,
)


@given(TICKING)
def test_the_errors_that_count_are_those_that_neither_clock_calls_a_minute_old(steps: list[tuple[str, float]]) -> None:
    """Against the plain rule: look at each, whatever way the wall clock was stepped."""
    clock = FixedClock()
    breaker = CircuitBreaker(100_000.0, BreakerLimits(max_error_rate_per_min=1_000), clock=clock)
    kept: list[tuple[float, float]] = []
    for name, value in steps:
        match name:
            case "error":
                kept.append((clock.time(), clock.monotonic()))
                breaker.mark_error()
            case "advance":
                clock.advance(value)
            case "step":
                clock.step_wall(value)
            case "restore":
                breaker = CircuitBreaker.restore(breaker.snapshot(), breaker.limits, clock=clock)
                wall, monotonic = clock.time(), clock.monotonic()
                kept = [pair for pair in kept if max(wall - pair[0], monotonic - pair[1]) < 60]
                kept = [(stamp, monotonic - max(0.0, wall - stamp)) for stamp, _ in kept]
        wall, monotonic = clock.time(), clock.monotonic()
        kept = [pair for pair in kept if max(wall - pair[0], monotonic - pair[1]) < 60]
        assert breaker.status()["errors_last_min"] == len(kept)
