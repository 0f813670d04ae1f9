"""A strategy's mode, its canary's day and its shadow book, as parts of what an order is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.execution.routing import CanaryRule, OwnBook
from backend.tradingbot.risk.exposure import NOTHING, BookRisk
from backend.tradingbot.risk.promotion import CanaryCaps, CanaryDay, cap_reached
from backend.tradingbot.risk.snapshot import RiskSnapshot, StrategyMode

ZERO = Decimal(0)


@dataclass(frozen=True)
class ShadowBook:
    """What a strategy has only simulated: this name, and the sums over its other names. Money in account currency."""

    position: Decimal = ZERO
    buys: Decimal = ZERO
    sells: Decimal = ZERO
    spent: Decimal = ZERO
    reserved: Decimal = ZERO
    gross: Decimal = ZERO
    short: Decimal = ZERO
    low: tuple[Decimal, ...] = NOTHING
    high: tuple[Decimal, ...] = NOTHING

    def own(self) -> OwnBook:
        return OwnBook(self.position, self.buys, self.sells)

    def on_top_of(self, snapshot: RiskSnapshot) -> RiskSnapshot:
        """``snapshot`` as it would be had the shadow orders been placed and filled as simulated."""
        sums = snapshot.book.sums
        return replace(
            snapshot,
            position=snapshot.position + self.position,
            working_buys=snapshot.working_buys + self.buys,
            working_sells=snapshot.working_sells + self.sells,
            cash=None if snapshot.cash is None else snapshot.cash - self.spent,
            reserved_cash=snapshot.reserved_cash + self.reserved,
            book=replace(snapshot.book, sums=None if sums is None else self._added(sums)),
        )

    def _added(self, sums: BookRisk) -> BookRisk:
        return replace(
            sums,
            gross=sums.gross + self.gross,
            short=sums.short + self.short,
            low=tuple(a + b for a, b in zip(sums.low, self.low, strict=True)),
            high=tuple(a + b for a, b in zip(sums.high, self.high, strict=True)),
        )


def shadow_book(said: Mapping[str, Any]) -> ShadowBook:
    name, rest = said["shadow_name"], said["shadow_rest"]
    here = ShadowBook()
    if name is not None:
        here = ShadowBook(Decimal(name["position"]), Decimal(name["buys"]), Decimal(name["sells"]))
    if rest is None:
        return here
    money = {key: Decimal(rest[key]) for key in ("spent", "reserved", "gross", "short")}
    ranges = {side: tuple(map(Decimal, rest[side])) if rest[side] else NOTHING for side in ("low", "high")}
    return replace(here, **money, **ranges)  # type: ignore[arg-type]


def canary_rule(mode: Mapping[str, Any] | None) -> CanaryRule | None:
    if mode is None:
        return None
    return CanaryRule(Decimal(mode["allocation"]), Decimal(mode["lot"]), mode["at_least_one_lot"])


def canary_caps(mode: Mapping[str, Any] | None) -> CanaryCaps | None:
    if mode is None:
        return None
    return CanaryCaps(mode["max_orders"], Decimal(mode["max_notional"]), Decimal(mode["max_loss"]))


def strategy_mode(order: OrderIntent, said: Mapping[str, Any], known_builds_only: bool) -> StrategyMode:
    """How far the build that sent ``order`` is trusted now; the cap is looked at before the order's own notional."""
    mode = said["mode"]
    if mode is None:
        return StrategyMode(None, order.strategy_build, False, known_builds_only, False, "")
    cap, caps = None, canary_caps(mode)
    if mode["mode"] == "canary" and caps is not None:
        cap = cap_reached(caps, canary_day(said["canary_day"]), next_notional=ZERO)
    reducing = mode["demoted"] and not mode["flat"]
    return StrategyMode(mode["mode"], order.strategy_build, mode["withdrawn"], known_builds_only, reducing, cap or "")


def canary_day(raw: Mapping[str, Any] | None) -> CanaryDay:
    if raw is None:
        return CanaryDay(0, ZERO, ZERO)
    return CanaryDay(raw["orders"], Decimal(raw["notional"]), Decimal(raw["loss"]))
