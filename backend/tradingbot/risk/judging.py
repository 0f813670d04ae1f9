"""How a gate turns figures and limits into its one check: which figure binds, what passes, what is missing.

Invariants: at the limit passes, beyond it fails; the check shows the figure that is furthest beyond its limit, or the
nearest to it; every figure that fails is named in the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from backend.tradingbot.core.values import plain
from backend.tradingbot.risk.limits import Limit
from backend.tradingbot.risk.snapshot import Check, RiskSnapshot

ASK_RISK = "ask the risk role to set it"


class Measured(NamedTuple):
    """One figure against one limit. ``code`` is the check's when this one fails; ``shown`` is the figure with its sign,
    ``value`` the size that is held against the limit."""

    code: str
    says: str
    value: Decimal
    limit: Decimal
    where: str
    shown: Decimal | None = None

    @property
    def fails(self) -> bool:
        """Also when the figure is no number: NaN is not within any limit."""
        return not self.value <= self.limit if self.value.is_finite() else True

    @property
    def used(self) -> Decimal:
        if self.limit > 0:
            return self.value / self.limit
        return Decimal(0) if self.value <= 0 else Decimal("Infinity")

    def sentence(self) -> str:
        figure = self.value if self.shown is None else self.shown
        return f"{self.says} {short(figure)}, limit {plain(self.limit)} ({self.where})"


def short(value: Decimal) -> str:
    """For messages: at most nine decimals, no trailing zeros."""
    return plain(round(value, 9)) or ""


def measured(code: str, says: str, value: Decimal, row: Limit, shown: Decimal | None = None) -> Measured:
    return Measured(code, says, value, row.value, row.shown, shown)


def unused_or_missing(gate: str, snapshot: RiskSnapshot) -> Check | None:
    """The check that ends the matter: the account does not use ``gate``, or a limit that it requires is not set."""
    if not snapshot.limits.uses(gate):
        return Check(gate, True, "not_required", "the account's profile does not use this control")
    missing = snapshot.limits.missing(gate)
    if missing:
        message = f"{snapshot.limits.account} has no limit {', '.join(missing)}"
        return Check(gate, False, "limit_missing", message, ASK_RISK)
    return None


def judged(gate: str, found: Sequence[Measured], remedy: str, ok: str = "within_limit") -> Check:
    """One check for all figures of a gate."""
    if not found:
        return Check(gate, True, "not_required", "no limit of this control applies")
    failing = [each for each in found if each.fails]
    binding = found[0] if len(found) == 1 else max(failing or found, key=lambda each: each.used)
    value, limit = short(binding.value), plain(binding.limit)
    headroom = short(binding.limit - binding.value)
    if not failing:
        return Check(gate, True, ok, binding.sentence(), "", value, limit, headroom)
    message = "; ".join(each.sentence() for each in failing)
    return Check(gate, False, binding.code, message, remedy, value, limit, headroom)


def let_out(check: Check) -> Check:
    """The same figures, passed: the order only reduces the position."""
    if check.passed:
        return check
    message = f"{check.message}, but the order only reduces the position"
    return replace(check, passed=True, code="reduces_risk", message=message, remedy="")
