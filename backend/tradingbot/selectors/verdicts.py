"""How often hard checks of market data stopped a symbol."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime


def hard_verdicts(symbols: Iterable[str], since: datetime) -> int | None:
    """Stops of ``symbols`` since then; None when it cannot be told."""
    return None
