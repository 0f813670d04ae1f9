"""One run: bring the house up, let strategies trade while it is being broken, wait until it is quiet, and judge."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests
from rich.console import Console

from tests.chaos import books, report
from tests.chaos.clients import Caller, Feed, Officer, Strategy, Tally
from tests.chaos.faults import Counts, Saboteur
from tests.chaos.house import House, HouseError
from tests.chaos.judge import UNRESOLVED_HERE, WORKING_HERE, Verdict, judge
from tests.chaos.prepare import SYMBOLS

NO_REPLAY_GUARD = (
    "ALTER TABLE tradingbot_order DROP CONSTRAINT order_client_id_once",
    "ALTER TABLE tradingbot_order ADD CONSTRAINT order_client_id_once UNIQUE (id, client_order_id)",
    "ALTER TABLE tradingbot_order DROP CONSTRAINT order_broker_id_once",
)


@dataclass(frozen=True)
class Plan:
    """How much of everything. ``seconds`` ends the faults and the orders, whatever is left of the plan.

    ``only`` names the steps to be kept; ``broker_gap`` None leaves the broker's faults out.
    """

    seed: str = "1"
    clients: int = 10
    pause: float = 0.5
    counts: Counts = field(default_factory=Counts)
    only: frozenset[str] | None = None
    gap: float = 0.7
    broker_gap: float | None = 2.0
    seconds: float = 3_600.0
    quiet_seconds: float = 150.0
    orders: int = 5_000
    kills_needed: int = 200
    hits_needed: int = 10
    control: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a run came to. ``unmet`` are the counts that the plan asked for and did not get."""

    verdict: Verdict
    orders: int
    saboteur: Saboteur
    tally: Tally
    unmet: list[str]

    @property
    def good(self) -> bool:
        return self.verdict.clean and not self.unmet

    @property
    def line(self) -> str:
        return report.closing_line(self.orders, self.saboteur.record, self.verdict)


