"""The file guard against a model, a plain dictionary: whatever is done to it, it answers as the dictionary would.

Guards come and go on one path, as processes do; a torn last line, a file that is emptied or taken away, and the
clean-up are part of the story.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.execution.replay_guard import ReplayGuard

IDS = st.sampled_from(["a", "b", "c", "order-1", "order_2", "x" * 128])
STATES = st.sampled_from(["pending_submit", "in_doubt", "accepted", "filled", "canceled", "rejected"])
WHOLE = b'{"v":1,"id":"d","state":"filled","at":1.0,"sum":"0123456789abcdef"}'
TERMINAL = {"filled", "canceled", "rejected"}
DAY = 86_400.0


class GuardedIds(RuleBasedStateMachine):
    """``model`` is what must be known: id -> (state, time of its last record)."""

    guards = Bundle("guards")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="replay-guard-"))
        self.path = self.folder / "state" / "guard.json"
        self.clock = FixedClock(at=datetime(2026, 1, 5, tzinfo=UTC))
        self.model: dict[str, tuple[str, float]] = {}
        self.alive: list[ReplayGuard] = []

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(target=guards)
    def first(self) -> ReplayGuard:
        return self.start()

    @rule(target=guards)
    def start(self) -> ReplayGuard:
        self.alive.append(ReplayGuard(self.path, clock=self.clock))
        return self.alive[-1]

    def all_look(self) -> None:
        for guard in self.alive:
            guard.status()

    @rule(guard=guards, name=IDS)
    def claim(self, guard: ReplayGuard, name: str) -> None:
        won = guard.should_process_order(SimpleNamespace(client_order_id=name))
        assert won is (name not in self.model)
        if won:
            self.model[name] = ("pending_submit", self.clock.time())

    @rule(guard=guards, name=IDS, state=STATES)
    def record(self, guard: ReplayGuard, name: str, state: str) -> None:
        guard.record(name, state)
        self.model[name] = (state, self.clock.time())

    @rule(guard=guards, name=IDS)
    def ask(self, guard: ReplayGuard, name: str) -> None:
        known = self.model.get(name)
        assert guard.seen(name) is (known is not None)
        assert guard.get_state(name) == (known[0] if known else None)

    @rule(guard=guards)
    def clear(self, guard: ReplayGuard) -> None:
        guard.clear()
        self.model.clear()

    @rule(guard=guards, days=st.integers(0, 3))
    def clean_up(self, guard: ReplayGuard, days: int) -> None:
        edge = self.clock.time() - days * DAY
        old = [name for name, (state, at) in self.model.items() if state in TERMINAL and at <= edge]
        assert guard.cleanup_old_orders(max_age_days=days) == len(old)
        for name in old:
            del self.model[name]

    @rule(hours=st.integers(1, 40))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours * 3_600.0)

    @rule(length=st.integers(1, len(WHOLE)))
    def a_writer_dies_in_its_line(self, length: int) -> None:
        """Any part of a record but its end: its writer was never answered."""
        with open(self.path, "ab") as file:
            file.write(WHOLE[:length])

    @rule(how=st.sampled_from(["emptied", "deleted", "deleted and made anew by a stranger"]))
    def the_file_is_lost_under_guards_that_live(self, how: str) -> None:
        """They know what was there, and put it back with the next look.

        All of them look before and after: one that slept through the loss and a clearing after it would bring the
        cleared ids back, since it cannot tell that the clearing was meant. That errs on the side of not sending.
        """
        self.all_look()
        if how == "emptied":
            self.path.write_bytes(b"")
        else:
            self.path.unlink()
        if how.endswith("stranger"):
            assert ReplayGuard(self.path, clock=self.clock).status()["total_orders"] == 0
        self.all_look()

    @invariant()
    def every_guard_counts_alike(self) -> None:
        assert ReplayGuard(self.path, clock=self.clock).status()["total_orders"] == len(self.model)


GuardedIds.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestGuardedIds = GuardedIds.TestCase
