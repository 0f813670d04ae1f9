"""One rule, two homes: a breaker that is restored from its row for every act, by processes that come and go, decides
as the one that lived on in one process; and when wall clocks are stepped back it is never the more lenient.
"""

from __future__ import annotations

import random
import uuid
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.models import Breaker, BreakerEvent
from backend.tradingbot.risk.circuit_breaker import BreakerLimits, CircuitBreaker
from backend.tradingbot.services import breakers
from backend.tradingbot.services.accounts import ensure_firm

pytestmark = pytest.mark.django_db(transaction=False)

LIMITS = {"max_daily_drawdown": 0.06, "max_error_rate_per_min": 3, "max_data_staleness_sec": 30.0, "cooldown_sec": 60.0}
MONEY = st.decimals(min_value=-20_000, max_value=200_000, places=9, allow_nan=False)
COMPARED = ("tripped", "reason", "errors_last_min", "cooldown_remaining_sec", "later_causes", "holding_causes")
RUN = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


class TwoHomes(RuleBasedStateMachine):
    """``lived`` never leaves memory; the row is restored and saved by a process whose monotonic clock is its own."""

    def __init__(self):
        super().__init__()
        self.clock = FixedClock()
        self.process = FixedClock(self.clock.at, ticks=5.0)
        self.stepped_back = False
        self.scope = f"symbol:{uuid.uuid4().hex[:16].upper()}"
        self.resets = 0

    @initialize(start=st.decimals(min_value=1, max_value=10**9, places=9))
    def begin(self, start):
        ensure_firm()
        Breaker.objects.create(scope=self.scope, **LIMITS)
        self.lived = CircuitBreaker(1.0, BreakerLimits(**LIMITS), clock=self.clock)
        self.both(lambda breaker: breaker.start_day(start))

    def both(self, act):
        """The same act in both homes: with the same refusal, and whatever it raised the row is as it was."""
        outcomes = []
        try:
            outcomes.append(act(self.lived))
        except (ConflictError, InvalidInputError) as error:
            outcomes.append(error.code)
        try:
            with breakers.locked_breaker(self.scope, actor="machine", clock=self.process) as guard:
                outcomes.append(act(guard.pure))
        except (ConflictError, InvalidInputError) as error:
            outcomes.append(error.code)
        return outcomes

    @rule(equity=MONEY)
    def mark(self, equity):
        self.both(lambda breaker: breaker.check_mtm(equity))

    @rule()
    def mark_nonsense(self):
        self.both(lambda breaker: breaker.check_mtm(Decimal("NaN")))

    @rule(pnl=MONEY)
    def realize(self, pnl):
        self.both(lambda breaker: breaker.check_realized(-pnl))

    @rule(amount=MONEY)
    def cash_flow(self, amount):
        first, second = self.both(lambda breaker: breaker.record_cash_flow(amount))
        assert first == second

    @rule(start=MONEY)
    def new_day(self, start):
        self.both(lambda breaker: breaker.start_day(start))

    @rule(start=MONEY)
    def correct_start(self, start):
        self.both(lambda breaker: breaker.correct_start(start))

    @rule()
    def error(self):
        self.lived.mark_error()
        breakers.mark_error(self.scope, clock=self.process)

    @rule(late=st.integers(-900, 900))
    def look_at_feed(self, late):
        self.both(lambda breaker: breaker.check_data(900 + late, 900))

    @rule(why=st.sampled_from(["operator", "exchange halted", "over-fill a1"]))
    def trip(self, why):
        self.lived.trip(why)
        breakers.trip(self.scope, actor="ann", reason=why, clock=self.process)

    @rule(force=st.booleans())
    def reset(self, force):
        first, second = self.both(lambda breaker: breaker.reset("ann", "looked at it", force=force))
        self.resets += second is True
        if first == second:
            return
        assert self.stepped_back
        assert second is not False  # where the one is open, so is the other
        assert second is not True or first is False  # and none is closed here that is kept open there
        if first is True:
            with breakers.locked_breaker(self.scope, actor="machine", clock=self.process) as guard:
                guard.pure.reset("ann", "looked at it", force=True)
            self.resets += 1

    @rule(seconds=st.integers(0, 90))
    def advance(self, seconds):
        self.clock.advance(seconds)
        self.process.advance(seconds)

    @rule(seconds=st.integers(1, 100_000))
    def step_forward(self, seconds):
        self.clock.step_wall(seconds)
        self.process.step_wall(seconds)

    @rule(ticks=st.integers(0, 10**6))
    def restart(self, ticks):
        """Another process takes over: its monotonic clock has another origin."""
        self.process = FixedClock(self.clock.at, ticks=float(ticks))

    def status_of_row(self):
        return breakers.restore(Breaker.objects.get(scope=self.scope), self.process).status()

    @invariant()
    def the_row_says_what_its_state_says(self):
        row = Breaker.objects.get(scope=self.scope)
        assert (row.tripped_at is not None) is (row.reason != "") is self.status_of_row()["tripped"]

    @invariant()
    def every_opening_and_closing_is_an_event(self):
        kinds = list(
            BreakerEvent.objects.filter(breaker__scope=self.scope).order_by("id").values_list("kind", flat=True)
        )
        closings = [kind for kind in kinds if kind == breakers.RESET]
        openings = [kind for kind in kinds if kind == breakers.TRIP]
        assert len(openings) - len(closings) == self.status_of_row()["tripped"]
        assert len(closings) == self.resets


class NoStepBack(TwoHomes):
    @invariant()
    def both_say_the_same(self):
        lived, stored = self.lived.status(), self.status_of_row()
        assert {name: stored[name] for name in COMPARED} == {name: lived[name] for name in COMPARED}
        row = Breaker.objects.get(scope=self.scope)
        assert row.state["start_equity"] == self.lived.snapshot().start_equity
        assert row.state["last_equity"] == self.lived.snapshot().last_equity


class StepsBack(TwoHomes):
    @precondition(lambda self: True)
    @rule(seconds=st.integers(1, 100_000))
    def step_back(self, seconds):
        self.stepped_back = True
        self.clock.step_wall(-seconds)
        self.process.step_wall(-seconds)

    @invariant()
    def the_stored_one_is_never_the_more_lenient(self):
        lived, stored = self.lived.status(), self.status_of_row()
        assert stored["tripped"] or not lived["tripped"]
        assert stored["errors_last_min"] >= lived["errors_last_min"]
        if lived["tripped"]:
            assert stored["cooldown_remaining_sec"] >= lived["cooldown_remaining_sec"]


@pytest.mark.parametrize("machine", [NoStepBack, StepsBack])
def test_a_breaker_in_the_database_is_the_pure_breaker(machine):
    random.seed(0)
    run_state_machine_as_test(machine, settings=RUN)
