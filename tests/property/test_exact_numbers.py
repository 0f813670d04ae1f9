"""Money that is written and read again is the same money."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.risk.exact_number import as_people_write, exact_from_text, exact_number, exact_text


@given(st.fractions())
def test_text_gives_every_number_back(number):
    assert exact_from_text(exact_text(number)) == number


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9))
def test_a_decimal_is_written_as_plain_digits_and_stays_a_decimal(number):
    text = exact_text(Fraction(number))
    assert not set(text) - set("-0123456789.")
    assert as_people_write(Fraction(number)) == number
    assert exact_number(as_people_write(Fraction(number))) == Fraction(number)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction("94000.04"), "94000.04"),
        (Fraction(0), "0"),
        (Fraction("-0.5"), "-0.5"),
        (Fraction(100), "100"),
        (Fraction(1, 3), "1/3"),
        (Fraction(Decimal("1e-9")), "0.000000001"),
    ],
)
def test_the_text_is_what_people_would_write(number, text):
    assert exact_text(number) == text


@pytest.mark.parametrize("text", ["", " ", "1e5", "nan", "inf", "1_000", "+1", "1.5/2", "1/0", ".5", "5.", "--1", "٣"])
def test_what_is_no_such_text_is_refused(text):
    assert exact_from_text(text) is None
