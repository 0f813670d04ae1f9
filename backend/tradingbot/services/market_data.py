"""Ticks in: each is judged against its symbol's own state, and only a clean one becomes what orders are judged by.

Invariants: the states of a batch are read and written in one round trip, each only over the state it was judged
against; a refused tick changes nothing but the symbol's stop; every row of a batch is answered for, accepted, late or
refused; a stop in the store denies at once, its row in the database follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings

from backend.tradingbot.brokers.paper_quotes import forward_quotes
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.market_parsing import RefusedRow, TickRow, parse_tick, rows_of
from backend.tradingbot.core.values import Verdict, plain
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.data.frames import SECOND, datetime_of, micros, moment
from backend.tradingbot.data.live_ticks import (
    NO_ACTIONS,
    SymbolState,
    Tick,
    TickLimits,
    TickStop,
    judge_tick,
    new_york_day,
    pack,
    refused,
    unpack,
)
from backend.tradingbot.data.price_jump import PriceTrack
from backend.tradingbot.execution.shadow_fill import Touch
from backend.tradingbot.hot_state import HotState, MetTrack, TrackUpdate, hot_state
from backend.tradingbot.infra import metrics
from backend.tradingbot.models import DataStop
from backend.tradingbot.selectors.corporate_actions import on_file
from backend.tradingbot.services import data_stops, shadow
from backend.tradingbot.services.data_stops import Stopping
from backend.tradingbot.services.marking import mark_holders
from backend.tradingbot.services.volatility import observe_volatility

log = structlog.get_logger(__name__)

ATTEMPTS = 8
NOTHING = SymbolState()


@dataclass
class Batch:
    """What became of the rows of one symbol, judged against one state."""

    state: SymbolState
    accepted: int = 0
    late: list[int] = field(default_factory=list)
    refused: dict[int, Verdict] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    stoppings: list[Stopping] = field(default_factory=list)


def tick_limits() -> TickLimits:
    return TickLimits()


def post_ticks(body: Any, *, may_feed: frozenset[str], clock: Clock, actor: str = "feed") -> dict[str, Any]:
    """``{"ticks": [{symbol, price, bid?, ask?, size?, time}]}``, 1 to 10,000 rows; says what became of each.

    The age of a tick counts from the earlier of its exchange time and now. Raises InvalidInputError for what is no
    batch, UnavailableError when the store does not answer.
    """
    parsed = [parse_tick(raw, row, may_feed) for row, raw in enumerate(rows_of(body, "ticks"))]
    return take_ticks(parsed, clock=clock, actor=actor)


def take_ticks(parsed: Iterable[TickRow | RefusedRow], *, clock: Clock, actor: str) -> dict[str, Any]:
    """Judge, store and answer for every row."""
    rows = list(parsed)
    now = clock.now()
    by_symbol: dict[str, list[TickRow | RefusedRow]] = {}
    for row in rows:
        if isinstance(row, TickRow) or row.bad_price:
            by_symbol.setdefault(row.symbol, []).append(row)
    batches = _judge_and_store(hot_state(), by_symbol, now)
    good = {symbol: batch.state.last for symbol, batch in batches.items() if batch.accepted and batch.state.last}
    _keep_stops(batches, actor, clock)
    _forward(good)
    observe_volatility(good, clock=clock)
    mark_holders(good, clock=clock)
    shadow.match({symbol: _touch(tick) for symbol, tick in good.items()}, clock=clock)
    return _answer(rows, batches)


def _judge_and_store(
    hot: HotState, by_symbol: dict[str, list[TickRow | RefusedRow]], now: datetime
) -> dict[str, Batch]:
    """Judge every symbol's rows against the state it has; again for those that somebody else wrote meanwhile."""
    done: dict[str, Batch] = {}
    waiting = list(by_symbol)
    limits = tick_limits()
    for _ in range(ATTEMPTS):
        met = {symbol: hot.met_track(symbol) for symbol in waiting}
        states = _states(met)
        actions = _actions_since(states, now, limits)
        judged = {
            symbol: _judge(state, by_symbol[symbol], now, limits, actions.get(symbol, NO_ACTIONS))
            for symbol, state in states.items()
        }
        updates = {
            symbol: TrackUpdate(met[symbol].token, pack(batch.state), _shown(batch.state))
            for symbol, batch in judged.items()
        }
        waiting = hot.exchange(updates)
        done |= {symbol: batch for symbol, batch in judged.items() if symbol not in set(waiting)}
        if not waiting:
            return done
    raise UnavailableError(
        f"the ticks of {', '.join(waiting[:5])} change faster than they can be judged",
        code="market_data_busy",
        remedy="feed each symbol from one place",
    )


