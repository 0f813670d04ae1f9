"""Stops trading on loss, error spikes or silent data, and stays open until somebody resets it.

Invariants: an open breaker never closes by itself, not by time, not by a new day; the first reason stays the reason; an
equity that is not a finite number trips; the age of anything is the greater of its wall clock and its monotonic age,
so a clock step never makes old data fresh; a snapshot restored elsewhere decides as the original would. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, cast

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import ConflictError, TradingBlockedError
from backend.tradingbot.risk.breaker_state import BreakerLimits, BreakerState, positive_equity, refuse
from backend.tradingbot.risk.exact_number import as_people_write, exact_from_text, exact_number, exact_text

__all__ = ["BreakerLimits", "BreakerState", "CircuitBreaker"]

Number = float | int | Decimal

ERROR_WINDOW_SEC = 60.0
ERROR_RATE = "error-rate"
STALE_DATA = "stale-data"
BAD_EQUITY = "bad-equity"
DRAWDOWN = "daily-dd"
REALIZED_LOSS = "realized-loss"

KEPT_CAUSES = 50
KEPT_ERRORS = 1_000
CLOCK_SKEW_SEC = 1.0
SAME_INSTANT_SEC = 0.001
SHOWN_LOSS_CEILING = 1_000_000
LONGEST_SILENCE_SEC = 1e9


class _Moment(NamedTuple):
    wall: float
    monotonic: float


class CircuitBreaker:
    """One scope's breaker. ``start_equity`` is the equity at the day's start; zero and negative are refused.

    Construction counts as fresh data, so the grace at start-up is ``max_data_staleness_sec``. The drawdown is
    ``(start - equity) / start``, computed exactly, and trips at the limit itself. A gain never trips.
    """

    def __init__(
        self, start_equity: Number, limits: BreakerLimits | None = None, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._start = positive_equity(start_equity)
        self.start_equity: Number = start_equity
        self.limits = limits or BreakerLimits()
        self.tripped_at: float | None = None
        self.reason: str | None = None
        self._clock = clock
        self._lock = threading.RLock()
        self._started = self._now()
        self._tripped: _Moment | None = None
        self._fresh: _Moment | None = None
        self._later: list[str] = []
        self._errors: deque[_Moment] = deque(maxlen=max(KEPT_ERRORS, 2 * int(self.limits.max_error_rate_per_min)))
        self._in_order = True  # whether both clocks saw the errors in this order: then they age from the left
        self._equity: Fraction | None = None
        self._realized: Fraction | None = None
        self._equity_bad = False
        self._realized_bad = False
        self._last_reset: dict[str, Any] | None = None

    def trip(self, reason: str) -> None:
        """Open. The first reason stays; a later one is kept as evidence. Never refuses."""
        with self._lock:
            cause = str(reason).strip() or "unspecified"
            if self._tripped is None:
                self._tripped = self._now()
                self.tripped_at = self._tripped.wall
                self.reason = cause
            elif self._is_news(cause) and len(self._later) < KEPT_CAUSES:
                self._later.append(cause)

    def mark_error(self) -> None:
        """Count one error; trips ``error-rate`` once the last 60 s hold the limit. A limit of 0 trips at the first."""
        with self._lock:
            now, last = self._now(), self._errors[-1] if self._errors else None
            self._in_order = self._in_order and (last is None or _not_before(last, now))
            self._errors.append(now)
            if self._errors_last_minute() >= self.limits.max_error_rate_per_min:
                self.trip(ERROR_RATE)

    def check_mtm(self, equity: Number) -> None:
        """Trip when the marked-to-market drawdown has reached the limit, or when ``equity`` is no finite number."""
        with self._lock:
            exact = exact_number(equity)
            self._equity_bad = exact is None
            if exact is None:
                self.trip(BAD_EQUITY)
                return
            self._equity = exact
            self._trip_on_loss(DRAWDOWN, self._start - exact)

    def check_realized(self, pnl: Number) -> None:
        """Trip when the day's realised loss (``pnl`` below zero) has reached the drawdown limit."""
        with self._lock:
            exact = exact_number(pnl)
            self._realized_bad = exact is None
            if exact is None:
                self.trip(BAD_EQUITY)
                return
            self._realized = exact
            self._trip_on_loss(REALIZED_LOSS, -exact)

    def mark_data_fresh(self) -> None:
        """A tick arrived. It never closes an open breaker."""
        with self._lock:
            self._fresh = self._now()

    def check_data(self, age: float, limit: float) -> None:
        """The newest data of a feed that may be silent for ``limit`` seconds is ``age`` seconds old.

        Within its limit it is fresh, whatever ``max_data_staleness_sec`` says. Beyond it trips ``stale-data`` and is
        stale until a better look, by the seconds that it is late (at least one); so is an age that is no number.
        """
        with self._lock:
            late = age - limit
            if late <= 0:
                self.mark_data_fresh()
                return
            late = max(late, 1.0) if late < LONGEST_SILENCE_SEC else LONGEST_SILENCE_SEC
            now, stale = self._now(), self.limits.max_data_staleness_sec + late
            self._fresh = _Moment(now.wall - stale, now.monotonic - stale)
            self.trip(STALE_DATA)

    def poll(self) -> bool:
        """Trip ``stale-data`` when the data is older than its limit; answers ``can_trade()``."""
        with self._lock:
            if self._is_stale():
                self.trip(STALE_DATA)
            return self.can_trade()

    def can_trade(self) -> bool:
        """True while nothing has tripped. It does not poll; ``require_ok`` does."""
        with self._lock:
            return self._tripped is None

    def require_ok(self) -> None:
        """Poll; raise TradingBlockedError ``CIRCUIT_OPEN: <reason>`` (code ``circuit_open``) when open."""
        with self._lock:
            if not self.poll():
                raise TradingBlockedError(
                    f"CIRCUIT_OPEN: {self.reason}",
                    code="circuit_open",
                    remedy="mend the cause, then reset the breaker with who and why",
                    reason=self.reason,
                    later_causes=list(self._later),
                )

    def start_day(self, start_equity: Number) -> None:
        """A new day's start equity; yesterday's realised figure is forgotten. An open breaker stays open."""
        with self._lock:
            self._start = positive_equity(start_equity)
            self.start_equity = start_equity
            self._realized = None
            self._realized_bad = False

    def correct_start(self, start_equity: Number) -> None:
        """A better figure for the equity at the start of the same day; what the day has brought so far stays."""
        with self._lock:
            self._start = positive_equity(start_equity)
            self.start_equity = start_equity

    def record_cash_flow(self, amount: Number) -> None:
        """A deposit (above zero) or a withdrawal during the day: neither is a gain or a loss.

        Start equity and the last equity seen move by ``amount``. Raises InvalidInputError when it is no finite number,
        or when nothing would be left to lose.
        """
        with self._lock:
            exact = exact_number(amount)
            if exact is None:
                raise refuse("amount", amount, "must be a finite number", "send the amount of the cash flow")
            self.correct_start(as_people_write(positive_equity(self._start + exact)))
            if self._equity is not None:
                self._equity += exact

    def would_trip_at(self, equity: Number) -> bool:
        """Whether ``check_mtm(equity)`` would trip; nothing changes."""
        with self._lock:
            exact = exact_number(equity)
            return exact is None or self._breaches(self._start - exact)

    def reset(self, actor: str, reason: str, force: bool = False) -> bool:
        """Close on ``actor``'s word. False when it was not open. The next check may trip it again at once.

        Raises ConflictError ``cooldown_active`` or ``cause_holds`` unless ``force``; InvalidInputError when who or
        why is blank. A reset after ``error-rate`` empties the error window.
        """
        for name, value in (("actor", actor), ("reason", reason)):
            if not isinstance(value, str) or not value.strip():
                raise refuse(name, value, "must not be blank", "say who resets, and why")
        with self._lock:
            if self._tripped is None:
                return False
            if force is not True:
                self._refuse_early_reset()
            self._last_reset = {
                "actor": actor,
                "reason": reason,
                "at": self._clock.time(),
                "forced": force is True,
                "causes": [self.reason, *self._later],
            }
            if self._has_cause(ERROR_RATE):
                self._errors.clear()
            self._tripped = self.tripped_at = self.reason = None
            self._later = []
            return True

    def holding_causes(self) -> list[str]:
        """The causes of this trip that are still so, judged by the last figures seen and by the clock."""
        with self._lock:
            over_rate = self._errors_last_minute() >= max(1, self.limits.max_error_rate_per_min)
            now_so = {
                DRAWDOWN: self._equity is not None and self._breaches(self._start - self._equity),
                REALIZED_LOSS: self._realized is not None and self._breaches(-self._realized),
                BAD_EQUITY: self._equity_bad or self._realized_bad,
                STALE_DATA: self._is_stale(),
                ERROR_RATE: over_rate,
            }
            return [kind for kind, holds in now_so.items() if holds and self._has_cause(kind)]

    def status(self) -> dict[str, Any]:
        """For people and dashboards; JSON-able. Ages and remainders in seconds. It changes nothing."""
        with self._lock:
            return {
                "tripped": self._tripped is not None,
                "reason": self.reason,
                "can_trade": self.can_trade(),
                "errors_last_min": self._errors_last_minute(),
                "data_staleness_sec": self._data_age(),
                "cooldown_remaining_sec": self._cooldown_remaining(),
                "tripped_at": self.tripped_at,
                "later_causes": list(self._later),
                "holding_causes": self.holding_causes(),
                "start_equity": float(self._start),
                "last_equity": None if self._equity is None else float(self._equity),
                "last_fresh_at": None if self._fresh is None else self._fresh.wall,
            }

    def snapshot(self) -> BreakerState:
        """Everything needed to go on elsewhere."""
        with self._lock:
            self._errors_last_minute()
            return BreakerState(
                start_equity=exact_text(self._start),
                started_at=self._wall_for_age(self._started),
                tripped_at=self.tripped_at,
                reason=self.reason,
                later_causes=tuple(self._later),
                error_times=tuple(error.wall for error in self._errors),
                last_fresh_at=None if self._fresh is None else self._wall_for_age(self._fresh),
                last_equity=None if self._equity is None else exact_text(self._equity),
                last_realized=None if self._realized is None else exact_text(self._realized),
                equity_bad=self._equity_bad,
                realized_bad=self._realized_bad,
                last_reset=None if self._last_reset is None else dict(self._last_reset),
            )

    @classmethod
    def restore(
        cls, state: BreakerState, limits: BreakerLimits | None = None, *, clock: Clock = SYSTEM_CLOCK
    ) -> CircuitBreaker:
        """The breaker that ``state`` was taken from, in this process. Data stamped in the future counts as stale."""
        start = positive_equity(exact_from_text(state.start_equity))
        breaker = cls(as_people_write(start), limits, clock=clock)
        breaker._started = breaker._restored_data_moment(state.started_at)
        if state.last_fresh_at is not None:
            breaker._fresh = breaker._restored_data_moment(state.last_fresh_at)
        if state.tripped_at is not None:
            breaker._tripped = breaker._restored(state.tripped_at)
            breaker.tripped_at = state.tripped_at
            breaker.reason = state.reason or "unspecified"
        breaker._later = list(state.later_causes)
        breaker._restore_errors(state.error_times)
        breaker._equity = exact_from_text(state.last_equity)
        breaker._realized = exact_from_text(state.last_realized)
        breaker._equity_bad = state.equity_bad
        breaker._realized_bad = state.realized_bad
        breaker._last_reset = None if state.last_reset is None else dict(state.last_reset)
        return breaker

    def _refuse_early_reset(self) -> None:
        remaining = self._cooldown_remaining()
        if remaining > 0:
            raise ConflictError(
                f"the cooldown runs for another {remaining:.0f} s",
                code="cooldown_active",
                remedy="wait until it is over, or force the reset if you may",
                cooldown_remaining_sec=remaining,
            )
        holding = self.holding_causes()
        if holding:
            raise ConflictError(
                f"the cause still holds: {', '.join(holding)}",
                code="cause_holds",
                remedy="mend the cause and let a new reading show it, or force the reset if you may",
                causes=holding,
            )

    def _breaches(self, loss: Fraction) -> bool:
        limit = cast(Fraction, exact_number(self.limits.max_daily_drawdown))
        return loss >= 0 and loss >= limit * self._start

    def _trip_on_loss(self, kind: str, loss: Fraction) -> None:
        if self._breaches(loss):
            shown = float(min(loss / self._start, Fraction(SHOWN_LOSS_CEILING)))
            self.trip(f"{kind}-{shown:.3f}")

    def _has_cause(self, kind: str) -> bool:
        return any(_kind(cause) == kind for cause in (self.reason or "", *self._later))

    def _is_news(self, cause: str) -> bool:
        """A loss that deepens tick by tick is one cause, not a thousand."""
        return not self._has_cause(_kind(cause))

    def _now(self) -> _Moment:
        return _Moment(self._clock.time(), self._clock.monotonic())

    def _age(self, moment: _Moment) -> float:
        return _age_at(self._now(), moment)

    def _data_age(self) -> float:
        return self._age(self._fresh or self._started)

    def _is_stale(self) -> bool:
        return self._data_age() > self.limits.max_data_staleness_sec

    def _errors_last_minute(self) -> int:
        """Drop what is too old, and count the rest. In order the old ones are the first; a clock that was stepped back
        has put them out of order, and then each is looked at."""
        now = self._now()
        while self._in_order and self._errors and _age_at(now, self._errors[0]) >= ERROR_WINDOW_SEC:
            self._errors.popleft()
        if not self._in_order:
            young = [error for error in self._errors if _age_at(now, error) < ERROR_WINDOW_SEC]
            self._errors = deque(young, maxlen=self._errors.maxlen)
            self._in_order = all(map(_not_before, young, young[1:]))
        return len(self._errors)

    def _restore_errors(self, walls: Iterable[float]) -> None:
        now = self._now()
        self._errors.extend(_restored_at(now, wall) for wall in walls)
        found = list(self._errors)
        self._in_order = all(map(_not_before, found, found[1:]))

    def _cooldown_remaining(self) -> float:
        if self._tripped is None:
            return 0.0
        return max(0.0, self.limits.cooldown_sec - self._age(self._tripped))

    def _wall_for_age(self, moment: _Moment) -> float:
        """The wall time to store, moved back when the wall clock was stepped back since, so that the age survives."""
        age, wall_now = self._age(moment), self._clock.time()
        return moment.wall if age - (wall_now - moment.wall) <= SAME_INSTANT_SEC else wall_now - age

    def _restored(self, wall: float) -> _Moment:
        return _restored_at(self._now(), wall)

    def _restored_data_moment(self, wall: float) -> _Moment:
        now = self._now()
        ahead = wall - now.wall
        if ahead <= CLOCK_SKEW_SEC:
            return self._restored(wall)
        unknown_age = self.limits.max_data_staleness_sec + ahead  # the clock went back: the true age cannot be known
        return _Moment(wall, now.monotonic - unknown_age)


def _age_at(now: _Moment, moment: _Moment) -> float:
    return max(now.wall - moment.wall, now.monotonic - moment.monotonic, 0.0)


def _not_before(earlier: _Moment, later: _Moment) -> bool:
    return earlier.wall <= later.wall and earlier.monotonic <= later.monotonic


def _restored_at(now: _Moment, wall: float) -> _Moment:
    return _Moment(wall, now.monotonic - max(0.0, now.wall - wall))


def _kind(cause: str) -> str:
    """``daily-dd-0.061`` -> ``daily-dd``; any other cause is its own kind."""
    for kind in (DRAWDOWN, REALIZED_LOSS):
        if cause.startswith(f"{kind}-"):
            return kind
    return cause
