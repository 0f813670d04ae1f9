"""Makes the demo's account fit for chaos: 200 symbols, and limits that are rows, generous but not absent."""

from __future__ import annotations

import os

import django

SYMBOLS = [f"S{number:03d}" for number in range(200)]


def main() -> None:
    """Change the rows; runs in a process of its own, started with the stack's environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
    django.setup()
    from backend.tradingbot.models import Account, ApiKey, Breaker

    Account.objects.filter(code="demo").update(symbols=SYMBOLS, max_tick_age_seconds=30, max_mark_age_seconds=300)
    ApiKey.objects.filter(name="demo-trader").update(feed_symbols=SYMBOLS)
    Breaker.objects.update(max_error_rate_per_min=12, max_data_staleness_sec=60, cooldown_sec=2, max_daily_drawdown=0.5)


if __name__ == "__main__":
    main()
