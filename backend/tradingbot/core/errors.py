"""The errors of the domain. Each carries a stable ``code``; none knows about HTTP.

Errors that block trading derive from :class:`TradingBlockedError`; their message begins with the upper-case code
(``CIRCUIT_OPEN: stale-data``). A refusal by a gate is data, not an exception: see ``risk.gates``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class TradingbotError(Exception):
    """Base of everything this system raises on purpose.

    ``code`` is stable and machine-readable, ``remedy`` says what the caller can do, ``details`` is evidence.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details
        if code is not None:
            self.code = code


class TradingBlockedError(TradingbotError, RuntimeError):
    """Trading must not go on: an open breaker, stale data, a breached limit, a damaged guard."""

    code = "trading_blocked"


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with one field: its name, what was sent, what is wrong, and how to mend it."""

    field: str
    value: Any
    problem: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        shown = repr(self.value)
        return {
            "field": self.field,
            "value": shown if len(shown) <= 120 else shown[:117] + "...",
            "problem": self.problem,
            "remedy": self.remedy,
        }


@dataclass
class FieldErrors:
    """Collects what is wrong with a body, so that the answer names every field at once."""

    errors: list[FieldError] = field(default_factory=list)

    def add(self, name: str, value: Any, problem: str, remedy: str) -> None:
        self.errors.append(FieldError(name, value, problem, remedy))

    def __bool__(self) -> bool:
        return bool(self.errors)


class InvalidInputError(TradingbotError, ValueError):
    """The caller sent something that cannot be understood. Nothing was written."""

    code = "invalid_input"

    def __init__(self, errors: list[FieldError], *, code: str | None = None) -> None:
        first = errors[0]
        super().__init__(f"{first.field}: {first.problem}", code=code, remedy=first.remedy)
        self.errors = errors


class NotFoundError(TradingbotError):
    """The thing that was named does not exist, or not for this caller."""

    code = "not_found"


class NotAllowedError(TradingbotError):
    """The caller is known, and may not do this."""

    code = "not_allowed"


class ConflictError(TradingbotError):
    """The request contradicts what is already so."""

    code = "conflict"


class UnavailableError(TradingbotError):
    """A store or the broker cannot answer. Nothing was promised."""

    code = "unavailable"
