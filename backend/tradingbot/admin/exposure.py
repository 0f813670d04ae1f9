"""An account's exposure on one page: what is used of each limit, name by name, the stress grid, and what an order would
do to it.

The what-if form asks ``check_order``, which is what ``POST orders/check`` asks: nothing is written. Invariants: every
bar stands beside its number, every shade beside a figure and a mark; what cannot be told is said in words.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from backend.tradingbot.admin.asking import show_refusal
from backend.tradingbot.admin.evidence import actor_of
from backend.tradingbot.admin.rendering import decision_table
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import TradingbotError, UnavailableError
from backend.tradingbot.core.parsing import parse_order
from backend.tradingbot.core.values import OrderIntent, plain
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account, Strategy
from backend.tradingbot.risk.gates import Decision
from backend.tradingbot.risk.stress import CELLS, DAYS, SPOTS, VOLATILITIES, Cell
from backend.tradingbot.selectors.utilisation import exposure_of
from backend.tradingbot.services.orders import check_order

NEARLY = Decimal("0.8")
SAYS = {
    "gross": "Gross value",
    "net": "Net value",
    "delta": "Delta, shares",
    "gamma": "Gamma, shares a point",
    "theta": "Theta, a day",
    "vega": "Vega, a vol point",
    "beta_exposure": "Beta-weighted value",
}
SHADES = 4
WHOLE_FROM = 1_000  # a cell of the grid is an estimate: from here on its cents say nothing


@dataclass(frozen=True)
class Use:
    """One figure against its limit, in words. ``bar`` is what of the bar is full, ``state`` its class and its word."""

    name: str
    figure: str
    limit: str
    used: str
    bar: str | None
    state: str


@dataclass(frozen=True)
class StressCell:
    """``mark`` says the shade without colour: one to four triangles down for a loss, up for a gain."""

    figure: str
    shade: str
    mark: str
    worst: bool


class WhatIfForm(forms.Form):
    """An order that is not sent. Numbers stay text: the order's own parser reads them."""

    strategy = forms.ChoiceField(widget=UnfoldAdminSelectWidget())
    symbol = forms.CharField(max_length=32, widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}))
    side = forms.ChoiceField(choices=[("buy", "buy"), ("sell", "sell")], widget=UnfoldAdminSelectWidget())
    qty = forms.CharField(
        label="Quantity",
        max_length=32,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "inputmode": "decimal"}),
    )
    limit_price = forms.CharField(
        label="Limit price, empty for a market order",
        required=False,
        max_length=32,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "inputmode": "decimal"}),
    )
    time_in_force = forms.ChoiceField(
        choices=[(word, word) for word in ("day", "gtc", "ioc")], widget=UnfoldAdminSelectWidget()
    )

    def __init__(self, account: Account, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.account = account
        codes = Strategy.objects.filter(active=True).order_by("code").values_list("code", flat=True)
        self.fields["strategy"].choices = [(code, code) for code in codes]  # type: ignore[attr-defined]

    def intent(self) -> OrderIntent:
        """Raises InvalidInputError by field."""
        entered = self.cleaned_data
        price = entered["limit_price"].strip()
        body = {name: entered[name] for name in ("strategy", "side", "time_in_force")}
        terms = {"type": "limit", "limit_price": price} if price else {"type": "market"}
        return parse_order(
            {
                "client_order_id": f"what-if-{secrets.token_hex(8)}",
                "account": self.account.code,
                "symbol": entered["symbol"].strip().upper(),
                "qty": entered["qty"].strip(),
                **body,
                **terms,
            }
        )


def exposure_page(admin: ModelAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """GET shows the page; with the form's fields in the address it also asks every gate."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    account = Account.objects.filter(pk=object_id).first() if object_id.isdecimal() else None
    if account is None:
        raise Http404(f"there is no account {object_id}")
    asked = "qty" in request.GET
    form = WhatIfForm(account, request.GET if asked else None)
    decision = _decide(form, request) if asked and form.is_valid() else None
    shown, problem = _exposure(account)
    context = {
        **admin.admin_site.each_context(request),
        "opts": Account._meta,
        "title": f"Exposure of {account.code}",
        "account": account,
        "back": reverse("admin:tradingbot_account_change", args=[account.pk]),
        "shown": shown,
        "problem": problem,
        "form": form,
        "decision": decision,
        "decision_table": None if decision is None else decision_table(decision.as_dict()),
        "refused_by": [] if decision is None else [check for check in decision.checks if not check.passed],
        **page_parts(shown),
    }
    answer = TemplateResponse(request, "admin/tradingbot/exposure.html", context)
    answer.status_code = 422 if form.errors else 200
    return answer


def _decide(form: WhatIfForm, request: HttpRequest) -> Decision | None:
    try:
        return check_order(form.intent(), actor=actor_of(request), clock=SYSTEM_CLOCK)
    except TradingbotError as error:
        show_refusal(form, error)
        return None


def _exposure(account: Account) -> tuple[dict[str, Any], str]:
    now = SYSTEM_CLOCK.now()
    try:
        return exposure_of(account, hot_state(), now), ""
    except UnavailableError as error:
        return exposure_of(account, None, now), f"How many orders came lately cannot be told: {error.message}."


def page_parts(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the page, as text, from what ``GET accounts/{code}/exposure`` answers."""
    portfolio, stress = shown["portfolio"], shown["stress"]
    return {
        "uses": [] if portfolio is None else [use(SAYS[name], portfolio[name]) for name in SAYS],
        "names": [_name(row) for row in shown["names"]],
        "headroom": [use(f"{row['scope']}: {row['kind'].removesuffix('_max')}", row) for row in shown["headroom"]],
        "rates": [] if shown["rates"] is None else _rates(shown["rates"]),
        "stress": None if stress is None else stress_table(stress),
        "stress_rows": [] if stress is None else [use("Loss in the worst cell", stress["worst"])],
        "at": [(shown.get(name) or "")[:19].replace("T", " ") for name in ("as_of", "updated_at")],
        "money": [(name, amount(shown[key])) for name, key in MONEY],
    }


MONEY = (("Equity", "equity"), ("Cash", "cash"), ("Reserved for open orders", "reserved_cash"))


def _rates(rates: Mapping[str, Any]) -> list[Use]:
    return [use("Orders in 60 s", rates["orders"]), use("Cancels in 60 s, never held back", rates["cancels"])]


def _name(row: Mapping[str, Any]) -> dict[str, Any]:
    share = row["concentration_bps"]
    greeks = [use(SAYS[name], row[name]) for name in SAYS if name not in ("gross", "net")]
    return {
        "symbol": row["symbol"],
        "known": row["known"],
        "gross": amount(row["gross"]),
        "net": ends(row["net"]),
        "share": None if share is None else use("of equity", share),
        "percent": "not known" if share is None else f"{Decimal(share['value']) / 100:.1f} %",
        "greeks": greeks,
        "source": row["source"] or "not known",
    }


def use(name: str, said: Mapping[str, Any]) -> Use:
    """One line with its bar; ``said`` has value, limit, used, and low and high when it has two ends."""
    figure = ends(said) if "low" in said else amount(said["value"])
    if said["limit"] is None:
        return Use(name, figure, "no limit", "", None, "free")
    if said["used"] is None:
        full = Decimal(said["value"]) > 0
        return Use(name, figure, "0", "over" if full else "nothing allowed", "1" if full else "0", "over")
    used = Decimal(said["used"])
    state = "over" if used > 1 else "near" if used >= NEARLY else "fine"
    word = {"over": ", over the limit", "near": ", near the limit", "fine": ""}[state]
    return Use(name, figure, amount(said["limit"]), f"{used * 100:.1f} %{word}", plain(min(used, Decimal(1))), state)


def ends(said: Mapping[str, Any]) -> str:
    """``low to high`` where open orders leave a range, else the one figure."""
    low, high = amount(said["low"]), amount(said["high"])
    return low if low == high else f"{low} to {high}"


def amount(text: str | None) -> str:
    """Grouped by thousands; two decimals from one up, four significant digits below."""
    if text is None:
        return "not known"
    value = Decimal(text)
    if value == 0:
        return "0"
    if abs(value) >= 1:
        return f"{value:,.2f}".removesuffix(".00")
    return f"{value:.4g}" if abs(value) >= Decimal("0.0001") else f"{value:.1e}"


def stress_table(stress: Mapping[str, Any]) -> dict[str, Any]:
    """Rows by spot, columns by volatility and days. Each cell is the least that the book can bring there."""
    profits = [Decimal(cell["profit"]) for cell in stress["cells"]]
    largest = max((abs(profit) for profit in profits), default=Decimal(0))
    worst = stress["worst"]["cell"]
    named = {cell.name: cell for cell in CELLS}
    cells = {
        (cell.spot, cell.volatility, cell.days): _cell(profit, largest, said["cell"] == worst and profit < 0)
        for cell, profit, said in zip(CELLS, profits, stress["cells"], strict=True)
    }
    columns = [(volatility, days) for volatility in VOLATILITIES for days in DAYS]
    return {
        "worst_cell": worst if worst not in named else _in_words(named[worst]),
        "columns": [f"vol. {volatility - 1:+.0%}, {_days(days)}" for volatility, days in columns],
        "rows": [(f"{spot:+.0%}", [cells[spot, *column] for column in columns]) for spot in SPOTS],
    }


def _in_words(cell: Cell) -> str:
    return f"price {cell.spot:+.0%}, volatility {cell.volatility - 1:+.0%}, {_days(cell.days)}"


def _days(days: int) -> str:
    return "now" if days == 0 else f"in {days} days"


def _cell(profit: Decimal, largest: Decimal, worst: bool) -> StressCell:
    if profit == 0 or largest == 0:
        return StressCell("0", "even", "", worst)
    level = min(SHADES, 1 + int(abs(profit) / largest * SHADES))
    kind, triangle = ("loss", "\u25bc") if profit < 0 else ("gain", "\u25b2")
    shown = amount(str(round(profit) if abs(profit) >= WHOLE_FROM else profit))
    return StressCell(shown, f"{kind}-{level}", triangle * level, worst)
