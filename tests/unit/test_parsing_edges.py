"""Inputs that once raised something other than a named field error."""

from __future__ import annotations

import pytest

from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_decimal, parse_order, parse_time


def test_a_time_before_the_first_year_in_utc_is_refused():
    errors = FieldErrors()
    assert parse_time("0001-01-01T00:00:00+23:59", "time", errors) is None
    assert [error.field for error in errors.errors] == ["time"]


def test_text_that_cannot_be_encoded_is_refused():
    body = {"client_order_id": "a", "account": "\ud800", "strategy": "s", "symbol": "AAPL", "side": "buy"}
    with pytest.raises(InvalidInputError) as caught:
        parse_order({**body, "qty": "1", "type": "market"})
    assert [error.field for error in caught.value.errors] == ["account"]


@pytest.mark.parametrize("raw", ["1_0", "\u0661\u0660"])
def test_digits_that_are_not_plain_are_refused(raw):
    errors = FieldErrors()
    assert parse_decimal(raw, "qty", errors) is None
    assert [error.field for error in errors.errors] == ["qty"]
