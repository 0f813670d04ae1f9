"""A part that keeps dying takes the whole stack down: one sentence, a non-zero exit, and nothing left behind.

It is a stack of `make up PROMETHEUS=1`, so that Prometheus is also seen to be started, to scrape it and to go with it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import requests

from ops import monitoring, servers
from tests.chaos.house import House, process_state


@pytest.mark.stack
@pytest.mark.timeout(240)
def test_a_part_that_dies_six_times_in_a_minute_takes_the_stack_down(tmp_path: Path) -> None:
    port = servers.free_port()
    house = House(tmp_path, settings={"PROMETHEUS": "1", "PROMETHEUS_PORT": str(port)})
    try:
        house.start()
        if monitoring.program() is None:
            assert "PROMETHEUS=1: there is no prometheus here (ops/apt.txt); going on without" in house.log.read_text()
        else:
            house.wait_until(lambda: scraped(port) == [(house.url, "up")], 60.0, "prometheus did not scrape the stack")
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


def scraped(port: int) -> list[tuple[str, str]]:
    """What a Prometheus scrapes and how that goes; nothing while it is not ready."""
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/api/v1/targets", timeout=5)
    except requests.ConnectionError:
        return []
    targets = answer.json()["data"]["activeTargets"] if answer.status_code == 200 else []
    return [(target["scrapeUrl"].removesuffix("/metrics"), target["health"]) for target in targets]
