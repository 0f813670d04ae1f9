"""A stored snapshot is the snapshot: it comes back equal, and by it the decision comes out the same."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.values import Side
from backend.tradingbot.risk.gates import OpenBreaker, Quote, evaluate
from backend.tradingbot.risk.snapshot import Block, Headroom, Ramp, Recent, Resting, RiskSnapshot
from backend.tradingbot.risk.snapshot_json import from_json, to_json
from backend.tradingbot.risk.trading_state import ScopeState
from backend.tradingbot.risk.volatility import Level, Volatility
from tests.unit.gate_samples import NOW, limits, option_unit, order, permit_for, rates, share_unit, snapshot

MONEY = st.decimals(-(10**9), 10**9, places=9)
COUNT = st.integers(0, 50)
PERMITTED = order(permit_id="permit-1")


@st.composite
def snapshots(draw) -> RiskSnapshot:
    quote = Quote(draw(st.decimals("0.01", 10**6, places=4)), NOW - timedelta(seconds=draw(st.integers(0, 90))))
    working = draw(st.decimals(0, 1000, places=3))
    return snapshot(
        id_used=draw(st.booleans()),
        open_breakers=draw(st.sampled_from([(), (OpenBreaker("firm", "vix-critical"),)])),
        ramps=draw(st.sampled_from([(), (Ramp("firm", NOW, Decimal(900), Decimal(25)),)])),
        trading_states=(ScopeState("firm", draw(st.sampled_from(["active", "reducing", "halted"]))),),
        quote=draw(st.sampled_from([None, quote])),
        cash=draw(st.sampled_from([None, Decimal("123.450000000")])),
        position=draw(st.decimals(-1000, 1000, places=3)),
        working_buys=working,
        doubtful_orders=draw(COUNT),
        unit=draw(st.sampled_from([share_unit(), option_unit(), None])),
        limits=limits(draw(st.sampled_from(["default", "small_pilot"]))),
        headroom=(Headroom("firm", draw(st.sampled_from([None, Decimal(5)])), draw(MONEY)),),
        resting=Resting(draw(st.sampled_from([None, Decimal(99)])), None, draw(COUNT), 0),
        recent=Recent(draw(COUNT), draw(COUNT), draw(COUNT), draw(st.sampled_from([None, "often"]))),
        rates=draw(st.sampled_from([None, rates(3, 4, 5)])),
        blocks=draw(st.sampled_from([(), (Block("account:main", "break"),)])),
        volatility=draw(st.sampled_from([None, Volatility(Level.EXTREME, Decimal(36), NOW)])),
        permit=draw(st.sampled_from([None, permit_for(PERMITTED)])),
    )


@given(snapshots(), st.sampled_from(list(Side)), st.sampled_from([None, "100", "94.5"]), st.integers(1, 400))
def test_a_snapshot_comes_back_equal_and_decides_the_same(seen, side, limit, qty) -> None:
    stored = json.loads(json.dumps(to_json(seen)))
    again = from_json(RiskSnapshot, stored)
    assert again == seen
    asked = order(side, str(qty), limit, permit_id="permit-1")
    assert evaluate(asked, again).as_dict() == evaluate(asked, seen).as_dict()


def test_a_snapshot_with_a_field_missing_unknown_or_of_another_kind_is_refused() -> None:
    good = to_json(snapshot())
    for name in good:
        with pytest.raises(InvalidInputError, match=name):
            from_json(RiskSnapshot, {key: value for key, value in good.items() if key != name})
    with pytest.raises(InvalidInputError, match="odd"):
        from_json(RiskSnapshot, {**good, "odd": 1})
    for name, wrong in (("id_used", 1), ("cash", 5.0), ("cash", "much"), ("symbols", "AAPL"), ("now", "soon")):
        with pytest.raises(InvalidInputError, match=name):
            from_json(RiskSnapshot, {**good, name: wrong})


def test_a_float_has_no_exact_form_and_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        to_json({"a": 1.5})


def test_a_snapshot_of_a_build_that_knew_less_of_headroom_is_read_and_decides_as_it_did() -> None:
    seen = snapshot(headroom=(Headroom("firm", Decimal(5_000), Decimal(4_500)),))
    older = to_json(seen)
    for newer in ("low", "high", "unknown", "oldest_greeks"):
        del older["headroom"][0][newer]
    for newer in ("strategy_low", "strategy_high", "strategy_known"):
        del older["book"][newer]
    again = from_json(RiskSnapshot, older)
    for qty in ("5", "6"):
        assert evaluate(order(qty=qty), again).as_dict() == evaluate(order(qty=qty), seen).as_dict()
    assert [evaluate(order(qty=qty), again).allowed for qty in ("5", "6")] == [True, False]
