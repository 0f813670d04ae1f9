"""What the broker may charge: the fees that a day's executions earn, by a schedule that is written down.

Invariants: without a schedule nothing may be charged, so that any fee is a break; each fee rounds up to a cent a day,
as brokers collect them; its day is the date in New York, whatever trading date the account keeps; rates are exact
decimals that are not negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

import polars as pl

from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.recon_frames import new_york_date

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
        """What the executions of each date earn, in dollars; a day that earns nothing is left out."""
        if not executions.height:
            return {}
        zero, qty = pl.lit(ZERO), pl.col("qty")
        sold, option = pl.col("side") == "sell", pl.col("multiplier") > 1
        activity = qty * pl.lit(self.sale_of_share)
        if self.sale_cap:
            activity = pl.min_horizontal(activity, pl.lit(self.sale_cap))
        proceeds = qty * pl.col("price") * pl.col("multiplier") * pl.lit(self.sale_of_dollar)
        days = executions.group_by(new_york_date().alias("day")).agg(
            pl.when(sold).then(proceeds).otherwise(zero).sum().alias("section_31"),
            pl.when(sold).then(activity).otherwise(zero).sum().alias("activity"),
            pl.when(option)
            .then(qty * pl.lit(self.contract))
            .otherwise(qty * pl.lit(self.share))
            .sum()
            .alias("commission"),
            pl.coalesce("order_id", "client_order_id", "execution_id").n_unique().alias("orders"),
        )
        found = {}
        for day, section_31, activity_fee, commission, orders in days.sort("day").iter_rows():
            parts = (section_31, activity_fee, commission + self.order * orders)
            total = sum((part.quantize(CENT, rounding=ROUND_UP) for part in parts), ZERO)
            if total:
                found[day] = total
        return found
