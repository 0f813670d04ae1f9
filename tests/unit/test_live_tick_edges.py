"""What must not confirm, widen or hide a jump: a copy of the refused tick, quotes as wide as a barn, a time to come."""

from __future__ import annotations

import json

import numpy as np
import pytest

from backend.tradingbot.core.errors import TradingBlockedError
from backend.tradingbot.data import checks
from backend.tradingbot.data.check_context import Context
from backend.tradingbot.data.live_ticks import SymbolState, Tick, TickLimits, judge_tick, pack, unpack
from backend.tradingbot.data.price_jump import Outcome
from backend.tradingbot.data.quality import DataQualityMonitor

SECOND = 1_000_000
LIMITS = TickLimits()


def fed(*rows, state=None, half=0.01):
    """(state, the last judgement) after (price, second) rows with quotes of ``half`` on either side."""
    state, judged = state or SymbolState(), None
    for price, second in rows:
        tick = Tick("AAPL", price, int(second * SECOND), price - half, price + half)
        judged = judge_tick(state, tick, tick.time, LIMITS)
        state = judged.state
    return state, judged


def quiet(count=10, half=0.01):
    return fed(*((100 + n % 3 / 100, n) for n in range(count)), half=half)[0]


def test_a_copy_of_the_refused_tick_confirms_nothing_and_the_next_tick_does():
    state, refused = fed((108.0, 10), state=quiet())
    assert refused.outcome is Outcome.REFUSED
    state, again = fed((108.0, 10), state=state)
    assert (again.accepted, again.state.stop.refused) == (False, 2)
    _, older = fed((108.01, 9.5), state=state)
    assert not older.accepted
    _, confirmed = fed((108.0, 11), state=unpack(pack(state)))
    assert confirmed.outcome is Outcome.CONFIRMED


def test_another_trade_of_the_same_moment_confirms():
    state, _ = fed((108.0, 10), state=quiet())
    assert fed((108.01, 10), state=state)[1].outcome is Outcome.CONFIRMED


def test_a_state_that_was_kept_before_the_time_was_is_read():
    state, _ = fed((108.0, 10), state=quiet())
    body = json.loads(pack(state))
    del body["pending_at"]
    old = unpack(json.dumps(body))
    assert (old.track, old.stop) == (state.track, state.stop)
    assert fed((108.0, 11), state=old)[1].outcome is Outcome.CONFIRMED


@pytest.mark.parametrize("wild", [1_000.0, 10.0, 121.0])
def test_wide_quotes_do_not_let_a_wild_price_through(wild):
    state = quiet(30, half=40.0)
    tick = Tick("AAPL", wild, 40 * SECOND)
    judged = judge_tick(state, tick, tick.time, LIMITS)
    assert (judged.accepted, judged.verdicts[0].check) == (False, "price_jump")


def test_a_bounce_between_wide_quotes_is_no_jump():
    state = quiet(30, half=5.0)
    tick = Tick("AAPL", 105.0, 40 * SECOND)
    assert judge_tick(state, tick, tick.time, LIMITS).accepted


def test_a_quote_from_the_future_is_not_fresh_and_proves_no_feed_alive():
    now = 1_000 * SECOND
    context = Context(as_of=now)
    early, ahead = now + 2 * SECOND, now + 2 * SECOND + 1
    assert checks.stale_quote({"AAPL": early}, context) == []
    (verdict,) = checks.stale_quote({"AAPL": ahead}, context)
    assert (verdict.check, verdict.evidence["age_seconds"]) == ("stale_quote", -2.000001)
    assert checks.feed_silent("demo", {"AAPL": early}, context) == []
    (verdict,) = checks.feed_silent("demo", {"AAPL": ahead, "MSFT": now - 31 * SECOND}, context)
    assert verdict.evidence["age_seconds"] == 31.0


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("row", [0, 4, 9])
def test_returns_of_a_close_that_is_no_price_are_not_sane(value, row):
    closes = [100.0 + n % 3 / 100 for n in range(10)]
    closes[row] = value
    with pytest.raises(TradingBlockedError, match="^DATA_CORRUPTED"):
        DataQualityMonitor().assert_sane_returns(closes, "AAPL")
