"""Closes over time as SVG, with the flagged bars: drawn on the server, without a script, a style or another host.

Invariants: a flag says its severity by shape and word, never by colour alone; a close that no chart could hold (a print
at a thousand times the price) is drawn at the edge with its figure, and does not flatten the others; classes name what
the own sheet of a page colours, in light and dark.
"""

from __future__ import annotations

from bisect import bisect_right
from html import escape
from math import floor, log10

from backend.tradingbot.core.values import Severity
from backend.tradingbot.data.file_check import Outline
from backend.tradingbot.data.frames import DAY, datetime_of, moment

WIDTH, HEIGHT = 1_000, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 22, 26
Bucket = tuple[int, float, float, float]
Flag = tuple[int, float, str, str]


def draw(outline: Outline) -> str:
    """The drawing of a symbol's bars. Bars stand side by side: nights and weekends take no room."""
    buckets = outline.buckets
    if not buckets:
        return '<p class="soft">No close can be drawn.</p>'
    scale = Scale(*_bounds(buckets, outline.flags))
    place = [scale.x(number, len(buckets)) for number in range(len(buckets))]
    times = [bucket[0] for bucket in buckets]
    line = " ".join(f"{x:.1f},{scale.y(b[3]):.1f}" for x, b in zip(place, buckets, strict=True))
    upper = [f"{x:.1f},{scale.y(b[2]):.1f}" for x, b in zip(place, buckets, strict=True)]
    lower = [f"{x:.1f},{scale.y(b[1]):.1f}" for x, b in zip(place, buckets, strict=True)]
    flags = "".join(_flag(flag, place[_at_or_before(times, flag[0])], scale) for flag in outline.flags)
    stops = sum(1 for flag in outline.flags if flag[2] == Severity.HARD.value)
    span = f"closes from {_short(times[0])} to {_short(times[-1])}"
    label = f"{span}, {stops} bars that stop, {len(outline.flags) - stops} that warn"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{_grid(scale)}{_days(times, place)}'
        f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>'
        f'<polyline class="price" points="{line}"/>{flags}</svg>'
    )


def _bounds(buckets: list[Bucket], flags: list[Flag]) -> tuple[float, float]:
    """The range of the closes that no hard check flagged, with a little room; of all where that leaves none."""
    times = [bucket[0] for bucket in buckets]
    bad = {_at_or_before(times, flag[0]) for flag in flags if flag[2] == Severity.HARD.value}
    good = [bucket for number, bucket in enumerate(buckets) if number not in bad] or buckets
    low, high = min(bucket[1] for bucket in good), max(bucket[2] for bucket in good)
    room = (high - low) * 0.06 or abs(high) * 0.01 or 1.0
    return low - room, high + room


class Scale:
    """From places in the row and prices to the drawing's coordinates; what lies outside is held at the edge."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, number: int, count: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (number / (count - 1) if count > 1 else 0.5)

    def y(self, price: float) -> float:
        held = min(max(price, self.low), self.high)
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - held) / (self.high - self.low)

    def holds(self, price: float) -> bool:
        return self.low <= price <= self.high

    def steps(self) -> list[float]:
        """Round prices, four to nine of them."""
        rough = (self.high - self.low) / 5
        unit = 10.0 ** floor(log10(rough))
        step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough * 0.9)
        first = floor(self.low / step) + 1
        return [number * step for number in range(first, first + 12) if number * step <= self.high]


def _grid(scale: Scale) -> str:
    """A line and its price at each round step."""
    steps = scale.steps()
    digits = max(0, -floor(log10(steps[1] - steps[0]))) if len(steps) > 1 else 2
    places = [(price, scale.y(price)) for price in steps]
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{price:,.{min(digits, 6)}f}</text>'
        for price, y in places
    )


def _days(times: list[int], place: list[float]) -> str:
    """Where a day begins, with its date while there is room; the hours of a single day instead."""
    marks = [n for n in range(1, len(times)) if times[n] // DAY != times[n - 1] // DAY]
    pattern = "%m-%d"
    if not marks:
        marks, pattern = [n * (len(times) - 1) // 6 for n in range(1, 6)] if len(times) > 12 else [], "%H:%M"
    drawn: list[str] = []
    first = f'<text class="axis" x="{LEFT}" y="{HEIGHT - 6}">{_short(times[0])}</text>'
    last = LEFT + 110.0
    for number in marks:
        x = place[number]
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        if x - last > 44 and x < WIDTH - RIGHT - 150:
            text = datetime_of(times[number]).strftime(pattern)
            drawn.append(f'<text class="axis" x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>')
            last = x
    end = f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{_short(times[-1])}</text>'
    return first + "".join(drawn[:400]) + end


def _short(time: int) -> str:
    return datetime_of(time).strftime("%Y-%m-%d %H:%M")


def _at_or_before(times: list[int], time: int) -> int:
    return max(bisect_right(times, time) - 1, 0)


def _flag(flag: Flag, x: float, scale: Scale) -> str:
    """A filled triangle stops, a ring warns; a price that the chart does not hold has its figure beside it."""
    time, price, severity, check = flag
    known = price == price
    y = scale.y(price) if known else float(TOP)
    told = f" at {price:g}" if known else ""
    title = f"<title>{escape(check)} at {moment(time)}{told}</title>"
    note = ""
    if known and not scale.holds(price):
        side, nudge = ("end", -9) if x > WIDTH / 2 else ("start", 9)
        note = f'<text class="axis" x="{x + nudge:.1f}" y="{y + 4:.1f}" text-anchor="{side}">{price:,.6g}</text>'
    if severity == Severity.HARD.value:
        up = known and price < scale.low
        points = [(x - 6, y + 10 if up else y - 10), (x + 6, y + 10 if up else y - 10), (x, y)]
        drawn = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        return f'<polygon class="flagH" points="{drawn}">{title}</polygon>{note}'
    return f'<circle class="flagW" cx="{x:.1f}" cy="{y:.1f}" r="5">{title}</circle>{note}'
