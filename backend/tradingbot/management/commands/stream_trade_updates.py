"""``manage.py stream_trade_updates``: listens to the broker's trade updates until it is told to stop."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services.scraping import let_scrape
from backend.tradingbot.services.stream import listen


class Command(BaseCommand):
    help = "Take in the broker's trade updates as they happen; polling goes on beside it."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        let_scrape()
        listen(stop, clock=SYSTEM_CLOCK)
