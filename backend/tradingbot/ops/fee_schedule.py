"""What the broker may charge: the fees that a day's executions earn, by a schedule that is written down.

Invariants: without a schedule nothing may be charged, so that any fee is a break; fees round up to a cent a day, as
brokers collect them; rates are exact decimals that are not negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

import polars as pl

from backend.tradingbot.core.values import plain

ZERO = Decimal(0)
CENT = Decimal("0.01")


@dataclass(frozen=True)
class FeeSchedule:
    """Rates in dollars. ``sale_of_dollar`` a dollar sold (SEC section 31), ``sale_of_share`` a share sold (FINRA TAF)
    with ``sale_cap`` an execution (0: none), ``share`` and ``contract`` on both sides, ``order`` an order."""

    name: str = "nothing"
    sale_of_dollar: Decimal = ZERO
    sale_of_share: Decimal = ZERO
    sale_cap: Decimal = ZERO
    share: Decimal = ZERO
    contract: Decimal = ZERO
    order: Decimal = ZERO

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Decimal) and not (value.is_finite() and value >= 0):
                raise ValueError(f"{item.name} must be finite and not negative, not {value}")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> FeeSchedule:
        """From JSON: ``{"name": ..., "sale_of_share": "0.000195", ...}``; raises ValueError that names the field."""
        known = {item.name for item in fields(cls)}
        parsed: dict[str, Any] = {}
        for name, value in raw.items():
            if name not in known:
                raise ValueError(f"{name} is not a rate; use {', '.join(sorted(known))}")
            try:
                parsed[name] = str(value) if name == "name" else Decimal(str(value))
            except InvalidOperation:
                raise ValueError(f"{name} is not a number: {value!r}") from None
        return cls(**parsed)

    def as_dict(self) -> dict[str, str]:
        return {item.name: str(plain(getattr(self, item.name))) for item in fields(self) if item.name != "name"} | {
            "name": self.name
        }

    def expected(self, executions: pl.DataFrame) -> dict[date, Decimal]:
        """What the executions of each trade date earn, in dollars; a day that earns nothing is left out."""
        if not executions.height:
            return {}
        sold, option = pl.col("side") == "sell", pl.col("multiplier") > 1
        zero = pl.lit(ZERO)
        taf = pl.col("qty") * pl.lit(self.sale_of_share)
        if self.sale_cap:
            taf = pl.min_horizontal(taf, pl.lit(self.sale_cap))
        each = pl.when(sold).then(
            pl.col("qty") * pl.col("price") * pl.col("multiplier") * pl.lit(self.sale_of_dollar) + taf
        ).otherwise(zero) + pl.when(option).then(pl.col("qty") * pl.lit(self.contract)).otherwise(
            pl.col("qty") * pl.lit(self.share)
        )
        days = executions.group_by("trade_date").agg(
            each.sum().alias("fees"),
            pl.coalesce("order_id", "client_order_id", "execution_id").n_unique().alias("orders"),
        )
        found = {}
        for day, fees, orders in days.sort("trade_date").iter_rows():
            total = (fees + self.order * orders).quantize(CENT, rounding=ROUND_UP)
            if total:
                found[day] = total
        return found
