"""One live tick after another: what is accepted, what stops, what releases, and that the state travels as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.tradingbot.core.values import Severity
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.data.live_ticks import SymbolState, Tick, TickLimits, judge_tick, pack, unpack

SECOND = 1_000_000
LIMITS = TickLimits()
seeds = st.integers(0, 1_000_000)
quick = settings(max_examples=40, deadline=None)


def walk(seed, count):
    """Good ticks a second apart, with quotes of two to six cents."""
    rng = np.random.default_rng(seed)
    price = 10_000 + np.cumsum(rng.integers(-3, 4, count))
    half = rng.integers(1, 4, count)
    for n, (cents, around) in enumerate(zip(price.tolist(), half.tolist(), strict=True)):
        yield Tick("AAPL", cents / 100, n * SECOND, (cents - around) / 100, (cents + around) / 100, {"n": str(n)})


def after(seed, count=60):
    state = SymbolState()
    for tick in walk(seed, count):
        judged = judge_tick(state, tick, tick.time, LIMITS)
        assert judged.accepted and not judged.verdicts
        state = judged.state
    return state


def tick_after(state, price=None, seconds=1, bid=None, ask=None):
    return Tick("AAPL", price or state.track.reference, state.newest + int(seconds * SECOND), bid, ask, {"n": "new"})


@quick
@given(seeds, st.integers(1, 200))
def test_a_state_packs_and_unpacks_exactly(seed, count):
    state = after(seed, count)
    assert unpack(pack(state)) == state
    stopped = judge_tick(state, tick_after(state, price=10_000.0), state.newest + SECOND, LIMITS).state
    assert stopped.stop is not None and unpack(pack(stopped)) == stopped


BAD = {
    "price_jump": {"price": 200.0},
    "crossed_quote": {"bid": 100.0, "ask": 99.999},
    "wide_spread": {"bid": 80.0, "ask": 120.0},
    "time_reversed": {"seconds": -2.000001},
    "future_time": {"seconds": 3.000001},
}


@pytest.mark.parametrize("check", BAD)
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_a_refused_tick_changes_nothing_but_the_stop_and_the_next_clean_one_ends_it(check, seed):
    state = after(seed)
    now = state.newest + SECOND
    judged = judge_tick(state, tick_after(state, **BAD[check]), now, LIMITS)
    (verdict,) = judged.verdicts
    assert (judged.accepted, verdict.check, verdict.severity, verdict.symbol) == (False, check, Severity.HARD, "AAPL")
    stopped = judged.state
    assert (stopped.stop.check, stopped.stop.since, stopped.stop.refused) == (check, now, 1)
    assert (stopped.track.reference, stopped.spreads, stopped.newest, stopped.last) == (
        state.track.reference, state.spreads, state.newest, state.last,
    )  # fmt: skip
    again = judge_tick(stopped, tick_after(stopped, **BAD[check]), now + SECOND, LIMITS)
    if not again.accepted:  # a second jump to the same price confirms a gap
        assert (again.state.stop.since, again.state.stop.refused) == (now, 2)
    clean = judge_tick(stopped, tick_after(stopped), now, LIMITS)
    assert (clean.accepted, clean.released, clean.state.stop) == (True, stopped.stop, None)
    assert "a clean second tick" in CATALOGUE[check].released_by


@quick
@given(seeds)
def test_time_is_judged_at_the_skew_exactly(seed):
    state = after(seed)
    now = state.newest + SECOND
    assert judge_tick(state, tick_after(state, seconds=3), now, LIMITS).accepted
    late = judge_tick(state, tick_after(state, seconds=-2), now, LIMITS)
    assert (late.accepted, late.late, late.verdicts, late.state) == (False, True, (), state)
    assert judge_tick(state, tick_after(state, seconds=0), now, LIMITS).accepted


@quick
@given(seeds)
def test_a_gap_stops_once_and_its_confirmation_is_a_warning(seed):
    state = after(seed)
    first = judge_tick(state, tick_after(state, 150.0), state.newest + SECOND, LIMITS)
    second = judge_tick(first.state, tick_after(state, 150.01, 2), state.newest + 2 * SECOND, LIMITS)
    assert (first.accepted, second.accepted, second.released) == (False, True, first.state.stop)
    assert [(v.check, v.severity) for v in second.verdicts] == [("price_jump", Severity.WARN)]


@quick
@given(seeds)
def test_a_locked_quote_is_taken_with_a_warning(seed):
    state = after(seed)
    price = state.track.reference
    judged = judge_tick(state, tick_after(state, price, bid=price, ask=price), state.newest + SECOND, LIMITS)
    assert (judged.accepted, [v.check for v in judged.verdicts]) == (True, ["locked_quote"])


@quick
@given(seeds)
def test_a_spread_is_not_called_wide_before_enough_quotes_are_known(seed):
    state = after(seed, 19)
    wide = tick_after(state, bid=80.0, ask=120.0)
    assert judge_tick(state, wide, state.newest + SECOND, LIMITS).accepted


@pytest.mark.parametrize("text", ["", "{}", "null", "[]", '{"reference": 1}'])
def test_what_is_no_state_is_refused(text):
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack(text)
