"""How often hard checks of market data stopped a symbol."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from backend.tradingbot.models import DataStop


def hard_verdicts(symbols: Iterable[str], since: datetime) -> int:
    """Stops of ``symbols`` that began since then, or that have not ended."""
    rows = DataStop.objects.filter(symbol__in=list(symbols))
    return rows.filter(since__gte=since).count() + rows.filter(since__lt=since, released_at=None).count()
