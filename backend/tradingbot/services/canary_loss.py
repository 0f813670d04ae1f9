"""What a canary lost in the session so far: its positions and executions at the opening prices and at the present ones.

Invariants: a session begins with what was held then, at the price last seen in the session before it, else at the first
price seen in this one, never at cost: yesterday's gain does not pay for today's loss, nor yesterday's loss for nothing
today. A position without a price leaves the figure as it was: the gates deny on it already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db.models import Q

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.occ import multiplier_of
from backend.tradingbot.core.values import Side, plain
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account, CanaryDay, Execution, Strategy, StrategyBuild, StrategyExposure

ZERO = Decimal(0)
LONGEST_BREAK = timedelta(days=5)  # between two sessions that follow each other


@dataclass
class _Name:
    """One symbol of the strategy: what it holds now, and what this session's executions added and cost."""

    position: Decimal = ZERO
    traded: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def at_open(self) -> Decimal:
        return self.position - self.traded


def measure_losses(*, clock: Clock) -> None:
    """Bring the loss of every canary's session up to date; a session is begun for one that only holds."""
    now = clock.now()
    canaries = StrategyBuild.objects.filter(mode="canary", withdrawn_at=None).values("strategy")
    for strategy in Strategy.objects.filter(pk__in=canaries):
        for account in _accounts(strategy):
            session = session_date(now, account.session_calendar)
            day, _ = CanaryDay.objects.get_or_create(account=account, strategy=strategy, session=session)
            _measure(day, now)


def _accounts(strategy: Strategy) -> Iterable[Account]:
    """Those in which the strategy holds something or did something lately."""
    holds = Q(pk__in=StrategyExposure.objects.filter(strategy=strategy).exclude(position=0).values("account"))
    newest = CanaryDay.objects.filter(strategy=strategy).order_by("-session").values_list("session", flat=True).first()
    did = Q(pk__in=CanaryDay.objects.filter(strategy=strategy, session=newest).values("account"))
    return Account.objects.filter(holds | did if newest else holds)


def _measure(day: CanaryDay, now: datetime) -> None:
    names = _names(day, now)
    if not names and not day.orders:
        return
    prices = _prices(names)
    if any(name.position and symbol not in prices for symbol, name in names.items()):
        return
    opening = _opening(day, names, prices)
    if opening is None:
        return
    start = sum((_worth(symbol, name.at_open, opening) for symbol, name in names.items()), ZERO)
    worth = sum((_worth(symbol, name.position, prices) for symbol, name in names.items()), ZERO)
    cost = sum((name.cost for name in names.values()), ZERO)
    CanaryDay.objects.filter(pk=day.pk).update(
        opening={symbol: plain(price) for symbol, price in opening.items()},
        marks={symbol: plain(price) for symbol, price in prices.items()},
        start_value=start,
        loss=max(start + cost - worth, ZERO),
    )


def _names(day: CanaryDay, now: datetime) -> dict[str, _Name]:
    names: dict[str, _Name] = defaultdict(_Name)
    held = StrategyExposure.objects.filter(account=day.account, strategy=day.strategy).exclude(position=0)
    for symbol, position in held.values_list("symbol", "position"):
        names[symbol].position = position
    lately = Execution.objects.filter(
        account=day.account, order__strategy=day.strategy, occurred_at__gte=now - LONGEST_BREAK
    )
    for side, qty, price, symbol, at in lately.values_list("side", "qty", "price", "symbol", "occurred_at").iterator():
        if session_date(at, day.account.session_calendar) >= day.session:
            signed = qty * Side(side).sign
            names[symbol].traded += signed
            names[symbol].cost += signed * price * (multiplier_of(symbol) or Decimal(1))
    return names


def _opening(day: CanaryDay, names: dict[str, _Name], prices: dict[str, Decimal]) -> dict[str, Decimal] | None:
    """The price at which each name that was held at the session's begin counts; None when one has none yet."""
    known = {symbol: Decimal(price) for symbol, price in day.opening.items()}
    before: dict[str, str] = {}
    if any(name.at_open and symbol not in known for symbol, name in names.items()):
        before = _marks_before(day)
    for symbol, name in names.items():
        if name.at_open and symbol not in known:
            price = Decimal(before[symbol]) if symbol in before else prices.get(symbol)
            if price is None:
                return None
            known[symbol] = price
    return known


def _marks_before(day: CanaryDay) -> dict[str, str]:
    """What was last seen in the session before; an older one says nothing of this session's begin."""
    oldest: date = day.session - LONGEST_BREAK
    earlier = CanaryDay.objects.filter(
        account=day.account, strategy=day.strategy, session__lt=day.session, session__gte=oldest
    )
    newest = earlier.order_by("-session").first()
    return {} if newest is None else newest.marks


def _prices(names: Iterable[str]) -> dict[str, Decimal]:
    found, hot = {}, hot_state()
    for symbol in names:
        try:
            quote = hot.quote(symbol)
        except UnavailableError:
            continue
        if quote is not None:
            found[symbol] = quote.price
    return found


def _worth(symbol: str, qty: Decimal, prices: dict[str, Decimal]) -> Decimal:
    return ZERO if not qty else qty * prices[symbol] * (multiplier_of(symbol) or Decimal(1))