def _states(met: Mapping[str, MetTrack]) -> dict[str, SymbolState]:
    """The states that were met. Where there is none, or one that cannot be read, a stop that stands in the database is
    put up again: a store that was emptied releases nothing."""
    states = {symbol: _state(track, symbol) for symbol, track in met.items()}
    lost = [symbol for symbol, state in states.items() if state == NOTHING]
    for stop in data_stops.open_stops(lost, data_stops.TICKS) if lost else ():
        if states[stop.symbol] == NOTHING or stop.check_name == "price_jump":
            states[stop.symbol] = _remembered(stop)
    return states


def _state(met: MetTrack, symbol: str) -> SymbolState:
    """The state that was met. One that cannot be read is begun anew, and said."""
    if not met.state:
        return NOTHING
    try:
        return unpack(met.state)
    except (ValueError, KeyError, TypeError):
        log.error("track_unreadable", symbol=symbol)
        return NOTHING


def _remembered(stop: DataStop) -> SymbolState:
    """What its row says of a stopped symbol: the check, and of a jump the prices on either side of it."""
    kept = TickStop(stop.check_name, micros(stop.since), stop.evidence)
    prices = (stop.evidence.get("reference"), stop.evidence.get("price"))
    if stop.check_name != "price_jump" or not all(isinstance(price, float) and price > 0 for price in prices):
        return SymbolState(stop=kept)
    return SymbolState(track=PriceTrack(prices[0], (), prices[1]), stop=kept)


def _actions_since(
    states: Mapping[str, SymbolState], now: datetime, limits: TickLimits
) -> dict[str, dict[date, float]]:
    """The corporate actions on file of the symbols whose last good tick is of an earlier day: the database is asked by
    the first ticks of a day only."""
    today = new_york_day(micros(now) + int(limits.clock_skew * SECOND))
    earlier = [name for name, each in states.items() if each.newest is not None and new_york_day(each.newest) < today]
    return on_file(earlier) if earlier else {}


def _judge(
    state: SymbolState,
    rows: list[TickRow | RefusedRow],
    now: datetime,
    limits: TickLimits,
    actions: Mapping[date, float] = NO_ACTIONS,
) -> Batch:
    batch, met, at = Batch(state), state.stop, micros(now)
    for row in rows:
        if isinstance(row, TickRow):
            judged = judge_tick(batch.state, _tick(row, now), at, limits, actions)
        else:
            seen = {error.field.rpartition(".")[2]: str(error.value)[:40] for error in row.errors}
            judged = refused(batch.state, row.symbol, "bad_tick", at, seen)
        batch.state = judged.state
        batch.accepted += judged.accepted
        batch.verdicts += judged.verdicts
        if judged.late:
            batch.late.append(row.row)
        elif not judged.accepted:
            batch.refused[row.row] = judged.verdicts[0]
        if judged.released is not None and judged.released is not met:
            batch.stoppings.append(_stopping(row.symbol, judged.released, over_at=now))
    if batch.state.stop is not None:
        batch.stoppings.append(_stopping(rows[0].symbol, batch.state.stop))
    return batch


def _stopping(symbol: str, stop: TickStop, over_at: datetime | None = None) -> Stopping:
    return Stopping(symbol, stop.check, datetime_of(stop.since), stop.evidence, over_at)


def _tick(row: TickRow, now: datetime) -> Tick:
    exact = {
        "price": plain(row.price),
        "bid": plain(row.bid),
        "ask": plain(row.ask),
        "size": plain(row.size),
        "as_of": min(row.time, now).isoformat(),
    }
    bid = None if row.bid is None else float(row.bid)
    ask = None if row.ask is None else float(row.ask)
    return Tick(row.symbol, float(row.price), micros(row.time), bid, ask, exact)


