"""Limits: which kinds and scopes there are, what the tightest is, what loosens, and that the profiles make sense."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.risk.gates import GATES
from backend.tradingbot.risk.limit_profiles import DEFAULT, PROFILES, SMALL_PILOT, profile_named
from backend.tradingbot.risk.limits import (
    KINDS,
    Limit,
    check_limit,
    is_loosening,
    loosened_by,
    scope_kind,
    scopes_of,
)
from backend.tradingbot.risk.volatility import Level, Volatility
from tests.unit.gate_samples import answer, denials, figures, limits, order, sell, snapshot


def test_every_kind_belongs_to_a_gate_that_there_is() -> None:
    assert {kind.gate for kind in KINDS.values()} <= set(GATES)


def test_an_order_is_held_to_five_scopes() -> None:
    assert scopes_of(order()) == (
        "firm",
        "account:main",
        "strategy:trend",
        "symbol:AAPL",
        "strategy:trend/symbol:AAPL",
    )


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        ("firm", "firm"),
        ("account:a", "account"),
        ("strategy:a", "strategy"),
        ("symbol:BRK/B", "symbol"),
        ("strategy:a/symbol:AAPL", "strategy_symbol"),
        ("strategy:a/symbol:BTC/USD", "strategy_symbol"),
    ],
)
def test_a_scope_says_what_it_is(scope, kind) -> None:
    assert scope_kind(scope) == kind


@pytest.mark.parametrize("scope", ["", "firm:a", "account:", "desk:a", "account:a/symbol:b", "strategy:a/symbol:"])
def test_what_is_no_scope_is_refused(scope) -> None:
    with pytest.raises(InvalidInputError, match="scope"):
        scope_kind(scope)


@pytest.mark.parametrize(
    ("scope", "kind", "value", "field"),
    [
        ("account:a", "mystery", "1", "kind"),
        ("firm", "stress_loss_max", "1", "scope"),
        ("account:a", "order_qty_max", "NaN", "value"),
        ("account:a", "order_qty_max", "Infinity", "value"),
        ("account:a", "order_qty_max", "-1", "value"),
        ("account:a", "order_qty_max", "1e13", "value"),
        ("account:a", "order_rate_key_per_min", "1.5", "value"),
    ],
)
def test_a_limit_that_cannot_stand_is_refused_by_field(scope, kind, value, field) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_limit(scope, kind, Decimal(value))
    assert refused.value.errors[0].field == field


def test_a_limit_row_that_is_no_number_denies() -> None:
    for bad in ("NaN", "-1"):
        assert figures("order_size", order(), limits=limits(order_qty_max=bad))[:2] == (False, "gate_error")


REQUIRED = [(gate, kind) for gate in GATES for kind in SMALL_PILOT.required(gate)]


@pytest.mark.parametrize(("gate", "kind"), REQUIRED)
def test_a_required_limit_that_is_not_set_denies_and_is_named(gate, kind) -> None:
    bare = {"limits": limits("small_pilot", **{kind: None}), "cash": Decimal(10**6)}
    asked = sell("1") if kind == "reducing_rate_account_per_min" else order(qty="1")
    check = answer(gate, asked, **bare)
    assert (check.passed, check.code) == (False, "limit_missing")
    assert kind in check.message


@pytest.mark.parametrize(("gate", "kind"), [(g, k) for g, k in REQUIRED if KINDS[k].scopes != frozenset({"account"})])
def test_a_limit_elsewhere_does_not_stand_in_for_the_accounts_own(gate, kind) -> None:
    firm = (Limit("firm", kind, SMALL_PILOT.values[kind], 1),)
    check_missing = figures(gate, order(qty="1"), limits=limits("small_pilot", elsewhere=firm, **{kind: None}))
    assert check_missing[:2] == (False, "limit_missing")


@pytest.mark.parametrize("gate", [gate for gate in GATES if SMALL_PILOT.required(gate)])
def test_a_control_that_nobody_requires_or_limits_is_not_required(gate) -> None:
    kinds = {kind for kind in KINDS if KINDS[kind].gate == gate}
    bare = limits("small_pilot", **dict.fromkeys(kinds))
    free = type(bare)(bare.account, tuple(kind for kind in bare.required if kind not in kinds), bare.rows)
    check = figures(gate, order(), limits=free)
    assert check[:2] == (True, "not_required")


def test_one_limit_anywhere_makes_the_control_used() -> None:
    bare = limits(
        order_qty_max=None, order_notional_max=None, elsewhere=(Limit("firm", "order_qty_max", Decimal(5), 1),)
    )
    only_firm = type(bare)(bare.account, (), bare.rows)
    assert figures("order_size", order(qty="6"), limits=only_firm)[:2] == (False, "quantity_too_large")


def test_the_tightest_window_is_the_longest() -> None:
    rows = (Limit("firm", "duplicate_window_seconds", Decimal(600), 1),)
    tightest = limits(duplicate_window_seconds=5, elsewhere=rows).tightest("duplicate_window_seconds")
    assert tightest is not None and tightest.value == 600


def test_the_profiles_require_every_control_that_has_limits_and_small_pilot_is_tighter() -> None:
    assert profile_named("default") is DEFAULT
    with pytest.raises(InvalidInputError, match="profile"):
        profile_named("reckless")
    for profile in PROFILES.values():
        for kind, value in profile.values.items():
            check_limit("account:a", kind, value)
    assert set(DEFAULT.values) < set(SMALL_PILOT.values)
    for kind, value in DEFAULT.values.items():
        if KINDS[kind].higher_is_tighter:
            assert SMALL_PILOT.values[kind] >= value
        else:
            assert SMALL_PILOT.values[kind] <= value
    with_limits = {kind.gate for kind in KINDS.values()} - {"market_hours"}
    assert {gate for gate in with_limits if SMALL_PILOT.required(gate)} == with_limits


def test_a_calm_order_passes_every_gate_of_the_small_pilot() -> None:
    calm = snapshot()
    index = Volatility(Level.CALM, Decimal(18), calm.now - timedelta(seconds=1))
    assert denials(order(qty="5"), limits=limits("small_pilot"), volatility=index) == {}


@pytest.mark.parametrize(
    ("kind", "scope", "before", "after", "required", "loosens"),
    [
        ("order_qty_max", "account:a", "10", "11", True, True),
        ("order_qty_max", "account:a", "10", "9", True, False),
        ("order_qty_max", "account:a", "10", "10", True, False),
        ("order_qty_max", "account:a", None, "10", True, True),  # without it nothing could be ordered
        ("order_qty_max", "account:a", "10", None, True, False),
        ("order_qty_max", "account:a", None, "10", False, False),
        ("order_qty_max", "account:a", "10", None, False, True),
        ("order_qty_max", "firm", None, "10", False, False),
        ("order_qty_max", "firm", "10", None, False, True),
        ("duplicate_window_seconds", "account:a", "10", "9", True, True),
        ("duplicate_window_seconds", "account:a", "10", "11", True, False),
        ("position_short_max", "account:a", None, "1", False, True),  # the first one allows short sales
        ("position_short_max", "account:a", "1", None, False, False),
        ("position_short_max", "symbol:X", None, "1", False, False),
    ],
)
def test_what_could_let_an_order_pass_that_was_denied_loosens(kind, scope, before, after, required, loosens) -> None:
    values = [None if value is None else Decimal(value) for value in (before, after)]
    assert is_loosening(kind, scope, values[0], values[1], required) is loosens


def test_how_much_looser_is_a_fraction_of_the_value_before() -> None:
    assert loosened_by("order_qty_max", Decimal(100), Decimal(110)) == Decimal("0.1")
    assert loosened_by("duplicate_window_seconds", Decimal(100), Decimal(90)) == Decimal("0.1")
    assert loosened_by("order_qty_max", None, Decimal(110)) is None
    assert loosened_by("order_qty_max", Decimal(0), Decimal(110)) is None
