"""Looks after what strategies are trusted with: a canary's loss, an open breaker, a divergence beyond its bound.

Invariants: a watch only ever demotes, through the same door as people do; what it cannot tell demotes nothing here,
because the gates deny on it already.
"""

from __future__ import annotations

from decimal import Decimal

import structlog
from django.db.models import Exists, OuterRef

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.occ import multiplier_of
from backend.tradingbot.core.values import Side, plain
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.execution.routing import Mode
from backend.tradingbot.models import Breaker, CanaryDay, Execution, StrategyBuild, StrategyExposure
from backend.tradingbot.selectors.evidence import divergence
from backend.tradingbot.services.orders import hot_state
from backend.tradingbot.services.promotion import PROFILES, demote

log = structlog.get_logger(__name__)

FIGURES = {"slippage_bps": "max_slippage_bps", "fill_rate": "max_fill_rate_difference"}


def watch(*, clock: Clock) -> int:
    """Look at every build that places new risk; how many were demoted."""
    measure_losses(clock=clock)
    held = StrategyExposure.objects.filter(strategy=OuterRef("strategy")).exclude(position=0)
    StrategyBuild.objects.filter(~Exists(held), demoted=True).update(demoted=False)  # flat again: its mode governs
    rows = StrategyBuild.objects.select_related("strategy").filter(mode__in=["canary", "live"], withdrawn_at=None)
    demoted = 0
    for build in rows:
        to, reason = _verdict(build, clock)
        if to is not None:
            demote(build.strategy, build.build_id, to=to, actor="gateway", reason=reason, clock=clock)
            log.warning("strategy_demoted", strategy=build.strategy.code, to=to, reason=reason)
            demoted += 1
    return demoted


def measure_losses(*, clock: Clock) -> None:
    """Bring the loss of every canary's session up to date. A position without a price leaves it as it was."""
    for day in CanaryDay.objects.select_related("account", "strategy").order_by("-session")[:500]:
        if day.session != session_date(clock.now(), day.account.session_calendar):
            continue
        value = _value(day)
        if value is None:
            continue
        worth = value - _traded(day)
        start = _value_at_start(day) if day.start_value is None else day.start_value
        CanaryDay.objects.filter(pk=day.pk).update(start_value=start, loss=max(start - worth, Decimal(0)))


def _verdict(build: StrategyBuild, clock: Clock) -> tuple[str | None, str]:
    scope = f"strategy:{build.strategy.code}"
    open_breaker = Breaker.objects.filter(scope=scope, tripped_at__gte=build.mode_since).first()
    if open_breaker is not None:
        return "shadow", f"the breaker {scope} is open: {open_breaker.reason}"[:200]
    if build.mode == Mode.CANARY:
        over = CanaryDay.objects.filter(strategy=build.strategy, loss__gte=build.strategy.canary_max_loss)
        today = [day for day in over if day.session == session_date(clock.now(), day.account.session_calendar)]
        if today:
            limit = plain(build.strategy.canary_max_loss)
            return "shadow", f"the canary lost {plain(today[0].loss)} in a day; the cap is {limit}"
    return _diverged(build)


def _diverged(build: StrategyBuild) -> tuple[str | None, str]:
    profile = PROFILES.get(build.strategy.promotion_profile)
    if profile is None:
        return None, ""
    bar, found = profile[Mode.LIVE], divergence(build, build.mode_since, None)
    for figure, bound_name in FIGURES.items():
        bound, least = getattr(bar, bound_name), found.least(figure)
        if bound is not None and least is not None and least > bound:
            to = "shadow" if build.mode == Mode.CANARY else "canary"
            return to, f"{figure} of shadow and real orders differ by at least {least:.3g}; the bound is {bound:g}"
    return None, ""


def _value(day: CanaryDay) -> Decimal | None:
    """What the strategy's real positions of the account are worth now; None when one has no price."""
    total, hot = Decimal(0), hot_state()
    held = StrategyExposure.objects.filter(account=day.account, strategy=day.strategy).exclude(position=0)
    for symbol, position in held.values_list("symbol", "position"):
        try:
            quote = hot.quote(symbol)
        except UnavailableError:
            return None
        if quote is None:
            return None
        total += position * quote.price * (multiplier_of(symbol) or Decimal(1))
    return total


def _value_at_start(day: CanaryDay) -> Decimal:
    """What was held before the session's first execution, at what it cost then: its earlier executions added up."""
    total = Decimal(0)
    rows = Execution.objects.filter(account=day.account, order__strategy=day.strategy).order_by("id")
    for side, qty, price, symbol, at in rows.values_list("side", "qty", "price", "symbol", "occurred_at")[:100_000]:
        if session_date(at, day.account.session_calendar) < day.session:
            total += qty * price * Side(side).sign * (multiplier_of(symbol) or Decimal(1))
    return total


def _traded(day: CanaryDay) -> Decimal:
    """What the session's executions cost, in account currency: above zero when more was bought than sold."""
    total = Decimal(0)
    rows = Execution.objects.filter(account=day.account, order__strategy=day.strategy).order_by("-id")
    for side, qty, price, symbol, at in rows.values_list("side", "qty", "price", "symbol", "occurred_at")[:10_000]:
        if session_date(at, day.account.session_calendar) < day.session:
            break
        total += qty * price * Side(side).sign * (multiplier_of(symbol) or Decimal(1))
    return total
