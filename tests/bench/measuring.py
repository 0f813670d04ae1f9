"""What a benchmark yields, and how a call is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure: what was measured, how much, of what, and how often it was measured."""

    name: str
    value: float
    unit: str
    passes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def timed(name: str, call: Callable[[], Any], *, unit: str = "us", calls: int = 1, passes: int = 7) -> Figure:
    """The median over ``passes`` of the time that one of ``calls`` calls takes, after one warm-up."""
    scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
    call()
    taken = []
    for _ in range(passes):
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        taken.append((time.perf_counter() - begun) / calls)
    return Figure(name, median(taken) * scale, unit, passes)


def peak_mb() -> int:
    """The most memory that this process ever held, in MB. Not getrusage's: that of a child begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024
