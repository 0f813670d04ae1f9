"""One live tick after another: what is accepted, what stops, what releases, and that the state travels as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.tradingbot.core.values import Severity
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.data.frames import micros
from backend.tradingbot.data.live_ticks import SymbolState, Tick, TickLimits, judge_tick, pack, ratio_between, unpack

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


EX_DATE = date(2026, 6, 10)
BEFORE = micros(datetime(2026, 6, 9, 19, 59, tzinfo=UTC))
EX_OPEN = micros(datetime(2026, 6, 10, 13, 30, tzinfo=UTC))


def before_the_split(seed):
    return replace(after(seed), newest=BEFORE)


def on_the_ex_date(state, price, ratio, seconds=0, actions=True):
    at = EX_OPEN + seconds * SECOND
    tick = Tick("AAPL", price, at, price - 0.01 / ratio, price + 0.01 / ratio, {"n": "new"})
    return judge_tick(state, tick, at, LIMITS, {EX_DATE: ratio} if actions else {})


@quick
@given(seeds, st.sampled_from([2.0, 4.0, 10.0, 20.0, 0.1, 1.5, 1000.0]))
def test_a_split_on_file_is_no_jump_and_one_that_is_not_on_file_is(seed, ratio):
    state = before_the_split(seed)
    price = state.track.reference / ratio
    unknown = on_the_ex_date(state, price, ratio, actions=False)
    assert not unknown.accepted and unknown.verdicts[0].check == "price_jump" and unknown.state.stop is not None
    first = on_the_ex_date(state, price, ratio)
    assert first.accepted and first.state.stop is None and first.state.track.reference == price
    assert [(v.severity, v.evidence["outcome"]) for v in first.verdicts] == [
        (Severity.WARN, "a corporate action on file")
    ]
    second = on_the_ex_date(first.state, price, ratio, 1)
    assert second.accepted and second.verdicts == (), "the ratio is applied once"
    released = on_the_ex_date(unknown.state, price, ratio, 1)
    assert released.accepted and released.released is not None, "put on file later, the next tick ends the stop"


@quick
@given(seeds, st.sampled_from([4.0, 10.0, 0.1]))
def test_with_a_split_on_file_the_old_price_is_a_jump_however_often_it_comes(seed, ratio):
    state, old = before_the_split(seed), None
    for second in range(3):
        old = on_the_ex_date(state if old is None else old.state, state.track.reference * (1 + second), ratio, second)
        assert not old.accepted and old.verdicts[0].check == "price_jump"
        assert old.state.track.reference == state.track.reference and old.state.spreads == state.spreads
    good = on_the_ex_date(old.state, state.track.reference / ratio, ratio, 4)
    assert good.accepted and good.released is not None


@quick
@given(seeds)
def test_a_gap_over_a_split_waits_for_the_second_tick_like_any_other(seed):
    state = before_the_split(seed)
    price = state.track.reference / 10 * 1.3
    first = on_the_ex_date(state, price, 10.0)
    assert not first.accepted
    second = on_the_ex_date(first.state, price, 10.0, 1)
    assert second.accepted and second.released is not None and second.state.track.reference == price


def test_an_action_counts_from_the_day_after_the_last_good_tick_to_the_day_of_this_one_in_new_york():
    late_evening = micros(datetime(2026, 6, 10, 3, 59, tzinfo=UTC))  # still the 9th in New York
    day = {EX_DATE: 4.0}
    assert ratio_between(BEFORE, late_evening, day) == 1
    assert ratio_between(late_evening, late_evening + 60 * SECOND, day) == 4
    assert ratio_between(EX_OPEN, EX_OPEN + SECOND, day) == 1
    assert ratio_between(None, EX_OPEN, day) == 1
    assert ratio_between(BEFORE, EX_OPEN, day | {date(2026, 6, 9): 2.0, date(2026, 6, 11): 2.0}) == 4
