"""Time is an argument. Only the edge (a view, a task, a command) reads a clock; everything below is handed one.

Times are timezone-aware UTC ``datetime``. ``monotonic`` is seconds from an arbitrary start and never steps back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What a thing that needs the time asks for."""

    def now(self) -> datetime: ...

    def time(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock. ``time.time`` is looked up at each call, since callers patch it in tests."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), tz=UTC)

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class FixedClock:
    """A clock that stands still until it is told to move; for tests and for replays."""

    at: datetime = field(default_factory=lambda: datetime(2026, 1, 5, 15, 0, tzinfo=UTC))
    ticks: float = 1_000.0

    def now(self) -> datetime:
        return self.at

    def time(self) -> float:
        return self.at.timestamp()

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        """Move both the wall clock and the monotonic clock on by ``seconds``."""
        self.at += timedelta(seconds=seconds)
        self.ticks += seconds

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as NTP or an operator does."""
        self.at += timedelta(seconds=seconds)


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class Deadline:
    """A moment after which something must not begin any more, kept by two clocks: whichever says so first.

    The monotonic one sees a paused process, the wall clock a paused machine.
    """

    clock: Clock
    wall: float
    monotonic: float

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Deadline:
        """``seconds`` from now."""
        return cls(clock, clock.time() + seconds, clock.monotonic() + seconds)

    def passed(self) -> bool:
        return self.clock.monotonic() >= self.monotonic or self.clock.time() >= self.wall


def rfc3339(moment: datetime | None) -> str | None:
    """UTC, microseconds, ``Z``: the one form in which times leave the system. None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
