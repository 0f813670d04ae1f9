"""Exposure by measure and side, and how much of each limit it uses, as gauges.

Told of every account, of the firm and of every strategy; of a symbol only where it has a limit of its own.
``name_delta`` and its like are an account's worst name, whichever it is, against the tightest limit that the firm and
the account set for any name: a bounded number of series, however many names are held. An exposure is told whether it is
limited or not, a limit and its use only where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Max, Min, Q, QuerySet
from django.db.models.functions import Now
from prometheus_client.core import Metric

from backend.tradingbot.models import AccountExposure, LimitVersion, NameExposure, SharedHeadroom
from backend.tradingbot.risk.exposure import BETA, DELTA, GAMMA, NET, THETA, VEGA
from backend.tradingbot.risk.limits import FIRM, SHARED
from backend.tradingbot.selectors.limits import in_force
from backend.tradingbot.selectors.section import gauge, section
from backend.tradingbot.selectors.snapshot import Rows

ZERO = Decimal(0)


@dataclass(frozen=True)
class Side:
    """One side of a measure: where it stands in the sums, and the kinds that limit it for a book and for one name."""

    measure: str
    side: str
    index: int
    kind: str
    name_kind: str = ""

    @property
    def column(self) -> str:
        """``high`` is the most that open orders can make of it, ``low`` the least."""
        return "high" if self.side == "long" else "low"

    def amount(self, figure: Decimal | None) -> Decimal:
        known = figure or ZERO
        return max(known if self.side == "long" else -known, ZERO)


SIDES = (
    *(
        Side(measure, side, index, f"portfolio_{kind}_max", f"name_{kind}_max")
        for measure, index, kind in (
            ("delta", DELTA, "delta"),
            ("gamma", GAMMA, "gamma"),
            ("vega", VEGA, "vega"),
            ("beta", BETA, "beta_exposure"),
        )
        for side in ("long", "short")
    ),
    Side("theta", "decay", THETA, "portfolio_theta_loss_max", "name_theta_loss_max"),
    Side("net", "long", NET, "net_exposure_max"),
    Side("net", "short", NET, "net_exposure_max"),
)
NAME_SIDES = {f"name_{each.measure}_{each.side}": each for each in SIDES if each.name_kind}


def _worst_names() -> QuerySet[NameExposure, dict[str, object]]:
    """Of every account the worst name on each side."""
    worst = {
        name: (Max if each.column == "high" else Min)(f"{each.column}__{each.index}")
        for name, each in NAME_SIDES.items()
    }
    return NameExposure.objects.filter(account__active=True).order_by().values("account__code").annotate(**worst)


def _shared() -> QuerySet[SharedHeadroom, dict[str, object]]:
    limited = LimitVersion.objects.filter(state="in_force").values("scope")
    told = ~Q(scope__contains="symbol:") | Q(scope__in=limited)
    return SharedHeadroom.objects.filter(told).values("scope", "reserved", "low", "high")


@section(
    versions=lambda: in_force(Now()).values("scope", "kind", "value"),
    accounts=lambda: AccountExposure.objects.filter(account__active=True).values(
        "account__code", "gross", "low", "high"
    ),
    names=_worst_names,
    shared=_shared,
)
def limits(_: datetime, versions: Rows, accounts: Rows, names: Rows, shared: Rows) -> Iterator[Metric]:
    limit = {(row["scope"], row["kind"]): row["value"] for row in versions if row["value"] is not None}
    amounts: list[tuple[list[str], float]] = []
    used: list[tuple[list[str], float]] = []
    bounds: list[tuple[list[str], float]] = []

    def add(labels: list[str], amount: Decimal, *limited: tuple[str, str]) -> None:
        amounts.append((labels, float(amount)))
        bound = min((limit[each] for each in limited if each in limit), default=None)
        if bound is not None:
            used.append((labels, _fraction(amount, bound)))
            bounds.append((labels, float(bound)))

    sums = [(f"account:{row['account__code']}", row["gross"], row) for row in accounts]
    for scope, gross, row in [*sums, *((row["scope"], row["reserved"], row) for row in shared)]:
        add([scope, "gross", "both"], gross, (scope, SHARED))
        for each in SIDES:
            amount = each.amount(row[each.column][each.index])
            add([scope, each.measure, each.side], amount, (scope, each.kind))
    for row in names:
        scope = f"account:{row['account__code']}"
        for name, each in NAME_SIDES.items():
            labels = [scope, f"name_{each.measure}", each.side]
            add(labels, each.amount(row[name]), (FIRM, each.name_kind), (scope, each.name_kind))
    labels = ["scope", "measure", "side"]
    yield gauge(
        "exposure", "Exposure at its worst, open orders included; of name_*, that of the worst name.", labels, amounts
    )
    yield gauge("limit_utilisation", "The fraction of a limit that is used.", labels, used)
    yield gauge("limit", "A limit in force.", labels, bounds)


def _fraction(value: Decimal, limit: Decimal) -> float:
    """Of a limit of zero nothing may be used: whatever is, is beyond it."""
    if limit > 0:
        return float(value / limit)
    return float("inf") if value > 0 else 0.0
