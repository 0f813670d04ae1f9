"""A part that keeps dying takes the whole stack down: one sentence, a non-zero exit, and nothing left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.chaos.house import House, process_state


@pytest.mark.stack
@pytest.mark.timeout(240)
def test_a_part_that_dies_six_times_in_a_minute_takes_the_stack_down(tmp_path: Path) -> None:
    house = House(tmp_path)
    try:
        house.start()
        everyone = set(house.everyone())
        assert house.stack is not None
        killed: set[int] = set()
        while len(killed) < 6:
            house.wait_until(
                lambda: any(pid not in killed for pid in house.processes("beat")), 30.0, "beat stayed away"
            )
            pid = next(pid for pid in house.processes("beat") if pid not in killed)
            everyone |= set(house.everyone())
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        assert house.stack.wait(60) == 1
        said = house.log.read_text()
        assert "beat was killed by SIGKILL, for the 6th time in a minute; everything stops" in said
        assert said.count("beat was killed by SIGKILL; starting it again") == 5
        assert [pid for pid in everyone if process_state(pid) not in ("", "Z")] == []
    finally:
        house.close()
