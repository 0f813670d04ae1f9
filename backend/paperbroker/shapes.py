"""The JSON of Alpaca's trading API v2, made from ledger rows. Decimals leave as strings, as Alpaca sends them."""

from __future__ import annotations

import sqlite3
import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from backend.paperbroker.instruments import asset_class, is_option, multiplier
from backend.paperbroker.ledger import Ledger, text

CENT = Decimal("0.01")
NAMESPACE = uuid.UUID("3f0a7a4e-5a0c-4d53-9c6d-1f6f5f1d2a10")


def asset_id(symbol: str) -> str:
    """Return the stable id of a symbol."""
    return str(uuid.uuid5(NAMESPACE, symbol))


def order_json(row: sqlite3.Row) -> dict[str, Any]:
    """Return an order as Alpaca shows it."""
    filled = Decimal(row["filled_qty"])
    average = Decimal(row["filled_value"]) / filled if filled else None
    same = {name: row[name] for name in ("id", "client_order_id", "created_at", "updated_at", "filled_at", "symbol",
                                         "canceled_at", "failed_at", "qty", "filled_qty", "limit_price", "status",
                                         "side", "type", "time_in_force", "expires_at", "expired_at",
                                         "replaced_at", "replaced_by", "replaces")}  # fmt: skip
    nothing = ("notional", "stop_price", "legs", "trail_percent", "trail_price", "hwm", "subtag", "source")
    return {
        **same,
        **dict.fromkeys(nothing),
        "submitted_at": row["created_at"],
        "asset_id": asset_id(row["symbol"]),
        "asset_class": asset_class(row["symbol"]),
        "filled_avg_price": text(round(average, 9)) if average is not None else None,
        "order_class": "",
        "order_type": row["type"],
        "position_intent": "buy_to_open" if row["side"] == "buy" else "sell_to_close",
        "extended_hours": bool(row["extended_hours"]),
    }


def activity_json(row: sqlite3.Row) -> dict[str, Any]:
    """Return an execution as an account activity."""
    names = ("cum_qty", "leaves_qty", "order_id", "order_status", "price", "qty", "side", "symbol", "type")
    shown = {"activity_type": "FILL", "id": row["activity_id"], "transaction_time": row["at"]}
    shown |= {name: row[name] for name in names}
    if row["previous_execution_id"]:
        shown["previous_execution_id"] = row["previous_execution_id"]
    return shown


def asset_json(symbol: str) -> dict[str, Any]:
    """Return the asset of a symbol; every well-formed symbol is tradable here."""
    share = not is_option(symbol)
    return {
        "id": asset_id(symbol), "class": asset_class(symbol), "exchange": "NASDAQ" if share else "OPRA",
        "symbol": symbol, "name": symbol, "status": "active", "tradable": True, "marginable": share, "shortable": True,
        "easy_to_borrow": share, "fractionable": share, "maintenance_margin_requirement": 30, "attributes": [],
    }  # fmt: skip


def mark(ledger: Ledger, symbol: str) -> Decimal | None:
    """Return the price positions are valued at: last, else the mid, else None."""
    quote = ledger.quote(symbol)
    if quote is None:
        return None
    if quote.last is not None:
        return quote.last
    if quote.bid is not None and quote.ask is not None:
        return (quote.bid + quote.ask) / 2
    return quote.bid if quote.bid is not None else quote.ask


def positions_json(ledger: Ledger) -> list[dict[str, Any]]:
    """Return every position that is not flat."""
    shown = []
    for row in ledger.rows("select * from positions order by symbol"):
        qty, cost = Decimal(row["qty"]), Decimal(row["cost"])
        if qty == 0:
            continue
        units = qty * multiplier(row["symbol"])
        entry = cost / units
        price = mark(ledger, row["symbol"]) or entry
        gain = (price - entry) * units
        shown.append({
            "asset_id": asset_id(row["symbol"]), "symbol": row["symbol"],
            "exchange": "OPRA" if is_option(row["symbol"]) else "NASDAQ",
            "asset_class": asset_class(row["symbol"]), "asset_marginable": not is_option(row["symbol"]),
            "qty": text(qty), "qty_available": text(qty),
            "avg_entry_price": text(round(entry, 9)), "side": "long" if qty > 0 else "short",
            "market_value": text(units * price), "cost_basis": text(round(cost, 9)),
            "unrealized_pl": text(round(gain, 9)),
            "unrealized_plpc": text(round(gain / abs(cost), 9)) if cost else "0",
            "unrealized_intraday_pl": text(round(gain, 9)),
            "unrealized_intraday_plpc": text(round(gain / abs(cost), 9)) if cost else "0",
            "current_price": text(round(price, 9)), "lastday_price": text(round(entry, 9)), "change_today": "0",
        })  # fmt: skip
    return shown


def market_values(ledger: Ledger) -> tuple[Decimal, Decimal]:
    """Return what the long positions are worth, and the short ones (below zero)."""
    values = [Decimal(position["market_value"]) for position in positions_json(ledger)]
    long_value = sum((value for value in values if value > 0), Decimal(0))
    return long_value, sum((value for value in values if value < 0), Decimal(0))


def equity(ledger: Ledger) -> Decimal:
    """Return cash and positions at their marks."""
    return Decimal(ledger.account()["cash"]) + sum(market_values(ledger))


def account_json(ledger: Ledger, buying_power: Decimal, last_close: tuple[str, Decimal]) -> dict[str, Any]:
    """Return the account; ``buying_power`` in dollars after open orders, day and equity of the ``last_close``."""
    row = ledger.account()
    cash = Decimal(row["cash"])
    long_value, short_value = market_values(ledger)

    def money(value: Decimal) -> str:
        return str(value.quantize(CENT, rounding=ROUND_HALF_UP))

    power = money(max(buying_power, Decimal(0)))
    return {
        "id": row["id"], "account_number": row["number"], "status": "ACTIVE", "crypto_status": "INACTIVE",
        "currency": "USD", "cash": money(cash), "buying_power": power, "regt_buying_power": power,
        "daytrading_buying_power": "0", "non_marginable_buying_power": power, "options_buying_power": "0",
        "portfolio_value": money(cash + long_value + short_value), "equity": money(cash + long_value + short_value),
        "last_equity": str(last_close[1]), "balance_asof": last_close[0],
        "long_market_value": money(long_value), "short_market_value": money(short_value), "multiplier": "1",
        "pattern_day_trader": False, "trading_blocked": False, "transfers_blocked": False, "account_blocked": False,
        "trade_suspended_by_user": False, "shorting_enabled": True, "created_at": row["created_at"],
        "initial_margin": "0", "maintenance_margin": "0", "last_maintenance_margin": "0", "sma": "0",
        "daytrade_count": 0, "accrued_fees": "0", "pending_transfer_in": "0",
    }  # fmt: skip
