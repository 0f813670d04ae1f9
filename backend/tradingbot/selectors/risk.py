"""The one frozen snapshot that an order is judged by. Read under the account's lock when the order is to be placed.

Everything that the gates may know comes in one statement. It is made of sections: each is a sub-select that gives one
JSON value (money as text, so that it stays exact) and a function that turns it into fields of the snapshot. ``STOPS``
are the sections that are read again right before the send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Q

from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import Account, Order, RiskRow
from backend.tradingbot.risk.gates import OpenBreaker, Quote, RiskSnapshot
from backend.tradingbot.risk.trading_state import ScopeState

OPEN_WORDS = ", ".join(f"'{status}'" for status in sorted(OPEN))  # literal, so that the partial index fits

STOPS = {
    "breakers": """
        SELECT coalesce(jsonb_agg(jsonb_build_object('scope', scope, 'reason', reason,
          'open', tripped_at IS NOT NULL, 'evaluated_at', evaluated_at) ORDER BY scope), '[]')
        FROM tradingbot_breaker WHERE scope = ANY(%(scopes)s)""",
    "trading_states": """
        SELECT coalesce(jsonb_agg(jsonb_build_object('scope', scope, 'state', state, 'reason', reason)
          ORDER BY scope), '[]')
        FROM tradingbot_tradingstate WHERE scope = ANY(%(scopes)s)""",
}
SECTIONS = {
    **STOPS,
    "position": """
        SELECT to_jsonb(qty::text) FROM tradingbot_position WHERE account_id = %(account)s AND symbol = %(symbol)s""",
    "working": f"""
        SELECT jsonb_build_object(
          'buys', coalesce(sum(qty - filled_qty) FILTER (WHERE side = 'buy'), 0)::text,
          'sells', coalesce(sum(qty - filled_qty) FILTER (WHERE side = 'sell'), 0)::text,
          'doubtful', count(*) FILTER (WHERE status = 'in_doubt' OR status = 'pending_submit' AND send_by < %(now)s))
        FROM tradingbot_order WHERE account_id = %(account)s AND symbol = %(symbol)s
          AND status IN ({OPEN_WORDS}) AND client_order_id <> %(client_order_id)s""",
}


@dataclass(frozen=True)
class Reading:
    """What the database said, by section, and the moment by its own clock at which it said so."""

    at: datetime
    sections: Mapping[str, Any]


def read_quote(hot: HotState, symbol: str) -> tuple[Quote | None, str | None]:
    """The last tick and, when the store cannot say, why. One round trip."""
    try:
        return hot.quote(symbol), None
    except UnavailableError as error:
        return None, error.message


def read_sections(sections: Mapping[str, str], order: OrderIntent, account: Account, now: datetime) -> Reading:
    """All ``sections`` by one statement."""
    about = {
        "account": account.pk,
        "symbol": order.symbol,
        "scopes": [*_required_scopes(order), f"symbol:{order.symbol}"],
        "client_order_id": order.client_order_id,
        "now": now,
    }
    columns = ", ".join(f"({sql}) AS {name}" for name, sql in sections.items())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT clock_timestamp(), {columns}", about)
        at, *found = cursor.fetchone()
    values = (None if text is None else json.loads(text) for text in found)
    return Reading(at, dict(zip(sections, values, strict=True)))


def risk_snapshot(
    order: OrderIntent,
    account: Account,
    row: RiskRow,
    market: tuple[Quote | None, str | None],
    now: datetime,
    used: bool,
    flattening: bool = False,
) -> tuple[RiskSnapshot, datetime]:
    """Everything the gates may know, and the database's clock at that moment."""
    reading = read_sections(SECTIONS, order, account, now)
    working = reading.sections["working"]
    quote, error = market
    snapshot = RiskSnapshot(
        now=now,
        id_used=used,
        flattening=flattening,
        quote=quote,
        market_data_error=error,
        max_tick_age=Decimal(account.max_tick_age_seconds),
        symbols=frozenset(account.symbols),
        cash=row.cash,
        reserved_cash=row.reserved_cash,
        position=Decimal(reading.sections["position"] or 0),
        working_buys=Decimal(working["buys"]),
        working_sells=Decimal(working["sells"]),
        doubtful_orders=working["doubtful"],
        market_collar_bps=account.market_collar_bps,
        equity_known=row.equity is not None,
        max_evaluated_age=3 * Decimal(str(settings.TRADINGBOT.mark_seconds)),
        **_stops(reading, order, now),
    )
    return snapshot, reading.at


def with_stops_of_now(order: OrderIntent, account: Account, snapshot: RiskSnapshot) -> tuple[RiskSnapshot, datetime]:
    """``snapshot`` with what stops trading as it stands now, and the database's clock. One statement, no lock."""
    reading = read_sections(STOPS, order, account, snapshot.now)
    return replace(snapshot, **_stops(reading, order, snapshot.now)), reading.at


def _required_scopes(order: OrderIntent) -> tuple[str, ...]:
    """A breaker and a trading state must be there for each of these; those of the symbol may be there."""
    return "firm", f"account:{order.account}", f"strategy:{order.strategy}"


def _stops(reading: Reading, order: OrderIntent, now: datetime) -> dict[str, Any]:
    """The fields of the snapshot that ``STOPS`` make."""
    return {
        **_breakers(reading.sections["breakers"], order, now),
        **_trading_states(reading.sections["trading_states"], order),
    }


def _breakers(found: list[dict[str, Any]], order: OrderIntent, now: datetime) -> dict[str, Any]:
    by_scope = {breaker["scope"]: breaker for breaker in found}
    return {
        "missing_breakers": tuple(scope for scope in _required_scopes(order) if scope not in by_scope),
        "open_breakers": tuple(OpenBreaker(b["scope"], b["reason"]) for b in found if b["open"]),
        "evaluated_age": _age(by_scope.get(f"account:{order.account}"), now),
        "firm_evaluated_age": _age(by_scope.get("firm"), now),
    }


def _age(breaker: dict[str, Any] | None, now: datetime) -> Decimal | None:
    """Seconds since it was evaluated; None when it never was."""
    if breaker is None or breaker["evaluated_at"] is None:
        return None
    seconds = (now - datetime.fromisoformat(breaker["evaluated_at"])).total_seconds()
    return Decimal(str(round(seconds, 6)))


def _trading_states(found: list[dict[str, Any]], order: OrderIntent) -> dict[str, Any]:
    known = {row["scope"] for row in found}
    return {
        "missing_states": tuple(scope for scope in _required_scopes(order) if scope not in known),
        "trading_states": tuple(ScopeState(**row) for row in found),
    }


def unresolved_orders(now: datetime, grace_seconds: float) -> list[tuple[str, str]]:
    """``(account code, client order id)`` of every order in doubt, and of those whose sender is past its time."""
    overdue = Q(status="pending_submit", send_by__lt=now - timedelta(seconds=grace_seconds))
    found = Order.objects.filter(Q(status="in_doubt") | overdue).order_by("id")
    return list(found.values_list("account__code", "client_order_id")[:500])
