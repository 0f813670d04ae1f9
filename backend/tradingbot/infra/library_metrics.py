"""What a process counts that wires the plain modules itself, tick by tick.

Imported at its first tick and not before: the app's own processes never see one, and every series costs each scrape.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from backend.tradingbot.infra.metrics import SECONDS

TICKS = Counter("tradingbot_library_ticks", "Ticks seen by a process that uses the plain modules.")
STALENESS = Histogram(
    "tradingbot_library_staleness_seconds", "Age of the newest tick when a plain process looked.", buckets=SECONDS
)
CIRCUIT_OPEN = Counter("tradingbot_library_circuit_open", "Ticks at which a plain process found its breaker open.")
