"""Reads a number as the decimal it prints as, so that limits are met exactly where people wrote them.

Invariant: ``exact_from_text(exact_text(x)) == x``, so that money which is stored and read again is the same money.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

_TEXT = re.compile(r"-?\d+(\.\d+)?(/\d+)?")


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


def exact_text(value: Fraction) -> str:
    """Plain digits when the number has an end (``94000.04``), else ``numerator/denominator``; nothing is rounded."""
    whole, digits = value.denominator, 0
    for factor in (2, 5):
        count = 0
        while whole % factor == 0:
            whole //= factor
            count += 1
        digits = max(digits, count)
    if whole != 1:
        return f"{value.numerator}/{value.denominator}"
    scaled = abs(value.numerator) * 10**digits // value.denominator
    text = str(scaled).rjust(digits + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def as_people_write(value: Fraction) -> Decimal | float:
    """As a Decimal when it has an end, so that ``exact_number`` of it is ``value``; the nearest float when not."""
    text = exact_text(value)
    return float(value) if "/" in text else Decimal(text)


def exact_from_text(value: Any) -> Fraction | None:
    """What ``exact_text`` wrote, or a number; None for anything else."""
    if not isinstance(value, str):
        return exact_number(value)
    if not value.isascii() or not _TEXT.fullmatch(value) or ("." in value and "/" in value):
        return None
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError):
        return None