def _shown(state: SymbolState) -> dict[str, Any] | None:
    """What a reader of the last tick sees: the last good one, and the check that has stopped the symbol since."""
    if state.last is None:
        return None
    stop = None if state.stop is None else {"check": state.stop.check, "since": moment(state.stop.since)}
    return {**state.last, "stop": stop}


def _keep_stops(batches: dict[str, Batch], actor: str, clock: Clock) -> None:
    """Bring the rows in line with the store: new stops are written, those that a clean tick ended are released."""
    clean = [symbol for symbol, batch in batches.items() if batch.accepted and batch.state.stop is None]
    release = list(data_stops.open_stops(clean, data_stops.TICKS)) if clean else []
    stoppings = [stopping for batch in batches.values() for stopping in batch.stoppings]
    data_stops.keep(stoppings, data_stops.TICKS, actor=actor, clock=clock, release=release, why=data_stops.BY_TICK)


def _touch(last: dict[str, str | None]) -> Touch:
    """The tick as the shadow book is filled by it."""
    price, size, bid, ask = (
        None if last.get(n) is None else Decimal(str(last[n])) for n in ("price", "size", "bid", "ask")
    )
    return Touch(datetime.fromisoformat(str(last["as_of"])), price or Decimal(0), size, bid, ask)


def _forward(good: dict[str, dict[str, str | None]]) -> None:
    """The paper broker fills by the good ticks."""
    if not good or settings.TRADINGBOT.broker != "paper":
        return
    quotes = [
        {
            "symbol": symbol,
            "last": last["price"],
            "bid": last["bid"] or last["price"],
            "ask": last["ask"] or last["price"],
        }
        for symbol, last in good.items()
    ]
    forward_quotes(settings.TRADINGBOT, quotes)


def _answer(rows: list[TickRow | RefusedRow], batches: dict[str, Batch]) -> dict[str, Any]:
    judged = {row: verdict for batch in batches.values() for row, verdict in batch.refused.items()}
    late = sorted(row for batch in batches.values() for row in batch.late)
    refused_rows = []
    for row in rows:
        if isinstance(row, RefusedRow) or row.row in judged:
            answer = row.as_dict() if isinstance(row, RefusedRow) else {"row": row.row, "errors": []}
            verdict = judged.get(row.row)
            refused_rows.append({**answer, "verdict": None if verdict is None else verdict_as_dict(verdict)})
    accepted = sum(batch.accepted for batch in batches.values())
    for outcome, count in (("accepted", accepted), ("late", len(late)), ("refused", len(refused_rows))):
        if count:
            metrics.TICKS.labels(outcome).inc(count)
    verdicts = merged(verdict for batch in batches.values() for verdict in batch.verdicts)
    for verdict in verdicts:
        metrics.VERDICTS.labels(verdict.check, verdict.severity.value).inc(verdict.rows)
    stopped = [
        {"symbol": symbol, "check": stop.check, "since": moment(stop.since), "released_by": released_by(stop.check)}
        for symbol, batch in batches.items()
        if (stop := batch.state.stop) is not None
    ]
    return {
        "accepted": accepted,
        "late": late,
        "refused": refused_rows,
        "verdicts": [verdict_as_dict(verdict) for verdict in verdicts],
        "stopped": stopped,
    }


def merged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict a check, severity and symbol: the first evidence, and all the rows."""
    found: dict[tuple[str, str, str], Verdict] = {}
    for verdict in verdicts:
        key = (verdict.check, verdict.severity.value, verdict.symbol)
        found[key] = verdict if key not in found else replace(found[key], rows=found[key].rows + verdict.rows)
    return list(found.values())


def verdict_as_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "check": verdict.check,
        "severity": verdict.severity.value,
        "symbol": verdict.symbol,
        "evidence": verdict.evidence,
        "rows": verdict.rows,
    }


def released_by(check: str) -> list[str]:
    return list(CATALOGUE[check].released_by)
