"""Whether a scope may trade: active, reducing or halted. The strictest state of an order's scopes wins.

Invariants: nothing here loosens a state by itself; ``reducing`` admits only orders that reduce the position, which is
computed under the account's lock; ``halted`` admits only reductions of the flatten service; an unknown state halts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Trading(StrEnum):
    """In order of strictness: each later one forbids more."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"

    @property
    def strictness(self) -> int:
        return list(Trading).index(self)


@dataclass(frozen=True)
class ScopeState:
    """What a person decided for one scope, and why. ``state`` is kept as stored: an unknown word halts."""

    scope: str
    state: str
    reason: str = ""

    @property
    def trading(self) -> Trading:
        try:
            return Trading(self.state)
        except ValueError:
            return Trading.HALTED


def strictest(states: Iterable[ScopeState]) -> Trading:
    """The one that wins; ``active`` when nothing restricts."""
    return max((state.trading for state in states), key=lambda trading: trading.strictness, default=Trading.ACTIVE)


def admits(trading: Trading, *, reduces: bool, flattening: bool) -> bool:
    """Whether an order may pass. ``flattening`` says that the flatten service placed it, which no caller can claim."""
    if trading is Trading.ACTIVE:
        return True
    if trading is Trading.REDUCING:
        return reduces
    return flattening and reduces
