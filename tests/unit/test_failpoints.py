"""Fail points: off they do nothing, armed they strike once, and production refuses them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backend.tradingbot.infra import failpoints
from backend.tradingbot.infra.failpoints import POINTS, Action, FailpointError, Failpoints, configured

ROOT = Path(__file__).resolve().parents[2]
POINT = "submit.before_send"
CHILD = """
import sys, time
from backend.tradingbot.infra import failpoints
print("up", flush=True)
for number in range(3):
    sys.stdin.readline()
    failpoints.hit("submit.before_send", f"order-{number}")
    print("passed", int(time.time() // 1000), flush=True)
"""


@pytest.fixture
def points(tmp_path: Path) -> Failpoints:
    return Failpoints(tmp_path / "points")


def child(directory: Path, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "FAILPOINTS": str(directory), "ENVIRONMENT": "test", **more}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], env=environment, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe
    )


def step(process: subprocess.Popen[str]) -> str:
    """Let the child hit its point once; what it says, empty when it died of it."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def struck(points: Failpoints) -> list[tuple[str, str, str]]:
    return [(hit.point, str(hit.action), hit.subject) for hit in points.hits() if hit.action is not Action.PASS]


def test_off_nothing_happens_and_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_active", None)
    failpoints.hit("no.such.point")
    assert failpoints.active() is False
    assert configured({}) is None
    assert configured({"FAILPOINTS": "", "ENVIRONMENT": "production"}) is None


def test_off_a_hit_costs_less_than_a_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_active", None)

    def cost() -> float:
        began = time.process_time()
        for _ in range(10_000):
            failpoints.hit(POINT, "a")
        return (time.process_time() - began) / 10_000

    assert min(cost() for _ in range(5)) < 1e-6


def test_production_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="FAILPOINTS must not be set with ENVIRONMENT=production; unset it"):
        configured({"FAILPOINTS": str(tmp_path), "ENVIRONMENT": "production"})
    with child(tmp_path, ENVIRONMENT="production") as process:
        said, complaint = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")
    assert complaint.strip().endswith("FAILPOINTS must not be set with ENVIRONMENT=production; unset it")


def test_an_armed_kill_strikes_the_next_hit_and_the_log_says_so_first(points: Failpoints, tmp_path: Path) -> None:
    with child(tmp_path / "points") as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        assert step(process).startswith("passed")
        token = points.arm(POINT, Action.KILL)
        assert points.struck(token) is None
        assert step(process) == ""
        assert process.wait(60) == -signal.SIGKILL
    found = points.struck(token)
    assert found is not None and (found.pid, found.subject) == (process.pid, "order-1")
    assert [(hit.pid, str(hit.action), hit.subject) for hit in points.hits()] == [
        (process.pid, "pass", "order-0"),
        (process.pid, "kill", "order-1"),
    ]


def test_a_stopped_process_goes_on_where_it_was_when_it_is_continued(points: Failpoints, tmp_path: Path) -> None:
    with child(tmp_path / "points") as process:
        assert process.stdin is not None and process.stdout is not None and process.stdout.readline() == "up\n"
        points.arm(POINT, Action.STOP)
        process.stdin.write("\n")
        process.stdin.flush()
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        assert struck(points) == [(POINT, "stop", "order-0")]
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline().startswith("passed")
        process.kill()


def test_a_step_of_the_clock_moves_the_wall_clock_of_that_process_only(points: Failpoints, tmp_path: Path) -> None:
    with child(tmp_path / "points") as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        points.arm(POINT, Action.STEP_CLOCK, 1_000_000.0)
        points.arm(POINT, Action.STEP_CLOCK, -1_000_000.0)
        ahead, back = int(step(process).split()[1]), int(step(process).split()[1])
        process.kill()
    assert ahead - back in (1_000, 999)
    assert abs(back - time.time() // 1000) <= 1


def test_an_armed_failure_strikes_once_whoever_comes_first(points: Failpoints) -> None:
    points.arm(POINT, Action.RAISE)
    raised = []

    def run() -> None:
        try:
            points.hit(POINT, "a", FailpointError)
        except FailpointError as error:
            raised.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == ["fail point submit.before_send"]
    assert len(list(points.hits())) == 16
    assert struck(points) == [(POINT, "raise", "a")]


def test_failures_of_one_point_strike_in_the_order_they_were_armed(points: Failpoints) -> None:
    points.arm(POINT, Action.RAISE)
    points.arm(POINT, Action.STEP_CLOCK, 0.0)
    with pytest.raises(ConnectionError, match=POINT):
        points.hit(POINT, "a", ConnectionError)
    points.hit(POINT, "b", ConnectionError)
    assert struck(points) == [(POINT, "raise", "a"), (POINT, "step_clock", "b")]


def test_a_pause_ends_when_it_is_released(points: Failpoints) -> None:
    token = points.arm(POINT, Action.PAUSE, 30.0)
    thread = threading.Thread(target=points.hit, args=(POINT, "a", FailpointError))
    thread.start()
    while points.struck(token) is None:
        time.sleep(0.001)
    assert thread.is_alive()
    points.release(token)
    thread.join(10)
    assert not thread.is_alive()


def test_a_failure_can_be_taken_back_until_it_strikes(points: Failpoints) -> None:
    kept, taken = points.arm(POINT, Action.RAISE), points.arm(POINT, Action.RAISE)
    assert points.disarm(taken) is True
    assert points.disarm(taken) is False
    with pytest.raises(FailpointError):
        points.hit(POINT, "a", FailpointError)
    assert points.disarm(kept) is False
    points.arm("fills.before_ack", Action.KILL)
    points.arm("fills.before_commit", Action.KILL)
    assert points.disarm_all() == 2
    points.hit("fills.before_ack", "a", FailpointError)


def test_an_unknown_point_is_refused(points: Failpoints) -> None:
    with pytest.raises(ValueError, match="there is no fail point 'submit.nowhere'"):
        points.arm("submit.nowhere", Action.KILL)
    with pytest.raises(ValueError, match="there is no fail point 'submit.nowhere'"):
        points.hit("submit.nowhere", "a", FailpointError)


def test_every_point_stands_somewhere_in_the_order_path_and_none_is_misspelt() -> None:
    found: set[str] = set()
    named = "|".join({point.partition(".")[0] for point in POINTS})
    for file in (ROOT / "backend" / "tradingbot").rglob("*.py"):
        if file.name != "failpoints.py":
            text = file.read_text()
            if "failpoints" in text:
                found |= set(re.findall(rf'"((?:{named})\.[a-z_]+)"', text))
    assert found == set(POINTS)
