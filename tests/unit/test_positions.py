"""A position at average cost, trade by trade."""

from __future__ import annotations

from decimal import Decimal

from backend.tradingbot.execution.positions import Holding, folded


def after(*trades: tuple[str, str]) -> tuple[str, str, str]:
    found = folded(Holding(), ((Decimal(qty), Decimal(price)) for qty, price in trades))
    return f"{found.qty:f}", f"{found.avg_price.normalize():f}", f"{found.realized_pnl.normalize():f}"


def test_adding_moves_the_average() -> None:
    assert after(("10", "100"), ("30", "120")) == ("40", "115", "0")


def test_reducing_realises_against_the_average_and_leaves_it() -> None:
    assert after(("10", "100"), ("-4", "110")) == ("6", "100", "40")


def test_crossing_zero_starts_anew_at_the_price_of_the_trade() -> None:
    assert after(("10", "100"), ("-15", "90")) == ("-5", "90", "-100")


def test_a_short_earns_when_it_is_bought_back_lower() -> None:
    assert after(("-10", "50"), ("10", "45")) == ("0", "0", "50")


def test_a_trade_of_nothing_changes_nothing() -> None:
    assert after(("10", "100"), ("0", "7")) == ("10", "100", "0")


def test_the_order_of_the_trades_matters() -> None:
    assert after(("10", "100"), ("-5", "110"), ("5", "120")) == ("10", "110", "50")
    assert after(("10", "100"), ("5", "120"), ("-5", "110")) != ("10", "110", "50")
