"""The short form of ``make chaos``, under a minute: a kill at every point, broker faults beside it, the same judge."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.chaos.faults import WEB_POINTS, WORKER_POINTS, Counts
from tests.chaos.house import House
from tests.chaos.runner import Plan, run

SHORT = Plan(
    seed="short",
    counts=Counts(kills=1, singles=0, stops=0, servers=0),
    only=frozenset(f"kill at {point}" for point in (*WEB_POINTS, *WORKER_POINTS)),
    gap=0.2,
    broker_gap=1.0,
    seconds=150.0,
    quiet_seconds=60.0,
    orders=0,
    kills_needed=13,
    hits_needed=0,
)


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_kill_at_every_point_loses_and_doubles_nothing(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(house, SHORT, Console(width=120))
    shown = capsys.readouterr().out
    assert outcome.verdict.findings == [], shown
    assert outcome.unmet == [], shown
    assert outcome.orders > 0
    assert outcome.line.endswith("duplicated 0, lost 0, unresolved 0, books agree")
