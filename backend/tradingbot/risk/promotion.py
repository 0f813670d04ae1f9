"""Whether the evidence is enough to trust a strategy one step further, and whether it must be trusted less.

Invariants: one step at a time; every condition is asked, so that a refusal names all that is missing; what is not known
counts as missing; a demotion needs no evidence and no second person.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal


@dataclass(frozen=True)
class Bar:
    """What a step asks for. A divergence bound is the largest difference that the confidence intervals may allow; None
    where there is nothing real to compare with yet, as on the step from shadow to canary."""

    min_days: int
    min_orders: int
    max_slippage_bps: float | None
    max_fill_rate_difference: float | None
    second_person: bool
    max_hard_verdicts: int = 0
    max_open_breaks: int = 0
    max_open_breakers: int = 0

    def is_loosening(self, after: Bar) -> bool:
        """Whether ``after`` could let a step pass that this bar refuses."""
        least = ("min_days", "min_orders", "second_person")
        most = (
            "max_slippage_bps",
            "max_fill_rate_difference",
            "max_hard_verdicts",
            "max_open_breaks",
            "max_open_breakers",
        )
        return any(getattr(after, name) < getattr(self, name) for name in least) or any(
            _unbounded(getattr(after, name)) > _unbounded(getattr(self, name)) for name in most
        )


def _unbounded(bound: float | None) -> float:
    return float("inf") if bound is None else bound


@dataclass(frozen=True)
class Evidence:
    """What is known of the strategy's build in its present mode. None means unknown."""

    days: int | None
    orders: int | None
    slippage_bps_difference: float | None
    fill_rate_difference: float | None
    hard_verdicts: int | None
    open_breaks: int | None
    open_breakers: int | None


@dataclass(frozen=True)
class Condition:
    """One condition with what it wants and what there is."""

    name: str
    met: bool
    wanted: str
    found: str


def judge(bar: Bar, evidence: Evidence) -> list[Condition]:
    """Every condition of ``bar``, met or not."""

    def at_least(name: str, wanted: int, found: int | None) -> Condition:
        return Condition(name, found is not None and found >= wanted, f"at least {wanted}", _shown(found))

    def at_most(name: str, wanted: float, found: float | None) -> Condition:
        return Condition(name, found is not None and abs(found) <= wanted, f"at most {wanted:g}", _shown(found))

    bounds = [
        ("slippage_bps_difference", bar.max_slippage_bps, evidence.slippage_bps_difference),
        ("fill_rate_difference", bar.max_fill_rate_difference, evidence.fill_rate_difference),
    ]
    return [
        at_least("days", bar.min_days, evidence.days),
        at_least("orders", bar.min_orders, evidence.orders),
        *(at_most(name, bound, found) for name, bound, found in bounds if bound is not None),
        at_most("hard_verdicts", bar.max_hard_verdicts, evidence.hard_verdicts),
        at_most("open_breaks", bar.max_open_breaks, evidence.open_breaks),
        at_most("open_breakers", bar.max_open_breakers, evidence.open_breakers),
    ]


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"


@dataclass(frozen=True)
class CanaryCaps:
    """What a canary may do in one session day: real orders, notional and loss (account currency, above zero)."""

    max_orders: int
    max_notional: Decimal
    max_loss: Decimal

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Decimal) and not value.is_finite() or value < 0:
                raise ValueError(f"{item.name} must be finite and not negative, not {value}")


@dataclass(frozen=True)
class CanaryDay:
    """What the canary has done this session day; ``loss`` is above zero when money was lost."""

    orders: int
    notional: Decimal
    loss: Decimal


def cap_reached(caps: CanaryCaps, day: CanaryDay, *, next_notional: Decimal) -> str | None:
    """Which cap one more real order of ``next_notional`` would pass: ``orders``, ``notional`` or ``loss``; or None."""
    if day.loss >= caps.max_loss:
        return "loss"
    if day.orders + 1 > caps.max_orders:
        return "orders"
    if day.notional + next_notional > caps.max_notional:
        return "notional"
    return None


def ramp_share(seconds_since_reset: Decimal, ramp_seconds: Decimal, start_share: Decimal) -> Decimal:
    """The share of normal size that is allowed after a breaker's reset: it rises in a straight line to 1.

    A reset that lies ahead (two clocks differ) counts as one of now. Raises ValueError for a share outside (0, 1], and
    for seconds that are no number or, of the ramp, negative.
    """
    if not 0 < start_share <= 1:
        raise ValueError(f"start_share must be in (0, 1], not {start_share}")
    if not seconds_since_reset.is_finite() or not ramp_seconds.is_finite() or ramp_seconds < 0:
        raise ValueError(f"a ramp of {ramp_seconds} s, {seconds_since_reset} s after its reset, is none")
    if seconds_since_reset >= ramp_seconds:
        return Decimal(1)
    return start_share + (1 - start_share) * max(seconds_since_reset, Decimal(0)) / ramp_seconds
