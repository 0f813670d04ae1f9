"""The page that compares a build's shadow trading with its real trading, in all and on one day."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from backend.tradingbot.models import StrategyBuild
from backend.tradingbot.ops.divergence import Divergence
from backend.tradingbot.ops.divergence_chart import chart, figure, told
from backend.tradingbot.selectors.evidence import divergence_by_day, report_begins

FIGURES = (
    ("fill_rate", "Fill rate", "%", "of the orders that were let through, how many filled whole"),
    ("slippage_bps", "Slippage", "bps", "paid beyond the touch at the decision; below zero is better than it"),
    ("pnl", "P&L an order", "", "at the session's last price, in account currency, fees left out"),
    ("refusals", "Refusals", "%", "of all orders, those that a gate denied or the broker rejected"),
    ("latency", "Latency", "s", "from the decision to the first execution"),
)
MOST_DAYS = 15


def divergence_page(admin: ModelAdmin, request: HttpRequest, row: StrategyBuild) -> HttpResponse:
    begins = report_begins(row)
    whole, by_day = divergence_by_day(row, begins, None)
    chosen = _day(request.GET.get("day", ""), by_day)
    compared = whole if chosen is None else by_day[chosen]
    context: dict[str, Any] = {
        **admin.admin_site.each_context(request),
        "opts": row._meta,
        "row": row,
        "begins": begins,
        "began_in": row.mode if begins == row.mode_since else "canary",
        "title": f"Shadow against live: {row}",
        "back": reverse("admin:tradingbot_strategybuild_change", args=[row.pk]),
        "days": list(by_day),
        "chosen": chosen,
        "figures": [_figure(compared, by_day, chosen, *about) for about in FIGURES],
        "empty": not by_day,
    }
    return TemplateResponse(request, "admin/tradingbot/divergence.html", context)


def _day(raw: str, by_day: dict[date, Divergence]) -> date | None:
    return next((day for day in by_day if str(day) == raw), None)


def _figure(
    compared: Divergence,
    by_day: dict[date, Divergence],
    chosen: date | None,
    name: str,
    title: str,
    unit: str,
    says: str,
) -> dict[str, Any]:
    shadow, live = getattr(compared.shadow, name), getattr(compared.live, name)
    rows = [("in all" if chosen is None else str(chosen), shadow, live)]
    if chosen is None:
        days = list(by_day.items())[:MOST_DAYS]
        rows += [(str(day), getattr(each.shadow, name), getattr(each.live, name)) for day, each in days]
    least = compared.least(name)
    return {
        "title": title, "says": says, "shadow": told(shadow, unit), "live": told(live, unit),
        "shadow_n": shadow.n, "live_n": live.n, "worst": figure(compared.worst(name), unit),
        "apart": least is not None and least > 0,
        "chart": SafeString(chart(f"{title}: shadow against live", unit, rows)),  # which escapes its texts
    }  # fmt: skip
