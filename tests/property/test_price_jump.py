"""The rule that every live price passes: what it lets through, what it refuses, and that the store does not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.tradingbot.data.price_jump import JumpRule, Outcome, PriceTrack, band, judge, track_of
from backend.tradingbot.data.robust import median

RULE = JumpRule()
seeds = st.integers(0, 1_000_000)
quick = settings(max_examples=50, deadline=None)


def walk(seed, count):
    rng = np.random.default_rng(seed)
    return (100 * np.exp(np.cumsum(rng.standard_t(3, count) * 1e-4).clip(-0.05, 0.05))).round(4).tolist()


@quick
@given(seeds, st.integers(0, 300), st.booleans())
def test_a_price_is_refused_beyond_the_band_and_not_within(seed, count, up):
    track = track_of(walk(seed, count + 1), RULE)
    limit, center, _ = band(track, RULE)
    sign = 1 if up else -1
    within, beyond = (track.reference * math.exp(center + sign * limit * f) for f in (1 - 1e-9, 1 + 1e-9))
    assert judge(track, within, RULE).outcome is Outcome.ACCEPTED
    refused = judge(track, beyond, RULE)
    assert (refused.outcome, refused.track.reference, refused.track.returns) == (
        Outcome.REFUSED, track.reference, track.returns,
    )  # fmt: skip


@quick
@given(seeds, st.integers(5, 300))
def test_the_band_is_the_definition(seed, count):
    prices = walk(seed, count + 1)
    limit, center, scale = band(track_of(prices, RULE), RULE)
    returns = np.diff(np.log(prices))[-RULE.window :]
    mad = np.median(np.abs(returns - np.median(returns)))
    assert (center, scale) == pytest.approx((np.median(returns), max(mad, 0.01 / prices[-1])), rel=1e-9, abs=1e-15)
    factor = 1 if len(returns) >= 20 else 1 + 10 / len(returns)
    assert limit == pytest.approx(9 * factor * scale / 0.6745)


@quick
@given(seeds, st.lists(st.floats(1.01, 50.0), min_size=1, max_size=6))
def test_refused_prices_never_move_the_reference_and_a_good_one_always_goes_through(seed, factors):
    track = track_of(walk(seed, 60), RULE)
    reference = track.reference
    for n, factor in enumerate(factors):
        judged = judge(track, reference * factor * 1.5 ** (n * (-1) ** n), RULE)
        if not judged.accepted:
            assert (judged.track.reference, judged.track.returns) == (reference, track.returns)
            track = judged.track
    after = judge(track, reference, RULE)
    assert after.outcome is (Outcome.RETURNED if track.pending else Outcome.ACCEPTED)
    assert after.track.pending is None


@quick
@given(seeds, st.floats(1.05, 4.9), st.booleans())
def test_a_gap_is_confirmed_by_the_second_tick_near_it(seed, ratio, up):
    track = track_of(walk(seed, 60), RULE)
    gap = track.reference * (ratio if up else 1 / ratio)
    first = judge(track, gap, RULE)
    second = judge(first.track, gap * 1.0001, RULE)
    assert (first.outcome, second.outcome) == (Outcome.REFUSED, Outcome.CONFIRMED)
    assert (second.track.reference, second.track.pending) == (gap * 1.0001, None)


@quick
@given(seeds, st.floats(5.01, 1e6), st.booleans())
def test_a_gap_beyond_the_confirmable_ratio_is_confirmed_by_no_tick(seed, ratio, up):
    track = track_of(walk(seed, 60), RULE)
    gap = track.reference * (ratio if up else 1 / ratio)
    for _ in range(4):
        judged = judge(track, gap, RULE)
        assert judged.outcome is Outcome.REFUSED
        track = judged.track


@quick
@given(seeds)
def test_a_bounce_between_bid_and_ask_is_no_jump_when_the_spread_is_known(seed):
    track = track_of([100.0] * 60, RULE)
    assert judge(track, 100.4, RULE).outcome is Outcome.REFUSED
    assert judge(track, 100.4, RULE, half_spread=0.2).outcome is Outcome.ACCEPTED
    assert judge(track, 100.0 + 0.4 * 10, RULE, half_spread=0.2).outcome is Outcome.REFUSED


def test_the_first_price_is_the_first_reference():
    judged = judge(PriceTrack(), 100.0, RULE)
    assert (judged.outcome, judged.track) == (Outcome.ACCEPTED, PriceTrack(100.0))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_median_is_numpys(values):
    assert median(values) == pytest.approx(float(np.median(values)))


@pytest.mark.parametrize("wrong", [{"z_limit": 0}, {"z_limit": math.inf}, {"window": 4}, {"jump": 1.0}])
def test_a_senseless_rule_is_refused(wrong):
    with pytest.raises(ValueError):
        JumpRule(**wrong)
