"""Bodies become exact values or are refused, with every wrong field named."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.parsing import parse_order
from backend.tradingbot.core.values import OrderIntent, OrderType, Side, TimeInForce

BODY = {
    "client_order_id": "order-1",
    "account": "main",
    "strategy": "trend",
    "symbol": "AAPL",
    "side": "buy",
    "qty": "10",
    "type": "limit",
    "limit_price": "190.10",
}


def faults(body: Any) -> list[tuple[str, str]]:
    """Field and problem of everything that is wrong with ``body``, sorted."""
    with pytest.raises(InvalidInputError) as refused:
        parse_order(body)
    assert refused.value.code == "invalid_order"
    assert all(error.remedy for error in refused.value.errors)
    return sorted((error.field, error.problem) for error in refused.value.errors)


def test_a_good_body_becomes_exact_values() -> None:
    assert parse_order({**BODY, "greeks": {"delta": "-0.5"}}) == OrderIntent(
        client_order_id="order-1",
        account="main",
        strategy="trend",
        symbol="AAPL",
        side=Side.BUY,
        qty=Decimal("10"),
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        limit_price=Decimal("190.10"),
        greeks={"delta": Decimal("-0.5")},
    )


NOT_FINITE, NOT_POSITIVE = "must be finite", "must be greater than zero"
NOT_TEXT, NOT_A_NUMBER, OUT_OF_RANGE = "must be a decimal string", "is not a decimal number", "is out of range"


@pytest.mark.parametrize("name", ["qty", "limit_price"])
@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("NaN", NOT_FINITE),
        ("sNaN", NOT_FINITE),
        ("Infinity", NOT_FINITE),
        ("-Infinity", NOT_FINITE),
        ("0", NOT_POSITIVE),
        ("-0", NOT_POSITIVE),
        ("-1", NOT_POSITIVE),
        (10.5, NOT_TEXT),
        (10, NOT_TEXT),
        (True, NOT_TEXT),
        (["10"], NOT_TEXT),
        ("", NOT_A_NUMBER),
        ("ten", NOT_A_NUMBER),
        ("1,000", NOT_A_NUMBER),
        ("1e12", OUT_OF_RANGE),
        ("1e999999", OUT_OF_RANGE),
        ("1e-10", OUT_OF_RANGE),
    ],
)
def test_a_number_that_is_not_a_positive_decimal_string_is_refused(name: str, raw: Any, problem: str) -> None:
    assert faults({**BODY, name: raw}) == [(name, problem)]


@pytest.mark.parametrize(("price", "tick"), [("190.105", "0.01"), ("1.001", "0.01"), ("0.99995", "0.0001")])
def test_a_price_between_two_ticks_is_refused(price: str, tick: str) -> None:
    assert faults({**BODY, "limit_price": price}) == [("limit_price", f"is not a multiple of the tick {tick}")]


@pytest.mark.parametrize("price", ["190.10", "190.1000", "1.00", "0.9999"])
def test_a_price_on_the_tick_is_kept_exactly(price: str) -> None:
    assert parse_order({**BODY, "limit_price": price}).limit_price == Decimal(price)


def test_a_limit_order_needs_a_price_and_a_market_order_must_not_have_one() -> None:
    without = {name: value for name, value in BODY.items() if name != "limit_price"}
    assert faults(without) == [("limit_price", "is missing")]
    assert faults({**BODY, "limit_price": None}) == [("limit_price", "is missing")]
    assert faults({**BODY, "type": "market"}) == [("limit_price", "does not fit a market order")]
    assert parse_order({**without, "type": "market"}).limit_price is None


@pytest.mark.parametrize("raw", [None, "", 7, "a b", "a/b", "é", "order-1\n", "x" * 49])
def test_an_order_id_outside_the_pattern_is_refused(raw: Any) -> None:
    assert faults({**BODY, "client_order_id": raw}) == [("client_order_id", "is not an order id")]


def test_an_order_id_may_have_48_characters() -> None:
    assert parse_order({**BODY, "client_order_id": "x" * 48}).client_order_id == "x" * 48


@pytest.mark.parametrize("name", ["qtty", "bypass", "Qty"])
def test_an_unknown_field_is_refused_and_named(name: str) -> None:
    assert faults({**BODY, name: "1"}) == [(name, "is not a known field")]


def test_an_unknown_or_inexact_greek_is_refused() -> None:
    assert faults({**BODY, "greeks": {"rho": "1"}}) == [("greeks", "must be an object of known Greeks")]
    assert faults({**BODY, "greeks": {"delta": 0.5}}) == [("greeks.delta", NOT_TEXT)]
    assert faults({**BODY, "greeks": {"delta": "NaN"}}) == [("greeks.delta", NOT_FINITE)]


def test_an_empty_body_names_every_required_field_at_once() -> None:
    required = ["account", "client_order_id", "qty", "side", "strategy", "symbol", "type"]
    assert faults({}) == [(name, "is missing") for name in required]


def test_every_wrong_field_is_named_in_one_answer() -> None:
    body = {**BODY, "client_order_id": "a b", "symbol": "aapl", "side": "hold", "qty": "NaN", "limit_price": 1.5}
    assert faults({**body, "time_in_force": "ever", "permit_id": "?", "extra": 1, "account": ""}) == [
        ("account", "must be a string of 1 to 48 characters"),
        ("client_order_id", "is not an order id"),
        ("extra", "is not a known field"),
        ("limit_price", NOT_TEXT),
        ("permit_id", "is not a permit id"),
        ("qty", NOT_FINITE),
        ("side", "is not one of the allowed values"),
        ("symbol", "is not a symbol"),
        ("time_in_force", "is not one of the allowed values"),
    ]


@pytest.mark.parametrize("body", [None, [], "order", 1])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert faults(body) == [("body", "must be a JSON object")]


@pytest.mark.parametrize("qty", ["10.0", "1e1", "010", "+10", "10.000000000"])
def test_two_spellings_of_one_number_are_one_canonical_order(qty: str) -> None:
    canonical = parse_order({**BODY, "qty": qty, "time_in_force": "day", "limit_price": "190.1"}).canonical()
    assert canonical == parse_order(BODY).canonical()
    assert (canonical["qty"], canonical["limit_price"]) == ("10", "190.1")


def test_two_different_quantities_are_two_canonical_orders() -> None:
    assert parse_order({**BODY, "qty": "10.1"}).canonical() != parse_order(BODY).canonical()
