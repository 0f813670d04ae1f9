"""The faults: what each does to the house, which part of it dies of it, and which orders were in the way.

A step strikes at most once and says what it did. Two lanes run beside each other: processes and servers from the main
thread, the broker's faults from a thread of their own.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import requests

from backend.tradingbot.infra.failpoints import Action
from tests.chaos.clients import Tally
from tests.chaos.house import House

# The supervisor gives up at the sixth death of a part within a minute; a plan that stays below it tests the order path.
DEATHS_A_MINUTE = 4
CLAIM_SECONDS = 15.0
LATE_SECONDS = 25.0  # longer than the quiet window: the order is given up first, and arrives after all

WEB_POINTS = (
    "submit.id_claimed",
    "submit.before_intent_commit",
    "submit.before_send",
    "submit.send_begins",
    "broker.mid_send",
    "broker.answer_lost",
    "submit.before_record",
    "record.before_commit",
    "cancel.before_send",
    "cancel.mid_send",
)
# Points that a part of the stack passes, and which: polls book fills in the worker, the broker's events in the stream.
WORKER_POINTS = {
    "recovery.before_record": ("worker",),
    "fills.before_commit": ("worker", "stream"),
    "fills.before_ack": ("worker", "stream"),
}
RAISING_POINTS = ("broker.mid_send", "broker.answer_lost", "fills.before_commit")
SUBMIT_MODES = (
    "slow", "hang_before", "hang_after_accept", "drop_before", "drop_after_accept", "error_500",
    "error_500_after_accept", "garbage", "garbage_after_accept", "fill_before_ack", "late_arrival", "reject",
    "reject_later", "rate_limit",
)  # fmt: skip
OTHER_MODES = (
    ("lag_lookup", "lookup"), ("hang_before", "lookup"), ("error_500", "lookup"), ("garbage", "lookup"),
    ("drop_after_accept", "cancel"), ("error_500", "cancel"), ("drop_before", "read"), ("duplicate_events", "any"),
    ("reorder_events", "any"), ("gap_events", "any"),
)  # fmt: skip
# The crash points in plain words, and the strikes that count for each: a name, or the end of one.
CRASH_POINTS = {
    "before the intent commit": (" at submit.before_intent_commit",),
    "after it, before the send": (" at submit.before_send", " at submit.send_begins"),
    "mid-send": (" at broker.mid_send",),
    "broker accepted, answer lost": (" at broker.answer_lost",),
    "answer read, before the second commit": (" at submit.before_record",),
    "second commit fails": ("raise at record.before_commit",),
    "killed in the second commit": ("kill at record.before_commit",),
    "during recovery": (" at recovery.before_record",),
    "during cancel": (" at cancel.before_send", " at cancel.mid_send"),
    "during fill booking": (" at fills.before_commit",),
    "fill before ack": (" at fills.before_ack",),
    "two workers on one id": (" at submit.id_claimed",),
    "valkey flushed": ("valkey flushed",),
    "clock jump": ("clock jump",),
    "redeploy mid-flight": ("redeploy",),
}
# What a point needs in order to come up at all: an order in doubt; an answer that hangs while its order is filled, and
# whose "new" event never came (it would tie the order to the broker's id before the fill is here).
PROVOCATION: dict[str, tuple[dict[str, object], ...]] = {
    "recovery.before_record": ({"mode": "drop_after_accept", "times": 2},),
    "fills.before_ack": (
        {"mode": "gap_events", "target": "any", "times": 40},
        {"mode": "hang_after_accept", "times": 4, "seconds": 4},
    ),
}
BROKER_SECONDS = {"slow": 1.0, "hang_before": 4.0, "hang_after_accept": 4.0, "late_arrival": 4.0, "lag_lookup": 3.0}


@dataclass(frozen=True)
class Step:
    """One thing to be done once. ``dies`` are the supervised parts of which one dies of it; none when none does."""

    name: str
    strike: Callable[[], bool]
    dies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """How often: ``kills`` at each point and of each process, ``singles`` what has no point of its own, and so on."""

    kills: int = 12
    singles: int = 10
    stops: int = 3
    servers: int = 5


@dataclass
class Record:
    """What was done, by name: how often, and the orders that were in the way."""

    times: Counter[str] = field(default_factory=Counter)
    orders: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    kills: int = 0
    faults: int = 0

    def add(self, name: str, orders: set[str], *, kill: bool) -> None:
        """One strike."""
        self.times[name] += 1
        self.orders[name] |= orders
        self.kills += kill
        self.faults += not kill

    def crash_points(self) -> dict[str, int]:
        """How often each crash point was hit."""
        return {
            point: sum(times for name, times in self.times.items() if name.endswith(ends))
            for point, ends in CRASH_POINTS.items()
        }


class Saboteur:
    """Knows every fault and does them to one house; only from the main thread, apart from ``broker_fault``."""

    def __init__(self, house: House, tally: Tally, seed: str) -> None:
        self.house, self.tally = house, tally
        self.record = Record()
        self.random = random.Random(f"{seed}/saboteur")
        self.broker_random = random.Random(f"{seed}/broker")
        self._later: list[tuple[float, int, signal.Signals, str]] = []
        self.quiet_after = 0.0
        self._struck = 0  # the process that the last fail point caught
        self._deaths: defaultdict[str, deque[float]] = defaultdict(deque)

    # -- the plan

    def plan(self, counts: Counts, only: frozenset[str] | None = None) -> list[Step]:
        """Every process fault as often as ``counts`` says, or those that ``only`` names; shuffled."""
        groups = [
            (counts.kills, self._kills()),
            (counts.singles, self._singles()),
            (counts.stops, self._stops()),
            (counts.servers, self._servers()),
        ]
        steps = [step for times, group in groups for step in group for _ in range(times)]
        steps = [step for step in steps if only is None or step.name in only]
        self.random.shuffle(steps)
        return steps

    def _kills(self) -> Iterator[Step]:
        for point in WEB_POINTS:
            yield self._at(point, Action.KILL)
        for point, parts in WORKER_POINTS.items():
            yield self._at(point, Action.KILL, *parts)
        yield self._kill("web-worker")
        for part in ("web", "worker", "notifier", "beat", "stream"):
            if self.house.processes(part):
                yield self._kill(part, part)

    def _singles(self) -> Iterator[Step]:
        yield self._at("record.before_commit", Action.RAISE)
        yield Step("clock jump", self._clock_jump)
        yield Step("redeploy", self._redeploy, ("worker",))
        yield Step("valkey flushed", self._flush_valkey)

    def _stops(self) -> Iterator[Step]:
        for point in (*WEB_POINTS, *WORKER_POINTS):
            yield self._at(point, Action.STOP)
        for point in RAISING_POINTS:
            yield self._at(point, Action.RAISE)
        for part in ("web-worker", "worker", "beat"):
            yield Step(f"stop {part}", lambda part=part: self._stop(part))  # type: ignore[misc]

    def _servers(self) -> Iterator[Step]:
        yield Step("postgres restarted", lambda: self._restart_postgres(crash=False))
        yield Step("postgres crashed", lambda: self._restart_postgres(crash=True))
        yield Step("valkey stopped", self._stop_valkey)

    def _at(self, point: str, action: Action, *dies: str) -> Step:
        return Step(f"{action} at {point}", lambda: self._strike_point(point, action), dies)

    def _kill(self, part: str, *dies: str) -> Step:
        return Step(f"kill {part}", lambda: self._kill_part(part), dies)

    # -- pacing

    def next_step(self, steps: deque[Step]) -> Step | None:
        """The first step that the supervisor's patience allows now, taken out of ``steps``; None when there is none."""
        now = time.monotonic()
        for _ in range(len(steps)):
            if all(self._deaths_lately(part, now) < DEATHS_A_MINUTE for part in steps[0].dies):
                return steps.popleft()
            steps.rotate(-1)
        return None

    def _deaths_lately(self, part: str, now: float) -> int:
        deaths = self._deaths[part]
        while deaths and now - deaths[0] > 62.0:
            deaths.popleft()
        return len(deaths)

    def do(self, step: Step) -> bool:
        """Strike. False when it came to nothing, and can be tried again."""
        owners = {pid: part for part in step.dies for pid in self.house.processes(part)}
        self._struck = 0
        struck = step.strike()
        if struck:
            died = [owners[self._struck]] if self._struck in owners else step.dies
            for part in died:
                self._deaths[part].append(time.monotonic())
        return struck

    def tend(self) -> None:
        """Send the signals that have become due: wake the stopped, end the processes whose clock was moved."""
        now = time.monotonic()
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            _, pid, number, name = entry
            for part in ("worker", "stream") if number is signal.SIGKILL else ():
                if pid in self.house.processes(part):
                    self._deaths[part].append(now)
            if pid in self.house.everyone() and self.house.signal_pid(pid, number) and number is signal.SIGKILL:
                self.record.add(name, self.tally.now_in_flight(), kill=True)

    def settle(self) -> None:
        """Take back what has not struck, heal the broker and wake everything."""
        self.house.points.disarm_all()
        self.heal()
        for _, pid, number, _ in self._later:
            if pid in self.house.everyone():
                self.house.signal_pid(pid, number)
        self._later.clear()
        self.house.continue_all()

    # -- processes

    def _strike_point(self, point: str, action: Action, seconds: float = 0.0) -> bool:
        if point == "submit.id_claimed":
            self.tally.twins.set()  # every order is posted twice at once, to two workers
        token = self.house.points.arm(point, action, seconds)
        for provocation in PROVOCATION.get(point, ()):
            self._arm_broker(provocation)
        self._wait(lambda: self.house.points.struck(token) is not None, CLAIM_SECONDS)
        self.tally.twins.clear()
        found = None if self.house.points.disarm(token) else self.house.points.struck(token)
        if found is None:
            return False
        self._struck = found.pid
        if action is Action.STOP:
            longest = LATE_SECONDS if point == "submit.send_begins" else 6.0
            self._later.append((time.monotonic() + self.random.uniform(1, longest), found.pid, signal.SIGCONT, ""))
        if action is Action.STEP_CLOCK:
            self._later.append((time.monotonic() + 4, found.pid, signal.SIGKILL, "kill after a clock jump"))
        subject = {found.subject} if found.subject else set()
        name = "clock jump" if action is Action.STEP_CLOCK else f"{action} at {point}"
        self.record.add(name, subject, kill=action is Action.KILL)
        return True

    def _kill_part(self, part: str) -> bool:
        orders = self.tally.now_in_flight()
        if not self.house.signal_one(part, signal.SIGKILL, self.random.choice):
            return False
        self.record.add(f"kill {part}", orders, kill=True)
        return True

    def _stop(self, part: str) -> bool:
        pid = self.house.signal_one(part, signal.SIGSTOP, self.random.choice)
        if not pid:
            return False
        self._later.append((time.monotonic() + self.random.uniform(1, 6), pid, signal.SIGCONT, ""))
        self.record.add(f"stop {part}", self.tally.now_in_flight(), kill=False)
        return True

    def _clock_jump(self) -> bool:
        point = self.random.choice(["submit.before_intent_commit", "submit.before_record", "fills.before_commit"])
        return self._strike_point(point, Action.STEP_CLOCK, self.random.choice([-600.0, -45.0, 45.0, 600.0]))

    def _redeploy(self) -> bool:
        """As a deployment does it: gunicorn reloads gracefully, the worker ends its tasks and is started again."""
        orders = self.tally.now_in_flight()
        web, worker = self.house.signal_one("web", signal.SIGHUP), self.house.signal_one("worker", signal.SIGTERM)
        if not web or not worker:
            return False
        self.record.add("redeploy", orders, kill=False)
        return True

    # -- servers

    def _restart_postgres(self, *, crash: bool) -> bool:
        before = self.tally.now_in_flight()
        self.house.stop_postgres(crash=crash)
        self._wait(lambda: False, self.random.uniform(0.0, 1.5))
        self.house.start_postgres()
        name = "postgres crashed" if crash else "postgres restarted"
        self.record.add(name, before | self.tally.now_in_flight(), kill=False)
        return True

    def _flush_valkey(self) -> bool:
        self.house.flush_valkey()
        self.record.add("valkey flushed", self.tally.now_in_flight(), kill=False)
        return True

    def _stop_valkey(self) -> bool:
        before = self.tally.now_in_flight()
        self.house.stop_valkey()
        self._wait(lambda: False, self.random.uniform(0.5, 4.0))
        self.house.start_valkey()
        self.record.add("valkey stopped", before | self.tally.now_in_flight(), kill=False)
        return True

    # -- the broker

    def broker_modes(self) -> list[tuple[str, str]]:
        """Every fault of the broker as (mode, target)."""
        return [*((mode, "submit") for mode in SUBMIT_MODES), *OTHER_MODES]

    def broker_fault(self, mode: str, target: str) -> bool:
        """Switch one fault on, leave it on for a moment, and switch everything off again."""
        pick = self.broker_random
        body = {"mode": mode, "target": target, "times": pick.randint(1, 3)}
        if mode in BROKER_SECONDS:
            body["seconds"] = BROKER_SECONDS[mode]
        if mode == "late_arrival":
            body["seconds"] = seconds = pick.choice([4.0, LATE_SECONDS])
            self.quiet_after = max(self.quiet_after, time.monotonic() + seconds + 8.0)
        before = self.tally.now_in_flight()
        if not self._arm_broker(body):
            return False
        time.sleep(pick.uniform(1.0, 3.0))
        self.record.add(f"broker: {mode} on {target}", before | self.tally.now_in_flight(), kill=False)
        return True

    def _arm_broker(self, body: dict[str, object]) -> bool:
        with contextlib.suppress(requests.RequestException):
            return self.house.broker("POST", "/control/faults", body).status_code == 201
        return False

    def heal(self) -> None:
        """Switch every fault of the broker off."""
        with contextlib.suppress(requests.RequestException):
            self.house.broker("DELETE", "/control/faults")

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.tend()
            time.sleep(0.02)
        return True
