"""What a live tick is worth: judged against the symbol's own state, which holds its last good prices and its stop.

Invariants: only a tick that passes every check becomes the reference, makes the symbol fresh and releases its stop; a
refused one changes nothing but the stop and the price that waits for confirmation; nothing looks ahead. The state is a
value: it packs into a short text for any store, and two writers that met the same state come to the same answer.
"""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from math import prod
from types import MappingProxyType
from typing import Any

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.calendar import NEW_YORK
from backend.tradingbot.data.frames import SECOND, datetime_of, moment
from backend.tradingbot.data.price_jump import Judged, JumpRule, Outcome, PriceTrack, judge
from backend.tradingbot.data.robust import median, tick_of

KEPT_SPREADS = 64
NO_ACTIONS: Mapping[date, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Tick:
    """Price, bid and ask are finite and above zero; ``time`` is the exchange's, in microseconds since 1970.

    ``exact`` is the tick as it is shown while it is the last good one: exact decimals and times, as text.
    """

    symbol: str
    price: float
    time: int
    bid: float | None = None
    ask: float | None = None
    exact: dict[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class TickStop:
    """Why the symbol is stopped: the check that refused a tick first, since when, and what it saw."""

    check: str
    since: int
    evidence: dict[str, Any] = field(default_factory=dict)
    refused: int = 1


@dataclass(frozen=True, slots=True)
class SymbolState:
    """``newest`` is the exchange time of the last good tick and ``last`` its exact text; ``spreads`` are those of the
    last good quotes; ``pending_at`` is the exchange time of the price that waits for confirmation."""

    track: PriceTrack = PriceTrack()
    spreads: tuple[float, ...] = ()
    newest: int | None = None
    stop: TickStop | None = None
    last: dict[str, str | None] | None = None
    pending_at: int | None = None

    @property
    def typical_spread(self) -> float | None:
        return median(self.spreads) if self.spreads else None


@dataclass(frozen=True, slots=True)
class TickLimits:
    """``clock_skew`` in seconds; a spread is wide beyond ``spread_multiple`` times the median of at least
    ``spread_sample`` quotes."""

    jump: JumpRule = JumpRule()
    clock_skew: float = 2.0
    spread_multiple: float = 50.0
    spread_sample: int = 20


@dataclass(frozen=True, slots=True)
class TickJudged:
    """``accepted``: it is the last good tick now. ``late``: it is older than that one, within the skew, and passed
    over. ``released``: the stop that it ended."""

    state: SymbolState
    accepted: bool
    late: bool = False
    verdicts: tuple[Verdict, ...] = ()
    released: TickStop | None = None
    outcome: Outcome | None = None


def new_york_day(time: int) -> date:
    """The day on which a corporate action at ``time`` (microseconds since 1970) has its ex date."""
    return datetime_of(time).astimezone(NEW_YORK).date()


def ratio_between(since: int | None, until: int, actions: Mapping[date, float]) -> float:
    """The new shares for each old one over the actions whose ex date is after the day of ``since`` and not after that
    of ``until``; 1 for none, and for a symbol that was never seen."""
    if since is None or not actions:
        return 1.0
    first, last = new_york_day(since), new_york_day(until)
    return prod(ratio for day, ratio in actions.items() if first < day <= last)


def _at_new_prices(state: SymbolState, ratio: float) -> SymbolState:
    """What was measured before a corporate action, in the prices after it. Returns and what waits are as they are."""
    reference = state.track.reference
    track = replace(state.track, reference=None if reference is None else reference / ratio)
    return replace(state, track=track, spreads=tuple(spread / ratio for spread in state.spreads))


def judge_tick(
    state: SymbolState, tick: Tick, now: int, limits: TickLimits, actions: Mapping[date, float] = NO_ACTIONS
) -> TickJudged:
    """Every check of one tick at ``now`` (microseconds since 1970), the first that fails decides.

    ``actions`` are the ratios on file by ex date. The first good tick from an ex date on is held against the last price
    before it divided by the ratio, and against nothing else: at the old price it is a jump. Until one is good, the
    state keeps the old price, so that the ratio is applied once.
    """
    ratio = ratio_between(state.newest, tick.time, actions)
    if ratio == 1.0:
        return _judge(state, tick, now, limits)
    judged = _judge(_at_new_prices(state, ratio), tick, now, limits)
    if judged.accepted:
        evidence = {"price": tick.price, "reference": state.track.reference, "ratio": ratio}
        seen = Verdict("price_jump", Severity.WARN, tick.symbol, {**evidence, "outcome": "a corporate action on file"})
        return replace(judged, verdicts=(*judged.verdicts, seen))
    track = replace(state.track, pending=judged.state.track.pending)
    return replace(judged, state=replace(judged.state, track=track, spreads=state.spreads))


def _judge(state: SymbolState, tick: Tick, now: int, limits: TickLimits) -> TickJudged:
    skew = int(limits.clock_skew * SECOND)
    if tick.time > now + skew:
        ahead = (tick.time - now) / SECOND
        return refused(state, tick.symbol, "future_time", now, {"time": moment(tick.time), "ahead_seconds": ahead})
    if state.newest is not None and tick.time < state.newest:
        behind = (state.newest - tick.time) / SECOND
        if state.newest - tick.time <= skew:
            return TickJudged(state, accepted=False, late=True)
        evidence = {"time": moment(tick.time), "after": moment(state.newest), "behind_seconds": behind}
        return refused(state, tick.symbol, "time_reversed", now, evidence)
    quote = _quote_fault(state, tick, limits)
    if quote is not None:
        check, evidence = quote
        return refused(state, tick.symbol, check, now, evidence)
    judged = judge(state.track, tick.price, limits.jump, (state.typical_spread or 0.0) / 2)
    if judged.outcome is Outcome.CONFIRMED and _is_no_second(state, tick):
        return refused(state, tick.symbol, "price_jump", now, judged.evidence(state.track.reference, tick.price))
    if judged.outcome is Outcome.REFUSED:
        waiting = replace(state, track=judged.track, pending_at=tick.time)
        evidence = judged.evidence(state.track.reference, tick.price)
        return refused(waiting, tick.symbol, "price_jump", now, evidence)
    return _accept(state, tick, judged)


def _is_no_second(state: SymbolState, tick: Tick) -> bool:
    """Is it the refused tick once more, or one from before it? A batch that a feed sends again confirms nothing."""
    if state.pending_at is None:
        return False
    return tick.time < state.pending_at or (tick.time == state.pending_at and tick.price == state.track.pending)


def refused(state: SymbolState, symbol: str, check: str, now: int, evidence: dict[str, Any]) -> TickJudged:
    """The tick is refused and the symbol stopped; an older stop keeps its check and its time."""
    stop = TickStop(check, now, evidence) if state.stop is None else replace(state.stop, refused=state.stop.refused + 1)
    verdict = Verdict(check, Severity.HARD, symbol, evidence)
    return TickJudged(replace(state, stop=stop), accepted=False, verdicts=(verdict,), outcome=Outcome.REFUSED)


def _quote_fault(state: SymbolState, tick: Tick, limits: TickLimits) -> tuple[str, dict[str, Any]] | None:
    if tick.bid is None or tick.ask is None:
        return None
    if tick.ask < tick.bid:
        return "crossed_quote", {"bid": tick.bid, "ask": tick.ask}
    typical = state.typical_spread
    if typical is None or len(state.spreads) < limits.spread_sample:
        return None
    floor = max(typical, tick_of(tick.price))
    if tick.ask - tick.bid > limits.spread_multiple * floor:
        return "wide_spread", {"bid": tick.bid, "ask": tick.ask, "typical": typical, "limit": limits.spread_multiple}
    return None


def _accept(state: SymbolState, tick: Tick, judged: Judged) -> TickJudged:
    spreads, verdicts = state.spreads, []
    if tick.bid is not None and tick.ask is not None:
        spreads = (*spreads[-(KEPT_SPREADS - 1) :], tick.ask - tick.bid)
        if tick.ask == tick.bid:
            verdicts.append(Verdict("locked_quote", Severity.WARN, tick.symbol, {"bid": tick.bid, "ask": tick.ask}))
    if judged.outcome is Outcome.CONFIRMED:
        evidence = {**judged.evidence(state.track.reference, tick.price), "outcome": "a gap, confirmed"}
        verdicts.append(Verdict("price_jump", Severity.WARN, tick.symbol, evidence))
    after = SymbolState(judged.track, spreads, tick.time, None, tick.exact)
    return TickJudged(after, True, verdicts=tuple(verdicts), released=state.stop, outcome=judged.outcome)


def pack(state: SymbolState) -> str:
    """The state as text; ``unpack`` gives exactly it back."""
    body = {
        "reference": state.track.reference,
        "returns": _squeeze(state.track.returns),
        "pending": state.track.pending,
        "spreads": _squeeze(state.spreads),
        "newest": state.newest,
        "stop": None if state.stop is None else asdict(state.stop),
        "last": state.last,
        "pending_at": state.pending_at,
    }
    return json.dumps(body, separators=(",", ":"))


def unpack(text: str) -> SymbolState:
    """What ``pack`` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    body = json.loads(text)
    stop = TickStop(**body["stop"]) if body["stop"] is not None else None
    track = PriceTrack(body["reference"], _spread_out(body["returns"]), body["pending"])
    waiting = body.get("pending_at")  # not in the states of an older build
    return SymbolState(track, _spread_out(body["spreads"]), body["newest"], stop, body["last"], waiting)


def _squeeze(values: tuple[float, ...]) -> str:
    return base64.b64encode(array("d", values).tobytes()).decode()


def _spread_out(text: str) -> tuple[float, ...]:
    values = array("d")
    values.frombytes(base64.b64decode(text, validate=True))
    return tuple(values)
