"""What the page of one symbol shows: its tick, its stops, the verdicts about it, and its bars with the flagged ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from backend.tradingbot.data import calendar
from backend.tradingbot.data.check_context import Context, Sessions
from backend.tradingbot.data.checks import check_bars
from backend.tradingbot.data.file_check import Outline
from backend.tradingbot.data.file_report import draw
from backend.tradingbot.data.frames import INTERVALS, micros
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import BarConflict, CheckRun, DataStop, Quarantine
from backend.tradingbot.selectors.bars import intervals_stored, newest_bars
from backend.tradingbot.selectors.market_data import data_quality

BARS_SHOWN = 1_000


def symbol_page(hot: HotState, symbol: str, now: datetime, interval: str | None) -> dict[str, Any]:
    """A bounded number of queries, and one round trip to the store."""
    quality = data_quality(hot, now, [symbol])
    stored = intervals_stored(symbol)
    chosen = interval if interval in stored else (stored[0] if stored else None)
    runs = CheckRun.objects.exclude(verdicts=[])[:20]
    told = [verdict for run in runs for verdict in run.verdicts if verdict["symbol"] in (symbol, "*")][:20]
    return {
        "quality": quality.symbols[0],
        "problem": quality.problem,
        "stops": DataStop.objects.filter(symbol=symbol)[:20],
        "verdicts": told,
        "conflicts": BarConflict.objects.filter(symbol=symbol)[:20],
        "quarantine": Quarantine.objects.filter(symbols__contains=[symbol])[:20],
        "intervals": stored,
        "interval": chosen,
        "drawing": None if chosen is None else drawing(symbol, chosen, now),
    }


def drawing(symbol: str, interval: str, now: datetime) -> str:
    """The newest bars as SVG, checked as they are drawn."""
    frame = newest_bars(symbol, interval, BARS_SHOWN)
    times = frame["time"].dt.epoch("us").to_numpy()
    outline = Outline()
    outline.add(times, frame["close"].to_numpy())
    name = calendar.ROUND_THE_CLOCK if "/" in symbol else calendar.XNYS
    sessions = Sessions.between(int(times.min()), int(times.max()), name)
    context = Context(sessions=sessions, as_of=micros(now), interval=INTERVALS[interval])
    closes = dict(zip(times.tolist(), frame["close"].to_list(), strict=True))
    for verdict in check_bars(frame, context):
        for at in verdict.evidence.get("at", ()):
            time = int(np.datetime64(at.removesuffix("Z"), "us").astype(np.int64))
            outline.flags.append((time, closes.get(time, float("nan")), verdict.severity.value, verdict.check))
    return draw(outline)
