"""Every metric that is counted while things happen, named in one place; the rest is read from the database at scrape.

Invariants: label sets are bounded (gates, outcomes, strategies, check names; never an order id or a message); counting
never raises into the order path; names end in their unit. Figures that describe a state (open breakers, exposure,
breaks) are not here: every process would tell its own story, so ``selectors/metrics.py`` asks the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Counter, Histogram

from backend.tradingbot.infra import tracing

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Few, because every bucket is a series for each task and each gate, and a scrape reads all of them from every process.
TASK_TIMES = (0.05, 0.25, 1.0, 2.5, 5.0, 15.0, 60.0)
MICROSECONDS = (5e-6, 2e-5, 1e-4, 5e-4, 5e-3, 5e-2)

ORDERS = Counter("tradingbot_orders", "Orders by what became of the request.", ["outcome", "strategy", "mode"])
DENIALS = Counter(
    "tradingbot_denials",
    "Gates that denied an order; one order may count in several.",
    ["gate", "code", "strategy", "mode"],
)
GATE_SECONDS = Histogram(
    "tradingbot_gate_seconds", "Time one gate took to judge one order.", ["gate"], buckets=MICROSECONDS
)
ORDER_SECONDS = Histogram(
    "tradingbot_order_seconds",
    "Time of each stage of a posted order: market_data, decide, broker, record, whole.",
    ["stage"],
    buckets=SECONDS,
)
BROKER_CALLS = Counter(
    "tradingbot_broker_calls",
    "Calls to the broker: ok, refused, throttled, key_refused, server_error, no_answer, never_sent, too_late.",
    ["operation", "outcome"],
)
BROKER_SECONDS = Histogram(
    "tradingbot_broker_call_seconds", "Time of one call to the broker.", ["operation"], buckets=SECONDS
)
TICKS = Counter("tradingbot_ticks", "Ticks that came in, by whether they were taken.", ["outcome"])
VERDICTS = Counter("tradingbot_data_verdicts", "Verdicts of the market data checks.", ["check", "severity"])
TRANSITIONS = Counter("tradingbot_order_transitions", "Changes of an order's state.", ["event", "after"])
EXECUTIONS = Counter("tradingbot_executions", "Executions booked, by how they came in.", ["source"])
TASKS = Counter("tradingbot_tasks", "Background tasks by outcome.", ["task", "outcome"])
TASK_SECONDS = Histogram("tradingbot_task_seconds", "Time of one background task.", ["task"], buckets=TASK_TIMES)
TASK_LATENESS_SECONDS = Histogram(
    "tradingbot_task_lateness_seconds", "Time between a task's sending and its start.", ["task"], buckets=TASK_TIMES
)
NOTIFICATIONS = Counter(
    "tradingbot_notifications", "Notifications handed over, by channel and outcome.", ["channel", "outcome"]
)
NOTIFICATION_SECONDS = Histogram(
    "tradingbot_notification_seconds",
    "Time between a fact and the moment its notification was handed over, first level only.",
    ["channel"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)


class GateWatch:
    """Times each gate of one evaluation: from the last gate's answer, the first from when this was made."""

    def __init__(self) -> None:
        self._last = perf_counter()

    def __call__(self, gate: str) -> None:
        now = perf_counter()
        GATE_SECONDS.labels(gate).observe(now - self._last)
        self._last = perf_counter()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one stage of an order, also when it raises; a span of the trace too."""
    began = perf_counter()
    try:
        with tracing.span(f"order {name}"):
            yield
    finally:
        ORDER_SECONDS.labels(name).observe(perf_counter() - began)


@contextmanager
def broker_call(operation: str) -> Iterator[None]:
    """Time one call to the broker and count it as ``ok`` or by the ``outcome`` of the error it raised; a span too."""
    began, outcome = perf_counter(), "ok"
    try:
        with tracing.span(f"broker {operation}", kind="CLIENT", peer__service="broker"):
            yield
    except Exception as error:
        outcome = getattr(error, "outcome", type(error).__name__)
        raise
    finally:
        BROKER_SECONDS.labels(operation).observe(perf_counter() - began)
        BROKER_CALLS.labels(operation, outcome).inc()


def update_prometheus_metrics(
    *, staleness_sec: float | None = None, circuit_open: bool = False, ticks: int = 1
) -> None:
    """The call on every tick of a process that wires the plain modules itself.

    ``staleness_sec`` is the age of the newest tick in seconds (None when there is none), ``circuit_open`` whether the
    breaker blocks, ``ticks`` how many came. Raises ValueError for a negative count; never because of a metric.
    """
    if ticks < 0:
        raise ValueError(f"ticks must not be negative, not {ticks!r}")
    from backend.tradingbot.infra import library_metrics as counted  # made at the first tick: see there

    counted.TICKS.inc(ticks)
    if staleness_sec is not None:
        counted.STALENESS.observe(staleness_sec)
    if circuit_open:
        counted.CIRCUIT_OPEN.inc()
