"""Looks after what strategies are trusted with: a canary's loss, an open breaker, a divergence beyond its bound.

Invariants: a watch only ever demotes, through the same door as people do; what it cannot tell demotes nothing here,
because the gates deny on it already.
"""

from __future__ import annotations

import structlog
from django.db.models import Exists, OuterRef, Q

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.execution.routing import Mode
from backend.tradingbot.models import Breaker, CanaryDay, Order, StrategyBuild, StrategyExposure
from backend.tradingbot.selectors.evidence import divergence_to_watch
from backend.tradingbot.services.canary_loss import measure_losses
from backend.tradingbot.services.promotion import demote
from backend.tradingbot.services.promotion_bars import bar_in_force

log = structlog.get_logger(__name__)

COUNTED = Q(status__in=[status.value for status in OPEN]) | Q(watch_until__isnull=False)
FEWEST = 20
LATELY = 2_000  # a watch comes every few seconds, and what was long ago is no reason to demote now
FIGURES = {"slippage_bps": "max_slippage_bps", "fill_rate": "max_fill_rate_difference"}


def watch(*, clock: Clock) -> int:
    """Look at every build that places new risk; how many were demoted."""
    measure_losses(clock=clock)
    held = StrategyExposure.objects.filter(strategy=OuterRef("strategy")).exclude(position=0)
    works = Order.objects.filter(COUNTED, strategy=OuterRef("strategy"), qty__gt=0)  # may fill, and then it is not flat
    StrategyBuild.objects.filter(~Exists(held), ~Exists(works), demoted=True).update(demoted=False)
    rows = StrategyBuild.objects.select_related("strategy").filter(mode__in=["canary", "live"], withdrawn_at=None)
    demoted = 0
    for build in rows:
        to, reason = _verdict(build, clock)
        if to is not None:
            demote(build.strategy, build.build_id, to=to, actor="gateway", reason=reason, clock=clock)
            log.warning("strategy_demoted", strategy=build.strategy.code, to=to, reason=reason)
            demoted += 1
    return demoted


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
    bar = bar_in_force(build.strategy.promotion_profile, Mode.LIVE)
    if bar is None:
        return None, ""
    found = divergence_to_watch(build, most=LATELY)
    for figure, bound_name in FIGURES.items():
        bound, least = getattr(bar, bound_name), found.least(figure)
        if min(getattr(side, figure).n for side in (found.shadow, found.live)) < FEWEST:
            continue  # a handful of equal orders has an interval of no width, and proves nothing
        if bound is not None and least is not None and least > bound:
            to = "shadow" if build.mode == Mode.CANARY else "canary"
            return to, f"{figure} of shadow and real orders differ by at least {least:.3g}; the bound is {bound:g}"
    return None, ""
