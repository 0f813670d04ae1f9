"""The corporate actions that stand, as the checks of bars ask for them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from backend.tradingbot.models import CorporateAction


def on_file(symbols: Collection[str]) -> dict[str, dict[date, float]]:
    """By symbol and ex date the ratio of each action that stands."""
    rows = CorporateAction.objects.filter(symbol__in=list(symbols), withdrawn_at__isnull=True)
    found: dict[str, dict[date, float]] = {}
    for symbol, day, ratio in rows.values_list("symbol", "ex_date", "ratio"):
        found.setdefault(symbol, {})[day] = float(ratio)
    return found
