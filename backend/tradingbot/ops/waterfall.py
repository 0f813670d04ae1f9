"""The day's P&L as a waterfall: from the opening equity over every line that moved it to the closing, as inline SVG.

Pure text; no script, nothing from outside, readable without colour: every bar bears its name and its figure. The page's
sheet may colour the classes (up, down, total, wire) for a dark page; without one the fills here hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

from backend.tradingbot.ops.recon_proofs import in_order

WIDTH, ROW, LEFT, RIGHT = 720, 28, 150, 130
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

    @property
    def shown(self) -> str:
        return f"{self.end:,.2f}" if self.total else f"{self.change:+,.2f}"


def bars_of(proof: Mapping[str, Any] | None) -> list[Bar]:
    """The bars of a proof of equity as a run keeps it; none without one. A line of zero is left out, the unexplained
    one never."""
    if not proof:
        return []
    level = Decimal(proof["opening"])
    bars = [Bar("opening equity", ZERO, level, total=True)]
    told = {**proof["lines"], "unexplained": proof["unexplained"]}
    for name in [*in_order(proof["lines"]), "unexplained"]:
        change = Decimal(told[name])
        if change or name == "unexplained":
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

    told = ", ".join(f"{bar.name} {bar.shown}" for bar in bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="waterfall" viewBox="0 0 {WIDTH} {ROW * len(bars) + 8}" '
        f'role="img" aria-label="P&amp;L waterfall: {escape(told)}" font-family="sans-serif" font-size="13">'
    ]
    for number, bar in enumerate(bars):
        top = number * ROW + 4
        start, end = (x(low), x(bar.end)) if bar.total else (x(bar.start), x(bar.end))
        name, fill = _look(bar)
        text, width = f'y="{top + 16}" fill="currentColor"', max(abs(end - start), 1.5)
        parts.append(f'<text x="{LEFT - 8}" {text} text-anchor="end">{escape(bar.name)}</text>')
        parts.append(
            f'<rect class="{name}" x="{min(start, end)}" y="{top + 3}" width="{width}" height="{ROW - 9}" '
            f'fill="{fill}" rx="2"/>'
        )
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" {text}>{escape(bar.shown)}</text>')
        if number + 1 < len(bars):
            parts.append(
                f'<line class="wire" x1="{end}" x2="{end}" y1="{top + ROW - 6}" y2="{top + ROW + 3}" stroke="#94a3b8"/>'
            )
    parts.append("</svg>")
    return "".join(parts)


def _look(bar: Bar) -> tuple[str, str]:
    if bar.total:
        return "total", "#64748b"
    return ("up", "#15803d") if bar.change >= 0 else ("down", "#b91c1c")
