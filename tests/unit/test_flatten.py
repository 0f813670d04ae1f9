"""The next slice that takes a position towards zero, and the trading states that let it pass."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.core.values import Side
from backend.tradingbot.risk.flatten import Slice, next_slice
from backend.tradingbot.risk.gates import Quote
from backend.tradingbot.risk.trading_state import ScopeState, Trading, admits, strictest

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def quote(price: str, bid: str | None = None, ask: str | None = None) -> Quote:
    return Quote(Decimal(price), NOW, Decimal(bid) if bid else None, Decimal(ask) if ask else None)


def slice_of(position: str, seen: Quote, value: str = "1000", refusals: int = 0, collar: int = 100) -> Slice | None:
    return next_slice(Decimal(position), seen, collar_bps=collar, most_value=Decimal(value), refusals=refusals)


def test_a_long_position_is_sold_below_the_bid_and_a_short_one_bought_above_the_ask() -> None:
    seen = quote("100", "99.99", "100.01")
    assert slice_of("25", seen) == Slice(Side.SELL, Decimal(10), Decimal("98.99"))
    assert slice_of("-25", seen) == Slice(Side.BUY, Decimal(9), Decimal("101.02"))


def test_a_side_without_a_quote_takes_the_last_price() -> None:
    assert slice_of("5", quote("100")) == Slice(Side.SELL, Decimal(5), Decimal(99))


def test_a_price_below_a_dollar_moves_in_hundredths_of_a_cent() -> None:
    assert slice_of("5", quote("0.5003")) == Slice(Side.SELL, Decimal(5), Decimal("0.4952"))


def test_each_refusal_halves_the_slice_down_to_one_share_and_its_distance_down_to_the_touch() -> None:
    slices = [slice_of("50", quote("100"), "1600", refusals) for refusals in (0, 1, 2, 3, 4, 5, 60)]
    assert [part.qty for part in slices] == [16, 8, 4, 2, 1, 1, 1]
    assert [str(part.limit_price) for part in slices[:3]] == ["99.00", "99.50", "99.75"]
    assert slices[-1].limit_price == Decimal("99.99")


def test_a_fraction_of_a_share_is_sold_whole() -> None:
    assert slice_of("0.25", quote("100")).qty == Decimal("0.25")


def test_without_a_position_or_a_usable_price_there_is_no_slice() -> None:
    assert slice_of("0", quote("100")) is None
    assert slice_of("5", quote("0.0001"), collar=10_000) is None


@given(
    position=st.decimals("-1e6", "1e6", places=4).filter(bool),
    price=st.decimals("0.01", "1e5", places=4),
    value=st.decimals("1", "1e7", places=2),
    collar=st.integers(0, 5_000),
    refusals=st.integers(0, 20),
)
def test_a_slice_is_opposite_within_the_position_and_on_the_tick(position, price, value, collar, refusals) -> None:
    part = next_slice(position, Quote(price, NOW), collar_bps=collar, most_value=value, refusals=refusals)
    if part is None:
        return
    assert part.side is (Side.SELL if position > 0 else Side.BUY)
    assert 0 < part.qty <= abs(position)
    assert part.qty * price <= max(value, price)
    assert (part.limit_price <= price) if position > 0 else (part.limit_price >= price)
    tick = Decimal("0.01") if part.limit_price >= 1 else Decimal("0.0001")
    assert part.limit_price > 0 and part.limit_price % tick == 0


@pytest.mark.parametrize(
    ("words", "winner"),
    [
        ([], Trading.ACTIVE),
        (["active", "reducing", "active"], Trading.REDUCING),
        (["halted", "reducing"], Trading.HALTED),
        (["active", "on holiday"], Trading.HALTED),
    ],
)
def test_the_strictest_state_wins_and_an_unknown_one_halts(words, winner) -> None:
    assert strictest(ScopeState("firm", word) for word in words) is winner


@pytest.mark.parametrize("reduces", [False, True])
@pytest.mark.parametrize("flattening", [False, True])
def test_what_each_state_admits(reduces, flattening) -> None:
    assert admits(Trading.ACTIVE, reduces=reduces, flattening=flattening) is True
    assert admits(Trading.REDUCING, reduces=reduces, flattening=flattening) is reduces
    assert admits(Trading.HALTED, reduces=reduces, flattening=flattening) is (reduces and flattening)
