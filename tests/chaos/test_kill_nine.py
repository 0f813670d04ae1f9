"""kill -9 of each part of the stack while orders flow: the stack says so, recovers, and the books agree afterwards."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.chaos.faults import Counts
from tests.chaos.house import House
from tests.chaos.runner import Plan, run

SAYS = {
    "web": "web was killed by SIGKILL; starting it again",
    "web-worker": "was sent SIGKILL",
    "worker": "worker was killed by SIGKILL; starting it again",
    "beat": "beat was killed by SIGKILL; starting it again",
}


@pytest.mark.stack
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", SAYS)
def test_kill_nine_while_orders_flow(house: House, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    already_said, before = len(house.log.read_text()), set(house.processes(part))
    plan = Plan(
        seed=f"nine-{part}",
        clients=4,
        pause=0.1,
        counts=Counts(kills=1, singles=0, stops=0, servers=0),
        only=frozenset({f"kill {part}"}),
        gap=1.0,
        broker_gap=None,
        seconds=30.0,
        quiet_seconds=60.0,
        orders=20,
        kills_needed=1,
        hits_needed=0,
    )
    outcome = run(house, plan, Console(width=120))
    shown = capsys.readouterr().out
    assert (outcome.verdict.findings, outcome.unmet) == ([], []), shown
    assert outcome.saboteur.record.times == {f"kill {part}": 1}
    assert house.log.read_text()[already_said:].count(SAYS[part]) == 1
    house.wait_until(lambda: len(house.processes(part)) == len(before), 30.0, f"{part} did not come back")
    assert house.processes(part) != sorted(before)
