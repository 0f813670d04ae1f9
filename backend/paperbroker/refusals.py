"""How the broker says no, and one armed fault: what the desk and the fault switch both need to know."""

from __future__ import annotations

from dataclasses import dataclass


class Refused(Exception):
    """A request the broker answers with an error: HTTP status, Alpaca code and message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(slots=True)
class Fault:
    """One armed fault; ``times`` None means until deleted, ``seconds`` is its delay or its lag."""

    mode: str
    target: str
    times: int | None
    seconds: float
    symbol: str | None
    status: int
    code: int
    message: str
    size: int = 0
    used: int = 0

    def take(self) -> None:
        """Use it once."""
        self.used += 1
        if self.times is not None:
            self.times -= 1
