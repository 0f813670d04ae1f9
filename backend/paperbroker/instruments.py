"""What can be traded here: shares, and listed options by their OCC symbol, each with its multiplier.

Source: the Options Clearing Corporation's symbology (root, YYMMDD, C or P, strike times 1,000 in eight digits), written
without blanks as Alpaca writes it. An adjusted contract (its root ends in a digit) has a deliverable that its symbol
does not tell, so it is no asset here.

Invariants: cash, cost and value are quantity times price times multiplier; prices are for one share, as quoted.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from functools import lru_cache

SHARE = re.compile(r"[A-Z][A-Z0-9.]{0,11}")
OPTION = re.compile(r"[A-Z]{1,6}(?P<expiry>[0-9]{6})[CP](?P<strike>[0-9]{8})")
ONE, SHARES_A_CONTRACT = Decimal(1), Decimal(100)


@lru_cache(maxsize=65_536)
def is_option(symbol: str) -> bool:
    """Whether ``symbol`` is a standard option contract with a day that exists and a strike above zero."""
    found = OPTION.fullmatch(symbol)
    if found is None or int(found["strike"]) == 0:
        return False
    digits = found["expiry"]
    try:
        date(2000 + int(digits[:2]), int(digits[2:4]), int(digits[4:]))
    except ValueError:
        return False
    return True


def is_tradable(symbol: object) -> bool:
    """Whether orders and quotes of ``symbol`` are taken."""
    return isinstance(symbol, str) and (SHARE.fullmatch(symbol) is not None or is_option(symbol))


def multiplier(symbol: str) -> Decimal:
    """Dollars a point of price: 100 for an option contract, 1 for a share."""
    return SHARES_A_CONTRACT if is_option(symbol) else ONE


def asset_class(symbol: str) -> str:
    """The broker's word for what ``symbol`` is."""
    return "us_option" if is_option(symbol) else "us_equity"
