"""What a step of trust asks for, how sure the figures are, and what a canary may do in a day."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.ops.divergence import Divergence, OrderOutcome, mean, proportion, summarise
from backend.tradingbot.risk.promotion import Bar, CanaryCaps, CanaryDay, Evidence, cap_reached, judge, ramp_share

BAR = Bar(min_days=5, min_orders=100, max_slippage_bps=5.0, max_fill_rate_difference=0.1, second_person=True)
ENOUGH = Evidence(5, 100, 5.0, -0.1, 0, 0, 0)


def missing(evidence: Evidence, bar: Bar = BAR) -> list[str]:
    return [condition.name for condition in judge(bar, evidence) if not condition.met]


def test_evidence_at_every_bound_is_enough() -> None:
    assert missing(ENOUGH) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("days", 4),
        ("orders", 99),
        ("slippage_bps_difference", 5.01),
        ("slippage_bps_difference", -5.01),
        ("fill_rate_difference", 0.11),
        ("hard_verdicts", 1),
        ("open_breaks", 1),
        ("open_breakers", 1),
    ],
)
def test_one_step_beyond_a_bound_is_missing(name: str, value: float) -> None:
    assert missing(replace(ENOUGH, **{name: value})) == [name]


def test_what_is_unknown_is_missing_and_all_of_it_is_named() -> None:
    unknown = Evidence(None, None, None, None, None, None, None)
    assert len(missing(unknown)) == 7
    assert judge(BAR, unknown)[0].found == "unknown"


def test_a_bound_that_is_not_set_is_not_asked() -> None:
    bar = replace(BAR, max_slippage_bps=None, max_fill_rate_difference=None)
    assert missing(replace(ENOUGH, slippage_bps_difference=None, fill_rate_difference=None), bar) == []


CAPS = CanaryCaps(max_orders=10, max_notional=Decimal(10_000), max_loss=Decimal(500))


def test_a_canarys_caps_stop_the_order_that_would_pass_them() -> None:
    day = CanaryDay(9, Decimal(9_000), Decimal("499.99"))
    assert cap_reached(CAPS, day, next_notional=Decimal(1_000)) is None
    assert cap_reached(CAPS, day, next_notional=Decimal("1000.01")) == "notional"
    assert cap_reached(CAPS, replace(day, orders=10), next_notional=Decimal(1)) == "orders"
    assert cap_reached(CAPS, replace(day, loss=Decimal(500)), next_notional=Decimal(1)) == "loss"


def test_caps_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="max_loss must be finite"):
        CanaryCaps(1, Decimal(1), Decimal("NaN"))


def test_after_a_reset_the_share_rises_in_a_straight_line_to_all() -> None:
    whole, quarter = Decimal(100), Decimal("0.25")
    found = [str(ramp_share(Decimal(s), whole, quarter)) for s in ("-5", "0", "50", "99.96", "100", "1000")]
    assert found == ["0.25", "0.25", "0.625", "0.9997", "1", "1"]
    assert ramp_share(Decimal(0), Decimal(0), quarter) == 1
    with pytest.raises(ValueError, match="start_share"):
        ramp_share(Decimal(0), whole, Decimal(0))
    with pytest.raises(ValueError, match="NaN"):
        ramp_share(Decimal("NaN"), whole, quarter)


def test_wilsons_interval_at_known_points() -> None:
    known = proportion(8, 10)
    assert (known.low, known.high) == (pytest.approx(0.490162, abs=1e-6), pytest.approx(0.943318, abs=1e-6))
    assert proportion(0, 10).low == 0.0
    assert proportion(0, 0).value is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_a_mean_lies_within_its_own_interval(values: list[float]) -> None:
    found = mean(values)
    assert found.low is not None and found.value is not None and found.high is not None
    assert found.low <= found.value <= found.high


def outcome(price: str, *, buy: bool = True, filled: int = 10, refused: bool = False) -> OrderOutcome:
    return OrderOutcome(refused, buy, Decimal(10), Decimal(filled), Decimal(price), Decimal(100))


def test_slippage_is_what_was_paid_beyond_the_arrival_price_on_either_side() -> None:
    assert outcome("100.10").slippage_bps == pytest.approx(10)
    assert outcome("99.90", buy=False).slippage_bps == pytest.approx(10)
    assert replace(outcome("99"), arrival=None).slippage_bps is None


def test_divergence_is_unknown_until_both_sides_have_a_sample() -> None:
    live = summarise([outcome("100.01"), outcome("100.03"), outcome("100.02", filled=5)])
    assert live.fill_rate.value == pytest.approx(2 / 3)
    assert Divergence(summarise([]), live).worst("fill_rate") is None
    both = Divergence(live, live)
    assert both.worst("slippage_bps") == pytest.approx(live.slippage_bps.high - live.slippage_bps.low)
    assert set(both.as_dict()) == {"shadow", "live", "worst_difference"}
