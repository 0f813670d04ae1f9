"""How the control room writes figures: rounded for the eye, exact on hover, and never a colour without its word."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.values import plain

register = template.Library()
ICONS = {"danger": "error", "warning": "warning", "normal": ""}
FULL = Decimal(100)


@register.filter
def figure(value: Any) -> str:
    """``1234567.891`` -> ``1,234,567.89``: two decimals, none from a thousand on, none needlessly."""
    if value is None:
        return "unknown"
    number = Decimal(str(value))
    shown = round(number, 0 if abs(number) >= 1000 else 2)
    return f"{shown:,.2f}".rstrip("0").rstrip(".") if shown % 1 else f"{int(shown):,}"


@register.filter
def signed(value: Any) -> str:
    """The same with its sign, for changes."""
    return "" if value is None else ("+" if value > 0 else "") + figure(value)


@register.filter
def percent(value: Any) -> str:
    """``0.0312`` -> ``3.1 %``."""
    if value is None:
        return "unknown"
    number = Decimal(str(value)) * 100
    return f"{number:.0f} %" if number >= 100 or number == int(number) else f"{number:.1f} %"


@register.filter
def exact(value: Any) -> str:
    return str(plain(value) if isinstance(value, Decimal) else value)


@register.simple_tag
def moment(at: datetime | None, tells: str = "age") -> SafeString | str:
    """A time of day that a script keeps telling the age of, or the time left until (``tells="left"``)."""
    if at is None:
        return "-"
    return format_html(
        '<time class="moment" datetime="{}" data-tells="{}" title="{}">{}</time>',
        rfc3339(at), tells, at.strftime("%Y-%m-%d %H:%M:%S UTC"), at.strftime("%m-%d %H:%M:%S"),
    )  # fmt: skip


@register.inclusion_tag("admin/tradingbot/overview/bar.html")
def usage_bar(use: Any) -> dict[str, Any]:
    """One limit: the figures, a bar of what is used, and a word when that is not normal."""
    used = None if use.used is None else min(use.used * 100, FULL)
    is_share = use.name == "Drawdown"
    return {
        "use": use,
        "width": None if used is None else f"{used:.1f}",
        "icon": ICONS[use.level],
        "value": percent(use.value) if is_share else figure(use.value),
        "limit": None if use.limit is None else (percent(use.limit) if is_share else figure(use.limit)),
    }


@register.inclusion_tag("admin/tradingbot/overview/badge.html")
def badge(word: str, level: str = "normal", icon: str = "") -> dict[str, Any]:
    """A word with its icon; grey unless something is wrong."""
    return {"word": word, "level": level, "icon": icon or ICONS[level]}
