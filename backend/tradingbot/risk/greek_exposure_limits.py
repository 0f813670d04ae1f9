"""Caps delta, gamma, theta, vega, beta-adjusted exposure and dollars, for the portfolio and for each name.

Invariants: every limit but theta's is two-sided; what is no finite number is refused; sums run along exactly with
every change of ``positions``, so that ``require_ok`` costs the same at any size; a replaced position is never counted
twice. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from backend.tradingbot.core.errors import InvalidInputError, TradingBlockedError
from backend.tradingbot.risk.exact_number import exact_number
from backend.tradingbot.risk.greek_limits import (
    BETA,
    GREEKS,
    MEASURES,
    NOTIONAL,
    GreekLimits,
    PositionGreeks,
    breaches,
    measured,
    refuse,
)

__all__ = ["GreekExposureLimiter", "GreekLimits", "PositionGreeks"]

SHOWN = {BETA: "beta-adjusted exposure"}
LARGEST_SHOWN = 5
ZERO = Fraction(0)


class _Book(dict[str, PositionGreeks]):
    """The positions by symbol. Every way to change it keeps the running sums and the set of names in breach."""

    def __init__(self, limits: GreekLimits) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.sums = dict.fromkeys(MEASURES, ZERO)
        self.in_breach: dict[str, list[str]] = {}
        self._name_limits = limits.of_name()
        self._measures: dict[str, dict[str, Fraction]] = {}

    def measures_of(self, symbol: str) -> dict[str, Fraction]:
        return self._measures.get(symbol, dict.fromkeys(MEASURES, ZERO))

    def name_breaches(self, symbol: str, exact: Mapping[str, Fraction]) -> list[str]:
        limits = self._name_limits
        return [
            _text(symbol, name, exact[name], limits[name])
            for name in MEASURES
            if breaches(name, exact[name], limits[name])
        ]

    def _shift(self, exact: Mapping[str, Fraction], sign: int) -> None:
        for name in MEASURES:
            part = abs(exact[name]) if name == NOTIONAL else exact[name]
            self.sums[name] += sign * part

    def __setitem__(self, symbol: str, position: PositionGreeks) -> None:
        exact = measured(position)
        if position.symbol != symbol:
            raise refuse("symbol", position.symbol, f"is kept under {symbol!r}", "use the position's own symbol")
        with self.lock:
            if symbol in self:
                self._shift(self._measures[symbol], -1)
            super().__setitem__(symbol, position)
            self._measures[symbol] = exact
            self._shift(exact, 1)
            found = self.name_breaches(symbol, exact)
            if found:
                self.in_breach[symbol] = found
            else:
                self.in_breach.pop(symbol, None)

    def __delitem__(self, symbol: str) -> None:
        with self.lock:
            super().__delitem__(symbol)
            self._shift(self._measures.pop(symbol), -1)
            self.in_breach.pop(symbol, None)

    def pop(self, symbol: str, *default: Any) -> Any:
        with self.lock:
            if symbol not in self and default:
                return default[0]
            position = self[symbol]
            del self[symbol]
            return position

    def popitem(self) -> tuple[str, PositionGreeks]:
        with self.lock:
            symbol = next(reversed(self))
            return symbol, self.pop(symbol)

    def clear(self) -> None:
        with self.lock:
            for symbol in list(self):
                del self[symbol]

    def setdefault(self, symbol: str, default: Any = None) -> PositionGreeks:
        with self.lock:
            if symbol not in self:
                self[symbol] = default
            return self[symbol]

    def update(self, *others: Any, **named: PositionGreeks) -> None:
        with self.lock:
            for symbol, position in dict(*others, **named).items():
                self[symbol] = position

    def __ior__(self, other: Any) -> _Book:  # type: ignore[override,misc]
        self.update(other)
        return self


def _text(whose: str, measure: str, value: Fraction, limit: float) -> str:
    shown = SHOWN.get(measure, measure)
    beyond = "is below its floor" if measure == "theta" else "exceeds its limit"
    return f"{whose} {shown} {float(value):,.2f} {beyond} {limit:,.2f}"


class GreekExposureLimiter:
    """The Greeks of a book against their limits. Call ``require_ok`` before an order, ``validate_position`` with the
    position as it would be after it."""

    def __init__(self, limits: GreekLimits | None = None) -> None:
        self.limits = limits or GreekLimits()
        self._portfolio_limits = self.limits.of_portfolio()
        self._book = _Book(self.limits)

    @property
    def positions(self) -> dict[str, PositionGreeks]:
        """By symbol; changing it changes the sums with it."""
        return self._book

    def add_position(self, position: PositionGreeks) -> None:
        """Put in, in place of the one with the same symbol. Raises InvalidInputError for NaN, infinity or no name."""
        self._book[position.symbol] = position

    def remove_position(self, symbol: str) -> bool:
        """Take out; False when there was none."""
        return self._book.pop(symbol, None) is not None

    def require_ok(self) -> None:
        """Raise TradingBlockedError ``Greek exposure limits violated: ...`` (code ``greek_limits``) at any breach."""
        with self._book.lock:
            found = self.check_portfolio_limits() + self.check_per_name_limits()
        if found:
            raise TradingBlockedError(
                "Greek exposure limits violated: " + "; ".join(found),
                code="greek_limits",
                remedy="reduce the position that breaches, or ask the risk role for another limit",
                violations=found,
            )

    def get_portfolio_greeks(self) -> dict[str, float]:
        """delta, gamma, theta, vega and beta_adjusted_exposure of the whole book."""
        with self._book.lock:
            return {name: float(self._book.sums[name]) for name in (*GREEKS, BETA)}

    def check_portfolio_limits(self) -> list[str]:
        """One text a breach, such as ``Portfolio delta ...``; empty when all hold."""
        with self._book.lock:
            return self._portfolio_breaches(self._book.sums)

    def check_per_name_limits(self, symbol: str | None = None) -> list[str]:
        """One text a breach of ``symbol``, or of every name."""
        with self._book.lock:
            names: Iterable[str] = self._book.in_breach if symbol is None else [symbol]
            return [text for name in list(names) for text in self._book.in_breach.get(name, [])]

    def validate_position(self, position: PositionGreeks) -> tuple[bool, list[str]]:
        """Would the book hold with ``position`` in it, in place of the one of its name? And what would not."""
        try:
            exact = measured(position)
        except InvalidInputError as error:
            return False, [f"{position.symbol} {error.message}"]
        with self._book.lock:
            old = self._book.measures_of(position.symbol)
            after = {name: self._book.sums[name] + exact[name] - old[name] for name in (*GREEKS, BETA)}
            after[NOTIONAL] = self._book.sums[NOTIONAL] + abs(exact[NOTIONAL]) - abs(old[NOTIONAL])
            found = self._book.name_breaches(position.symbol, exact) + self._portfolio_breaches(after)
        return not found, found

    def validate_new_position(self, position: PositionGreeks) -> tuple[bool, list[str]]:
        """The same question under its other name."""
        return self.validate_position(position)

    def get_position_summary(self) -> dict[str, Any]:
        """total_positions, portfolio_greeks, and the largest_positions by notional."""
        with self._book.lock:
            by_size = sorted(self._book.values(), key=lambda position: abs(position.notional), reverse=True)
            return {
                "total_positions": len(self._book),
                "portfolio_greeks": self.get_portfolio_greeks(),
                "largest_positions": [position.as_dict() for position in by_size[:LARGEST_SHOWN]],
            }

    def get_greek_utilization(self) -> dict[str, float]:
        """How much of each portfolio limit is used, as a fraction: 1.0 is at the limit. A gain in theta uses none."""
        with self._book.lock:
            sums = dict(self._book.sums)
        used = {f"{name}_utilization": _used(name, sums[name], self._portfolio_limits[name]) for name in MEASURES}
        return used | {"beta_utilization": used[f"{BETA}_utilization"]}

    def stress_test_greeks(self, scenarios: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
        """Each scenario's ``<greek>_shock`` scales that portfolio Greek by ``1 + shock``; other Greeks stay. Answers
        ``stressed_<greek>`` and the ``violations`` by scenario. Raises InvalidInputError for an unknown shock."""
        with self._book.lock:
            sums = dict(self._book.sums)
        known = {f"{name}_shock": name for name in (*GREEKS, BETA)} | {"beta_shock": BETA}
        answers: dict[str, dict[str, Any]] = {}
        for scenario, shocks in scenarios.items():
            stressed = dict(sums)
            for name, value in shocks.items():
                shock = exact_number(value)
                if name not in known or shock is None:
                    problem = "is not a known shock" if name not in known else "must be a finite number"
                    raise refuse(name, value, problem, "known: " + ", ".join(known))
                stressed[known[name]] = sums[known[name]] * (1 + shock)
            shown: dict[str, Any] = {f"stressed_{name}": float(stressed[name]) for name in (*GREEKS, BETA)}
            answers[scenario] = shown | {"violations": self._portfolio_breaches(stressed)}
        return answers

    def status(self) -> dict[str, Any]:
        """For people and dashboards; JSON-able."""
        with self._book.lock:
            found = self.check_portfolio_limits() + self.check_per_name_limits()
            return {
                "ok": not found,
                "violations": found,
                "total_positions": len(self._book),
                "portfolio_greeks": self.get_portfolio_greeks(),
                "notional": float(self._book.sums[NOTIONAL]),
                "utilization": self.get_greek_utilization(),
            }

    def _portfolio_breaches(self, sums: Mapping[str, Fraction]) -> list[str]:
        limits = self._portfolio_limits
        return [
            _text("Portfolio", name, sums[name], limits[name])
            for name in MEASURES
            if breaches(name, sums[name], limits[name])
        ]


def _used(measure: str, value: Fraction, limit: float) -> float:
    if measure != "theta":
        return float(abs(value)) / limit
    if value >= 0:
        return 0.0
    return float("inf") if limit == 0 else float(value) / limit
