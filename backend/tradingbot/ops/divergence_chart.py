"""Shadow against live as inline SVG: a figure's two values with their 95 % intervals, in all and day by day.

Pure text; no script and no style of its own, colours by class, every value written beside its mark, and the two sides
told apart by shape as well: shadow is a ring, live is a filled square.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from backend.tradingbot.ops.divergence import Estimate

WIDTH, ROW, LEFT, RIGHT = 640, 42, 90, 170
SIDES = ("shadow", "live")


def figure(value: float | None, unit: str) -> str:
    """``0.9512`` as ``95.1 %`` for shares, else at most three decimals with its unit; a dash for what is not known."""
    if value is None:
        return "-"
    if unit == "%":
        return f"{value * 100:.1f} %"
    return f"{value:.3f}".rstrip("0").rstrip(".") + (f" {unit}" if unit else "")


def told(estimate: Estimate, unit: str) -> str:
    """Value, interval and how many orders it is of."""
    if estimate.value is None:
        return "no orders yet"
    if estimate.low is None or estimate.high is None:
        return f"{figure(estimate.value, unit)} (one order)"
    return f"{figure(estimate.value, unit)} ({figure(estimate.low, unit)} to {figure(estimate.high, unit)})"


def chart(title: str, unit: str, rows: Sequence[tuple[str, Estimate, Estimate]]) -> str:
    """One figure: a row of two marks for each of ``rows`` (name, shadow, live). Empty when nothing is known."""
    ends = [end for _, *sides in rows for side in sides for end in _ends(side)]
    if not ends:
        return ""
    least, most = min(ends), max(ends)
    span = (most - least) or 1.0
    low, span = least - span * 0.05, span * 1.1

    def x(value: float) -> float:
        return round(LEFT + (value - low) / span * (WIDTH - LEFT - RIGHT), 1)

    height = ROW * len(rows) + 24
    parts = [f'<svg class="versus" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    if low < 0 < low + span:
        parts.append(f'<line class="versus-zero" x1="{x(0)}" x2="{x(0)}" y1="2" y2="{height - 20}"/>')
    for number, (name, shadow, live) in enumerate(rows):
        top = number * ROW + 4
        parts.append(
            f'<text class="versus-name" x="{LEFT - 10}" y="{top + 21}" text-anchor="end">{escape(name)}</text>'
        )
        for side, estimate, y in zip(SIDES, (shadow, live), (top + 9, top + 25), strict=True):
            parts.append(_mark(side, estimate, x, y))
            words = figure(estimate.value, unit)
            parts.append(
                f'<text class="versus-{side}" x="{WIDTH - RIGHT + 10}" y="{y + 4}">{side} {escape(words)}</text>'
            )
    for value, anchor in ((least, "start"), (most, "end")):
        parts.append(
            f'<text class="versus-axis" x="{x(value)}" y="{height - 5}" text-anchor="{anchor}">'
            f"{escape(figure(value, unit))}</text>"
        )
    return "".join([*parts, "</svg>"])


def _ends(estimate: Estimate) -> list[float]:
    return [end for end in (estimate.low, estimate.value, estimate.high) if end is not None]


def _mark(side: str, estimate: Estimate, x: object, y: int) -> str:
    if estimate.value is None or not callable(x):
        return ""
    place, line = x(estimate.value), ""
    if estimate.low is not None and estimate.high is not None:
        ends = f'x1="{x(estimate.low)}" x2="{x(estimate.high)}" y1="{y}" y2="{y}"'
        line = f'<line class="versus-line versus-{side}" {ends}/>'
    if side == "shadow":
        return f'{line}<circle class="versus-ring" cx="{place}" cy="{y}" r="4"/>'
    return f'{line}<rect class="versus-square" x="{place - 4}" y="{y - 4}" width="8" height="8"/>'
