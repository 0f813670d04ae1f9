"""What a mode places and what it simulates, over generated orders and books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.core.values import OrderType, Side, TimeInForce
from backend.tradingbot.execution.routing import CanaryRule, Mode, OwnBook, route
from backend.tradingbot.execution.shadow_fill import ShadowOrder, Touch, fill_against

quantities = st.integers(1, 10**6).map(Decimal)
books = st.builds(
    OwnBook,
    position=st.integers(-(10**6), 10**6).map(Decimal),
    working_buys=st.integers(0, 10**6).map(Decimal),
    working_sells=st.integers(0, 10**6).map(Decimal),
)
rules = st.builds(
    CanaryRule,
    allocation=st.integers(1, 100).map(lambda n: Decimal(n) / 100),
    lot=st.sampled_from([Decimal(1), Decimal(10), Decimal(100)]),
    at_least_one_lot=st.booleans(),
)
T0 = datetime(2026, 3, 2, 15, tzinfo=UTC)


@given(st.sampled_from(Mode), st.sampled_from(Side), quantities, books, rules)
def test_the_parts_add_up_and_only_reductions_are_placed_from_the_shadow(
    mode: Mode, side: Side, qty: Decimal, own: OwnBook, rule: CanaryRule
) -> None:
    split = route(mode, side, qty, own, rule)
    assert split == route(mode, side, qty, own, rule)
    assert split.placed + split.shadowed == qty
    assert split.placed >= 0
    assert split.shadowed >= 0
    assert split.reducing <= min(qty, abs(own.position))
    if mode is Mode.LIVE:
        assert split.placed == qty
    if mode is Mode.SHADOW:
        assert split.placed == split.reducing
        away = own.position * side.sign >= 0
        assert not away or split.placed == 0
    if mode is Mode.CANARY:
        new_risk = split.placed - split.reducing
        assert new_risk % rule.lot == 0
        assert new_risk <= max((qty - split.reducing) * rule.allocation, rule.lot)


@given(st.lists(quantities, min_size=1, max_size=50), rules)
def test_the_placed_share_of_a_sequence_is_exact_to_a_lot_an_order(sizes: list[Decimal], rule: CanaryRule) -> None:
    placed = sum((route(Mode.CANARY, Side.BUY, qty, OwnBook(), rule).placed for qty in sizes), Decimal(0))
    exact = sum((qty * rule.allocation for qty in sizes), Decimal(0))
    assert placed <= exact + (rule.lot * len(sizes) if rule.at_least_one_lot else 0)
    assert placed > exact - rule.lot * len(sizes)


def test_a_canary_without_its_rule_is_no_order() -> None:
    with pytest.raises(ValueError, match="a canary needs its rule"):
        route(Mode.CANARY, Side.BUY, Decimal(10), OwnBook(), None)


def test_a_demoted_strategy_may_sell_what_it_holds_and_not_a_share_more() -> None:
    split = route(Mode.SHADOW, Side.SELL, Decimal(150), OwnBook(position=Decimal(100), working_sells=Decimal(30)))
    assert (split.placed, split.shadowed) == (Decimal(70), Decimal(80))


def shadow(side: Side = Side.BUY, kind: OrderType = OrderType.LIMIT, tif: TimeInForce = TimeInForce.DAY) -> ShadowOrder:
    limit = None if kind is OrderType.MARKET else Decimal(100)
    return ShadowOrder(side, kind, tif, Decimal(50), limit, T0)


def touch(seconds: float = 1, size: str | None = "30", bid: str | None = "99.98", ask: str | None = "100") -> Touch:
    def number(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    return Touch(T0 + timedelta(seconds=seconds), Decimal("99.99"), number(size), number(bid), number(ask))


LATENCY = timedelta(milliseconds=250)


def test_a_shadow_buy_fills_at_the_ask_by_the_size_shown_and_no_sooner_than_its_latency() -> None:
    assert fill_against(shadow(), touch(seconds=0.2), latency=LATENCY) is None
    fill = fill_against(shadow(), touch(), latency=LATENCY)
    assert fill is not None
    assert (fill.qty, fill.price, fill.ends_order) == (Decimal(30), Decimal(100), False)
    whole = fill_against(shadow(), touch(size="500"), latency=LATENCY)
    assert whole is not None
    assert (whole.qty, whole.ends_order) == (Decimal(50), True)


def test_a_shadow_order_never_fills_beyond_its_limit_or_without_a_size() -> None:
    assert fill_against(shadow(), touch(ask="100.01"), latency=LATENCY) is None
    assert fill_against(shadow(Side.SELL), touch(bid="99.99"), latency=LATENCY) is None
    assert fill_against(shadow(), touch(size=None), latency=LATENCY) is None
    assert fill_against(shadow(), touch(size="0"), latency=LATENCY) is None


def test_an_ioc_order_ends_with_the_first_tick_it_could_meet() -> None:
    ended = fill_against(shadow(tif=TimeInForce.IOC), touch(ask="101"), latency=LATENCY)
    assert ended is not None
    assert (ended.qty, ended.ends_order) == (Decimal(0), True)
    part = fill_against(shadow(tif=TimeInForce.IOC), touch(), latency=LATENCY)
    assert part is not None
    assert (part.qty, part.ends_order) == (Decimal(30), True)


@given(st.lists(st.tuples(st.sampled_from(Side), quantities), min_size=1, max_size=30), rules, st.integers(0, 30))
def test_a_canarys_share_is_exact_to_the_lot_over_any_sequence_and_the_same_after_a_restart(
    asked: list[tuple[Side, Decimal]], rule: CanaryRule, stopped_after: int
) -> None:
    """The share of each order's new risk is what the allocation says, rounded down to the lot; nothing is remembered
    from order to order but the book, so a process that starts in the middle goes on as the other would have."""

    def go_on(real: Decimal, simulated: Decimal, rest: list[tuple[Side, Decimal]]) -> list[tuple[Decimal, Decimal]]:
        made = []
        for side, qty in rest:
            own, shadow = OwnBook(position=real), OwnBook(position=simulated)
            split = route(Mode.CANARY, side, qty, own, rule, shadow)
            new_risk = qty - split.reducing
            new_risk -= min(new_risk, shadow.reducible(side))
            share = new_risk * rule.allocation // rule.lot * rule.lot
            if rule.at_least_one_lot and share == 0 and new_risk >= rule.lot:
                share = rule.lot
            assert split.placed - split.reducing == share
            real, simulated = real + split.placed * side.sign, simulated + split.shadowed * side.sign
            made.append((real, simulated))
        return made

    whole = go_on(Decimal(0), Decimal(0), asked)
    real, simulated = whole[:stopped_after][-1] if whole[:stopped_after] else (Decimal(0), Decimal(0))
    assert whole[:stopped_after] + go_on(real, simulated, asked[stopped_after:]) == whole
