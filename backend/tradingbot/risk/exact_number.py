"""Reads a number as the decimal it prints as, so that limits are met exactly where people wrote them."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any


def exact_number(value: Any) -> Fraction | None:
    """``value`` as the decimal number it prints as; None when it is not a finite number that a float can hold."""
    if value is None or isinstance(value, bool | str | bytes):
        return None
    try:
        as_float = float(value)
        if not math.isfinite(as_float):
            return None
        if isinstance(value, int | Decimal | Fraction):
            return Fraction(value)
        return Fraction(Decimal(repr(as_float)))  # 0.06 means six hundredths, not the binary number beside it
    except (TypeError, ValueError, OverflowError):
        return None
