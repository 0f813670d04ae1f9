"""The day's P&L as a waterfall: from the opening equity over every line to the closing, as inline SVG.

Pure text; no script, no style from outside, readable without colour: every bar bears its name and figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

WIDTH, ROW, LEFT, RIGHT = 720, 26, 150, 130
ZERO = Decimal(0)


@dataclass(frozen=True)
class Bar:
    """One line: it begins at ``start`` and moves by ``change`` dollars; a total stands from zero."""

    name: str
    start: Decimal
    change: Decimal
    total: bool = False

    @property
    def end(self) -> Decimal:
        return self.start + self.change


def bars_of(proof: Mapping[str, Any] | None) -> list[Bar]:
    """The bars of a proof of equity as a run keeps it; none without one."""
    if not proof:
        return []
    level = Decimal(proof["opening"])
    bars = [Bar("opening equity", ZERO, level, total=True)]
    for name, value in [*proof["lines"].items(), ("unexplained", proof["unexplained"])]:
        change = Decimal(value)
        bars.append(Bar(name.replace("_", " "), level, change))
        level += change
    return [*bars, Bar("closing equity", ZERO, level, total=True)]


def waterfall_svg(bars: Sequence[Bar]) -> str:
    """The chart. The scale covers what changes, not the whole equity, so that small lines are seen."""
    if not bars:
        return ""
    marks = [value for bar in bars for value in ((bar.end,) if bar.total else (bar.start, bar.end))]
    low, high = min(marks), max(marks)
    span = (high - low) or Decimal(1)
    low, span = low - span / 10, span * Decimal("1.2")
    room = WIDTH - LEFT - RIGHT

    def x(value: Decimal) -> float:
        return round(LEFT + float((value - low) / span) * room, 1)

    height = ROW * len(bars) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="P&amp;L waterfall" font-family="sans-serif" font-size="12">'
    ]
    for number, bar in enumerate(bars):
        top = number * ROW + 4
        start, end = (x(low), x(bar.end)) if bar.total else (x(bar.start), x(bar.end))
        fill = "#64748b" if bar.total else ("#15803d" if bar.change >= 0 else "#b91c1c")
        width = max(abs(end - start), 1.5)
        shown = f"{bar.end if bar.total else bar.change:+,.2f}" if not bar.total else f"{bar.end:,.2f}"
        parts.append(
            f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end" fill="currentColor">{escape(bar.name)}</text>'
        )
        parts.append(f'<rect x="{min(start, end)}" y="{top + 3}" width="{width}" height="{ROW - 8}" fill="{fill}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{top + 15}" fill="currentColor">{escape(shown)}</text>')
    parts.append("</svg>")
    return "".join(parts)
