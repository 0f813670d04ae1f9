"""The gates: each one at its limit and one step beyond, and every unknown answer denies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from backend.tradingbot.core.values import OrderIntent, Side
from backend.tradingbot.risk.gates import GATES, Check, OpenBreaker, RiskSnapshot, evaluate
from backend.tradingbot.risk.snapshot import Block, Recent
from backend.tradingbot.risk.trading_state import ScopeState
from tests.unit.gate_samples import NOW, QUOTE, answer, denials, order, snapshot

HALTED, REDUCING = ScopeState("firm", "halted", "look"), ScopeState("symbol:AAPL", "reducing", "calm down")
OPEN = (OpenBreaker("global", "drawdown"),)


def test_a_calm_snapshot_allows_the_order_and_lists_every_gate() -> None:
    decision = evaluate(order(), snapshot())
    assert decision.allowed is True
    assert {check.gate: check.code for check in decision.checks} == {
        "replay_guard": "first_use",
        "circuit_breaker": "closed",
        "trading_state": "active",
        "strategy_mode": "live",
        "build_allowed": "not_required",
        "data_quality": "fresh",
        "reconciliation": "none",
        "greek_exposure": "within_limit",
        "order_size": "within_limit",
        "price_collar": "within_limit",
        "position_limit": "within_limit",
        "gross_exposure": "within_limit",
        "net_exposure": "within_limit",
        "concentration": "within_limit",
        "buying_power": "sufficient",
        "order_rate": "within_limit",
        "duplicate_intent": "within_limit",
        "repeated_execution": "within_limit",
        "restricted_symbol": "allowed",
        "self_match": "nothing_opposite",
        "market_hours": "open",
        "volatility_throttle": "not_required",
        "in_doubt": "none",
    }


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"id_used": True}, {"replay_guard": "client_order_id_used"}),
        ({"open_breakers": OPEN}, {"circuit_breaker": "circuit_open"}),
        ({"missing_breakers": ("global",)}, {"circuit_breaker": "breaker_missing"}),
        ({"missing_states": ("firm",)}, {"trading_state": "trading_state_missing"}),
        ({"trading_states": (HALTED,)}, {"trading_state": "halted"}),
        ({"trading_states": (REDUCING,)}, {"trading_state": "reducing"}),
        ({"trading_states": (ScopeState("firm", "unheard of"),)}, {"trading_state": "halted"}),
        ({"market_data_error": "no answer"}, {"data_quality": "market_data_unavailable"}),
        ({"quote": None}, {"data_quality": "never_seen", "price_collar": "no_reference"}),
        ({"rates": None}, {"order_rate": "rate_unknown"}),
        ({"session": None}, {"market_hours": "session_unknown"}),
        ({"blocks": (Block("account:main", "break 7"),)}, {"reconciliation": "reconciliation_block"}),
        ({"symbols": frozenset({"MSFT"})}, {"restricted_symbol": "symbol_not_allowed"}),
        ({"symbols": frozenset()}, {"restricted_symbol": "symbol_not_allowed"}),
        ({"doubtful_orders": 1}, {"in_doubt": "symbol_in_doubt"}),
        ({"cash": None}, {"buying_power": "unknown"}),
    ],
)
def test_a_gate_refuses_alone_what_is_its_own_to_refuse(changes: dict[str, Any], refused: dict[str, str]) -> None:
    assert denials(order(), **changes) == refused


def test_a_tick_at_the_age_limit_passes_and_one_microsecond_older_does_not() -> None:
    at_limit = replace(QUOTE, as_of=NOW - timedelta(seconds=30))
    beyond = replace(QUOTE, as_of=NOW - timedelta(seconds=30, microseconds=1))
    assert denials(order(), quote=at_limit) == {}
    assert denials(order(), quote=beyond) == {"data_quality": "stale"}
    check = answer("data_quality", order(), quote=beyond)
    assert (check.value, check.limit, check.headroom) == ("30.000001", "30", "-0.000001")


def test_cash_that_just_suffices_passes_and_a_cent_less_does_not() -> None:
    assert denials(order(), cash=Decimal("1500"), reserved_cash=Decimal("500")) == {}
    assert denials(order(), cash=Decimal("1500"), reserved_cash=Decimal("500.01")) == {"buying_power": "insufficient"}
    check = answer("buying_power", order(), cash=Decimal("1500"), reserved_cash=Decimal("500.01"))
    assert (check.value, check.limit, check.headroom) == ("1000", "999.99", "-0.01")


def test_a_market_buy_reserves_the_ask_and_the_collar_to_the_cent() -> None:
    market = order(limit=None)
    assert denials(market, cash=Decimal("1020.10")) == {}
    assert denials(market, cash=Decimal("1020.09")) == {"buying_power": "insufficient"}


def test_a_market_buy_without_a_quote_is_refused_by_every_gate_that_needs_one() -> None:
    assert denials(order(limit=None), quote=None) == {
        "data_quality": "never_seen",
        "order_size": "unpriced",
        "price_collar": "no_reference",
        "buying_power": "unknown",
    }


def test_a_sale_of_all_that_is_held_passes_and_one_step_more_is_short() -> None:
    held = {"position": Decimal("12"), "working_sells": Decimal("2"), "cash": Decimal("0")}
    assert denials(order(Side.SELL, "10"), **held) == {}
    short = {"position_limit": "short_not_allowed", "buying_power": "short_not_allowed"}
    assert denials(order(Side.SELL, "10.000000001"), **held) == short
    assert denials(order(Side.SELL, "1"), position=Decimal("-5")) == short
    check = answer("buying_power", order(Side.SELL, "11"), **held)
    assert (check.value, check.limit, check.headroom) == ("11", "10", "-1")


def test_a_short_may_be_bought_back_without_cash_but_not_beyond_what_already_works() -> None:
    short = {"position": Decimal("-12"), "working_buys": Decimal("2"), "cash": Decimal("0")}
    assert denials(order(qty="10"), **short) == {}
    assert denials(order(qty="10.1"), **short) == {"buying_power": "insufficient"}


def test_a_reduction_passes_an_open_breaker_and_doubt_and_one_step_more_does_not() -> None:
    troubled = {"position": Decimal("10"), "open_breakers": OPEN, "doubtful_orders": 1}
    assert denials(order(Side.SELL, "10"), **troubled) == {}
    assert answer("circuit_breaker", order(Side.SELL, "10"), **troubled).code == "reduces_risk"
    assert answer("in_doubt", order(Side.SELL, "10"), **troubled).code == "reduces_risk"
    assert denials(order(Side.SELL, "10.1"), **troubled) == {
        "circuit_breaker": "circuit_open",
        "in_doubt": "symbol_in_doubt",
        "position_limit": "short_not_allowed",
        "buying_power": "short_not_allowed",
    }


def test_a_reduction_does_not_pass_a_missing_breaker_a_used_id_or_a_foreign_symbol() -> None:
    reduction = order(Side.SELL, symbol="TSLA")
    assert denials(reduction, position=Decimal("10"), missing_breakers=("global",), id_used=True) == {
        "replay_guard": "client_order_id_used",
        "circuit_breaker": "breaker_missing",
        "restricted_symbol": "symbol_not_allowed",
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quote": None}, "never_seen"),
        ({"market_data_error": "no answer"}, "market_data_unavailable"),
        ({"quote": replace(QUOTE, as_of=NOW - timedelta(seconds=31))}, "stale"),
    ],
)
def test_without_a_fresh_quote_a_limit_reduction_passes_and_a_market_one_does_not(
    changes: dict[str, Any], code: str
) -> None:
    assert denials(order(Side.SELL), position=Decimal("10"), **changes) == {}
    refused = denials(order(Side.SELL, limit=None), position=Decimal("10"), **changes)
    blind = {"order_size": "unpriced", "price_collar": "no_reference"} if changes.get("quote", QUOTE) is None else {}
    assert refused == {"data_quality": code, **blind}


def test_every_reason_is_listed_and_not_only_the_first() -> None:
    assert denials(
        order(symbol="TSLA", limit=None),
        id_used=True,
        open_breakers=OPEN,
        quote=None,
        doubtful_orders=2,
        cash=None,
    ) == {
        "replay_guard": "client_order_id_used",
        "circuit_breaker": "circuit_open",
        "data_quality": "never_seen",
        "order_size": "unpriced",
        "price_collar": "no_reference",
        "restricted_symbol": "symbol_not_allowed",
        "in_doubt": "symbol_in_doubt",
        "buying_power": "unknown",
    }


def test_a_reduction_passes_reducing_and_one_step_more_does_not() -> None:
    held = {"position": Decimal("10"), "trading_states": (REDUCING,)}
    assert denials(order(Side.SELL, "10"), **held) == {}
    assert answer("trading_state", order(Side.SELL, "10"), **held).code == "reduces_risk"
    assert denials(order(Side.SELL, "11"), **held) == {
        "trading_state": "reducing",
        "position_limit": "short_not_allowed",
        "buying_power": "short_not_allowed",
    }


def test_halted_admits_only_reductions_of_the_flatten_service() -> None:
    held = {"position": Decimal("10"), "trading_states": (REDUCING, HALTED)}
    assert denials(order(Side.SELL, "10"), **held) == {"trading_state": "halted"}
    assert denials(order(Side.SELL, "10"), flattening=True, **held) == {}
    assert denials(order(qty="1"), flattening=True, **held) == {"trading_state": "halted"}
    often = Recent(10**6, 10**6, 0, "disabled since yesterday")
    repeated = {"duplicate_intent": "duplicate", "repeated_execution": "pattern_disabled"}
    assert denials(order(Side.SELL, "10"), recent=often, position=Decimal("10")) == repeated
    assert denials(order(Side.SELL, "10"), recent=often, flattening=True, **held) == {}
    check = answer("trading_state", order(Side.SELL, "10"), **held)
    assert (check.value, check.message) == ("halted", "symbol:AAPL is reducing: calm down; firm is halted: look")


@pytest.mark.parametrize("broken", list(GATES))
def test_a_gate_that_raises_denies_and_the_others_are_still_asked(broken: str) -> None:
    def raises(asked: OrderIntent, seen: RiskSnapshot) -> Check:
        raise ZeroDivisionError("no answer")

    decision = evaluate(order(), snapshot(), {**GATES, broken: raises})
    assert decision.allowed is False
    assert [check.gate for check in decision.checks] == list(GATES)
    assert [(check.gate, check.code) for check in decision.checks if not check.passed] == [(broken, "gate_error")]


def test_a_figure_that_is_not_there_denies_instead_of_passing() -> None:
    assert denials(order(Side.SELL), position=None)["buying_power"] == "gate_error"
    assert denials(order(), reserved_cash=None) == {"buying_power": "gate_error"}
    assert denials(order(), max_tick_age=None) == {"data_quality": "gate_error"}


def test_no_gate_at_all_denies() -> None:
    assert evaluate(order(), snapshot(), {}).as_dict() == {"allowed": False, "checks": []}
