"""``manage.py stream_market_data``: Alpaca's data stream for the symbols that feeds declare, until it is stopped."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services.data_stream import run_stream
from backend.tradingbot.services.scraping import let_scrape


class Command(BaseCommand):
    help = "Stream market data from ALPACA_DATA_URL."

    def handle(self, *args: Any, **options: Any) -> None:
        url = settings.TRADINGBOT.alpaca_data_url
        if not url:
            raise CommandError("ALPACA_DATA_URL is empty; for example wss://stream.data.alpaca.markets/v2/iex")
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        let_scrape()
        run_stream(url, stop, clock=SYSTEM_CLOCK)
