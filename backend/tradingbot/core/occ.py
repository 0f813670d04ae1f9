"""Option contracts by their OCC symbol: root, expiry, right and strike, and how many shares one contract stands for.

Source: the Options Clearing Corporation's symbology (root, YYMMDD, C or P, strike times 1,000 in eight digits). A root
that ends in a digit is an adjusted contract whose deliverable is not in its symbol: its multiplier is unknown here, and
what needs one must deny.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

OCC_SYMBOL = re.compile(r"(?P<root>[A-Z]{1,6}[0-9]?) *(?P<expiry>[0-9]{6})(?P<right>[CP])(?P<strike>[0-9]{8})")
NEW_YORK = ZoneInfo("America/New_York")
LAST_TRADE = time(16, 0)
SHARES_A_CONTRACT = Decimal(100)
DAYS_A_YEAR = 365


@dataclass(frozen=True)
class OptionContract:
    """One listed option. ``multiplier`` is None for an adjusted contract: nobody can say from the symbol."""

    symbol: str
    underlying: str
    expiry: date
    is_call: bool
    strike: Decimal
    multiplier: Decimal | None

    @property
    def expires_at(self) -> datetime:
        """16:00 in New York on the day of expiry, as UTC."""
        return datetime.combine(self.expiry, LAST_TRADE, NEW_YORK).astimezone(UTC)

    def years_left(self, now: datetime) -> float:
        """Calendar time to expiry in years of 365 days; negative once it has expired."""
        return (self.expires_at - now).total_seconds() / (DAYS_A_YEAR * 86_400)


@lru_cache(maxsize=65_536)
def parse_option(symbol: str) -> OptionContract | None:
    """The contract that ``symbol`` names, padded or compact; None when it is no OCC symbol (a share, a fund)."""
    found = OCC_SYMBOL.fullmatch(symbol)
    if found is None:
        return None
    digits, strike = found["expiry"], Decimal(found["strike"]) / 1000
    try:
        expiry = date(2000 + int(digits[:2]), int(digits[2:4]), int(digits[4:]))
    except ValueError:
        return None
    if strike <= 0:
        return None
    root = found["root"]
    adjusted = root[-1].isdigit()
    return OptionContract(
        symbol=symbol,
        underlying=root.rstrip("0123456789"),
        expiry=expiry,
        is_call=found["right"] == "C",
        strike=strike,
        multiplier=None if adjusted else SHARES_A_CONTRACT,
    )


def multiplier_of(symbol: str) -> Decimal | None:
    """What one unit of ``symbol`` is multiplied by to make money: 1 for a share, 100 for a standard option, None for
    an adjusted one."""
    contract = parse_option(symbol)
    return Decimal(1) if contract is None else contract.multiplier