class Run:
    """One run over a house that is up and prepared."""

    def __init__(self, house: House, plan: Plan, say: Callable[[str], None]) -> None:
        self.house, self.plan, self.say = house, plan, say
        self.tally = Tally()
        self.saboteur = Saboteur(house, self.tally, plan.seed)
        demo = house.demo
        self._trader, self._risk = demo["TRADINGBOT_TRADER_TOKEN"], demo["TRADINGBOT_RISK_TOKEN"]
        self._feed = Feed(SYMBOLS, house.url, self._trader, self.tally, plan.seed)
        self._officer = Officer(house.url, self._risk, self.tally)

    def go(self) -> Outcome:
        """Do all of it."""
        if self.plan.control:
            with self.house.database() as connection:
                for statement in NO_REPLAY_GUARD:
                    connection.execute(statement)
            self.say("control: the constraint behind the replay guard is dropped")
        self.house.wait_until(self._feed.tick, 30.0, "no tick was taken")
        self._break_it()
        self._wait_until_quiet()
        return self._judge()

    def _break_it(self) -> None:
        began, trading, breaking = time.monotonic(), threading.Event(), threading.Event()
        share = len(SYMBOLS) // self.plan.clients
        with self._threads() as start:
            start(self._feed.run, breaking, 4.0)
            start(self._officer.run, breaking)
            for number in range(self.plan.clients):
                own = SYMBOLS[number * share : (number + 1) * share]
                strategy = Strategy(
                    f"{self.plan.seed}-c{number}", own, self.house.url, self._trader, self.tally, self.plan.seed
                )
                start(strategy.run, trading, self._feed.prices, self.plan.pause)
            lane = start(self._broker_lane, trading)
            try:
                self._process_lane(began)
            finally:
                trading.set()
                lane.join()
                self.saboteur.settle()
                self.say(f"faults are over after {time.monotonic() - began:.0f} s; waiting until it is quiet")
                self._join_strategies()
                self.saboteur.settle()
                breaking.set()

    @contextmanager
    def _threads(self) -> Iterator[Callable[..., threading.Thread]]:
        self._running: list[threading.Thread] = []

        def start(target: Callable[..., None], *arguments: object) -> threading.Thread:
            thread = threading.Thread(target=target, args=arguments, daemon=True)
            self._running.append(thread)
            thread.start()
            return thread

        yield start
        for thread in self._running:
            thread.join(180)

    def _join_strategies(self) -> None:
        """Every request gets its answer while the feed and the officer go on."""
        for thread in self._running[2:]:
            while thread.is_alive():
                self.saboteur.tend()
                thread.join(0.1)

    def _process_lane(self, began: float) -> None:
        steps = deque(self.saboteur.plan(self.plan.counts, self.plan.only))
        total, said = len(steps), time.monotonic()
        while time.monotonic() - began < self.plan.seconds:
            self.house.must_run()
            self.saboteur.tend()
            step = self.saboteur.next_step(steps)
            if step is not None and not self.saboteur.do(step):
                steps.append(step)
            if not steps and self._sent() >= self.plan.orders:
                return
            if time.monotonic() - said > 30:
                said = time.monotonic()
                record = self.saboteur.record
                self.say(
                    f"{said - began:5.0f} s: {self._sent()} orders, {record.kills} kills, {record.faults} faults, "
                    f"{len(steps)} of {total} steps to go, {sum(self.tally.denials.values())} denials"
                )
            self._sleep(self.saboteur.random.uniform(0.3, 1.7) * self.plan.gap)

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.saboteur.tend()
            time.sleep(0.02)

    def _sent(self) -> int:
        return len(books.sends(self.house))

    def _broker_lane(self, stop: threading.Event) -> None:
        modes: list[tuple[str, str]] = []
        while self.plan.broker_gap is not None and not stop.is_set():
            if not modes:
                modes = self.saboteur.broker_modes()
                self.saboteur.broker_random.shuffle(modes)
            self.saboteur.broker_fault(*modes.pop())
            self.saboteur.heal()
            stop.wait(self.plan.broker_gap)

    def _wait_until_quiet(self) -> None:
        """Cancel what still works, as a risk officer may whoever placed it, until nothing is open or in doubt."""
        caller = Caller(self.house.url, self._risk)
        deadline, quiet_since = time.monotonic() + self.plan.quiet_seconds, 0.0
        asked: dict[str, float] = {}
        while time.monotonic() < deadline:
            self._feed.tick()
            self._officer.look()
            left = self._left()
            now = time.monotonic()
            if left:
                quiet_since = 0.0
                for name in [name for name, status in left.items() if status in WORKING_HERE]:
                    if now - asked.get(name, 0.0) > 5.0:
                        asked[name] = now
                        try:
                            caller.call("DELETE", f"orders/{name}?account=demo")
                        except requests.RequestException as error:
                            self.tally.trouble(f"closing {type(error).__name__}")
            elif not quiet_since:
                quiet_since = now
            elif now - quiet_since > 5.0 and now > self.saboteur.quiet_after:
                return
            time.sleep(0.5)
        left = sorted(f"{name} {status}" for name, status in self._left().items())
        self.say(f"not quiet after {self.plan.quiet_seconds:.0f} s: {', '.join(left[:20])} ({len(left)} in all)")

    def _left(self) -> dict[str, str]:
        open_or_unknown = sorted(WORKING_HERE | UNRESOLVED_HERE)
        statement = "SELECT client_order_id, status FROM tradingbot_order WHERE status = ANY(%s)"
        with self.house.database() as connection:
            return {r["client_order_id"]: r["status"] for r in connection.execute(statement, [open_or_unknown])}

    def _judge(self) -> Outcome:
        sends = books.sends(self.house)
        verdict = judge(books.their_books(self.house), books.our_books(self.house), sends, self.tally.answers)
        return Outcome(verdict, len(sends), self.saboteur, self.tally, self._unmet(len(sends)))

    def _unmet(self, orders: int) -> list[str]:
        record, plan = self.saboteur.record, self.plan
        unmet = [f"{name} never got an answer" for name in sorted(self.tally.unanswered)]
        if orders < plan.orders:
            unmet.append(f"{orders} orders, {plan.orders} are asked for")
        if record.kills < plan.kills_needed:
            unmet.append(f"{record.kills} kills, {plan.kills_needed} are asked for")
        for point, hits in record.crash_points().items():
            if hits < plan.hits_needed:
                unmet.append(f"{point}: hit {hits} times, {plan.hits_needed} are asked for")
        return unmet


def prepare(house: House) -> None:
    """Make the demo's account fit for a run."""
    done = house.manage("-m", "tests.chaos.prepare")
    if done.returncode != 0:
        raise HouseError(f"the rows could not be prepared: {done.stderr.strip()[-500:]}")


def run(house: House, plan: Plan, console: Console) -> Outcome:
    """Prepare and run over a house that is up, and show what happened."""
    prepare(house)
    outcome = Run(house, plan, lambda text: console.print(text, highlight=False)).go()
    report.show(console, outcome.saboteur.record, outcome.tally, outcome.verdict, outcome.unmet)
    return outcome
