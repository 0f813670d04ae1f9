"""What a circuit breaker is told (its limits) and what it remembers (its state), both frozen and checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.risk.exact_number import exact_from_text, exact_number


def refuse(name: str, value: Any, problem: str, remedy: str) -> InvalidInputError:
    return InvalidInputError([FieldError(name, value, problem, remedy)])


def positive_equity(value: Any) -> Fraction:
    exact = exact_number(value)
    if exact is None or exact <= 0:
        raise refuse("start_equity", value, "must be a finite number above zero", "send the equity at the day's start")
    return exact


@dataclass(frozen=True)
class BreakerLimits:
    """What trips: drawdown as a fraction of start equity (0..1), errors per 60 s, seconds of silence; and the cooldown.

    Raises InvalidInputError for anything that is not a finite number in range.
    """

    max_daily_drawdown: float = 0.06
    max_error_rate_per_min: int = 5
    max_data_staleness_sec: float = 30
    cooldown_sec: float = 1800

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            exact = exact_number(value)
            if exact is None or exact < 0:
                raise refuse(limit.name, value, "must be a finite number, zero or more", "send such a number")
        if self.max_daily_drawdown > 1:
            raise refuse("max_daily_drawdown", self.max_daily_drawdown, "must be at most 1", "6 % is written 0.06")
        if self.max_error_rate_per_min != int(self.max_error_rate_per_min):
            raise refuse("max_error_rate_per_min", self.max_error_rate_per_min, "must be whole", "send a whole number")


@dataclass(frozen=True)
class BreakerState:
    """All that a breaker remembers; JSON-able. Times are epoch seconds; money is exact text in the account's currency.

    ``last_fresh_at`` is None until a first tick was seen: the start-up grace then runs from ``started_at``.
    ``equity_bad`` and ``realized_bad`` say that the last such figure seen was no finite number.
    """

    start_equity: str
    started_at: float
    tripped_at: float | None = None
    reason: str | None = None
    later_causes: tuple[str, ...] = ()
    error_times: tuple[float, ...] = ()
    last_fresh_at: float | None = None
    last_equity: str | None = None
    last_realized: str | None = None
    equity_bad: bool = False
    realized_bad: bool = False
    last_reset: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``from_dict`` gives the same state back."""
        return asdict(self) | {"later_causes": list(self.later_causes), "error_times": list(self.error_times)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> BreakerState:
        """Read what ``as_dict`` wrote; money may also be a number, as it once was.

        Raises InvalidInputError for a missing, unknown or senseless field.
        """
        remedy = "send what as_dict() wrote"
        names = {item.name for item in fields(cls)}
        for name in sorted(names ^ set(raw)):
            raise refuse(name, raw.get(name), "is missing" if name in names else "is unknown", remedy)
        for name in ("later_causes", "error_times"):
            if not isinstance(raw[name], list | tuple):
                raise refuse(name, raw[name], "must be a list", remedy)
        for name in ("last_equity", "last_realized"):
            if raw[name] is not None and exact_from_text(raw[name]) is None:
                raise refuse(name, raw[name], "must be a finite number", remedy)
        given = [(name, raw[name]) for name in ("tripped_at", "last_fresh_at") if raw[name] is not None]
        given += [("started_at", raw["started_at"]), *(("error_times", value) for value in raw["error_times"])]
        for name, value in given:
            if exact_number(value) is None:
                raise refuse(name, value, "must be a finite number", remedy)
        positive_equity(exact_from_text(raw["start_equity"]))
        for name in ("equity_bad", "realized_bad"):
            if not isinstance(raw[name], bool):
                raise refuse(name, raw[name], "must be true or false", remedy)
        if (raw["tripped_at"] is None) != (raw["reason"] is None):
            raise refuse("reason", raw["reason"], "must be there exactly when tripped_at is", remedy)
        lists = {"later_causes": tuple(raw["later_causes"]), "error_times": tuple(raw["error_times"])}
        return cls(**(dict(raw) | lists))
