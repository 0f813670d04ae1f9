"""The flatten service: takes the positions of a halted scope to zero, slice by slice, through the same order path.

Invariants: a slice only reduces, which the gates check under the account's lock; one slice a position works at a time;
one that is not executed in time is cancelled and made anew at the market; what a gate refuses is tried again later,
smaller and nearer to the touch. Nothing is placed for a position while another order of the scope is open in it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.core.values import OrderIntent, OrderType, TimeInForce, plain
from backend.tradingbot.execution.order_state import Status
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import KillSwitchOrder, KillSwitchRun, Order, Strategy
from backend.tradingbot.risk.flatten import Slice, next_slice
from backend.tradingbot.selectors.risk import read_quote
from backend.tradingbot.selectors.scopes import HeldPosition, open_orders, positions_of
from backend.tradingbot.services import cancels, mass_cancel
from backend.tradingbot.services.accounts import create_strategy
from backend.tradingbot.services.orders import submit_order

log = structlog.get_logger(__name__)

HOUSE_STRATEGY = "flatten"
LONGEST_PAUSE = 60


def prefix(run: KillSwitchRun) -> str:
    """What the client order ids of a run's slices begin with. The token is random, so that nobody can use them up."""
    return f"flatten-{run.token}-"


def actor_of(run: KillSwitchRun) -> str:
    return f"kill-switch:{run.token}"


def step(run: KillSwitchRun, *, clock: Clock) -> int:
    """Place, replace or wait for one slice of each position; how many are not flat, or still have something working."""
    held = {(position.account.pk, position.symbol): position for position in positions_of(run.scope)}
    working: dict[tuple[int, str], list[Order]] = {}
    for order in open_orders(run.scope):
        working.setdefault((order.account.pk, order.symbol), []).append(order)
    for key, orders in working.items():
        patience = settings.TRADINGBOT.flatten_patience_seconds if key in held else 0
        _renew([order for order in orders if order.client_order_id.startswith(prefix(run))], patience, clock)
    for key, position in held.items():
        if key not in working and _may_try(run, position, clock.now()):
            _place(run, position, clock)
    names = {_name(position) for position in held.values()}
    run.positions = {name: progress for name, progress in run.positions.items() if name in names}
    return len(held.keys() | working.keys())


def withdraw(run: KillSwitchRun, *, actor: str, clock: Clock) -> None:
    """Wish the working slices of a run that was stopped away; recovery sends the cancels."""
    slices = open_orders(run.scope).filter(client_order_id__startswith=prefix(run))
    mass_cancel.store_wishes(slices, actor=actor, clock=clock)


def _renew(slices: list[Order], patience: float, clock: Clock) -> None:
    """Cancel what was not executed in time; the next pass places the rest at the market as it is then."""
    for order in slices:
        waited = (clock.now() - order.created_at).total_seconds()
        if order.cancel_requested_at is None and waited >= patience:
            try:
                cancels.cancel_order(order, actor="flatten", clock=clock)
            except TradingbotError as error:  # it ended, or the wish stands and is sent later
                log.info("slice_not_cancelled", client_order_id=order.client_order_id, problem=error.message)


def _place(run: KillSwitchRun, position: HeldPosition, clock: Clock) -> None:
    quote, problem = read_quote(hot_state(), position.symbol)
    progress = run.positions.get(_name(position), {})
    if quote is None:
        _note(run, position, clock, last="no_price", detail=problem or "no tick was ever seen")
        return
    part = next_slice(
        position.qty,
        quote,
        collar_bps=position.account.market_collar_bps,
        most_value=settings.TRADINGBOT.flatten_slice_value,
        refusals=progress.get("refusals", 0),
    )
    if part is None:
        _note(run, position, clock, last="no_price", detail="the last price is of no use")
        return
    run.slices += 1
    KillSwitchRun.objects.filter(pk=run.pk).update(slices=run.slices)  # before the send: an id is used once
    try:
        order = _submit(run, position, part, clock)
    except TradingbotError as error:
        _note(run, position, clock, last=error.code, detail=error.message, refused=True)
        return
    KillSwitchOrder.objects.get_or_create(
        run=run, order=order, defaults={"purpose": "flatten", "outcome": str(order.status)}
    )
    failed = [check["code"] for check in order.decision["checks"] if not check["passed"]]
    refused = order.status in (Status.DENIED, Status.REJECTED)
    _note(run, position, clock, last=str(order.status), detail=", ".join(failed), refused=refused)


def _submit(run: KillSwitchRun, position: HeldPosition, part: Slice, clock: Clock) -> Order:
    strategy = _strategy(run)
    intent = OrderIntent(
        client_order_id=f"{prefix(run)}{run.slices}",
        account=position.account.code,
        strategy=strategy.code,
        symbol=position.symbol,
        side=part.side,
        qty=part.qty,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        limit_price=part.limit_price,
    )
    submission = submit_order(
        intent, account=position.account, strategy=strategy, actor=actor_of(run), flattening=True, clock=clock
    )
    return submission.order


def _strategy(run: KillSwitchRun) -> Strategy:
    """The scope's own strategy, so that its share goes to zero; for every other scope the house's."""
    kind, _, key = run.scope.partition(":")
    code = key if kind == "strategy" else HOUSE_STRATEGY
    found = Strategy.objects.filter(code=code).first()
    return found or create_strategy(code=code, name="Flatten service", actor=actor_of(run))


def _name(position: HeldPosition) -> str:
    return f"{position.account.code} {position.symbol}"


def _may_try(run: KillSwitchRun, position: HeldPosition, now: datetime) -> bool:
    pause_until = run.positions.get(_name(position), {}).get("next_try_at")
    return pause_until is None or now >= datetime.fromisoformat(pause_until)


def _note(
    run: KillSwitchRun, position: HeldPosition, clock: Clock, *, last: str, detail: str, refused: bool = False
) -> None:
    """What the last attempt came to. After a refusal the next one is half as large, and later each time."""
    refusals = run.positions.get(_name(position), {}).get("refusals", 0) + 1 if refused else 0
    pause = timedelta(seconds=min(2**refusals, LONGEST_PAUSE)) if refused else timedelta(0)
    run.positions[_name(position)] = {
        "left": plain(position.qty),
        "last": last,
        "detail": detail[:200],
        "refusals": refusals,
        "next_try_at": rfc3339(clock.now() + pause),
    }
