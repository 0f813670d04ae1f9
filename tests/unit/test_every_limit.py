"""Whatever limit a profile requires: taken away it denies, and a value that is no number denies, buying and selling."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backend.tradingbot.risk.limit_profiles import PROFILES
from backend.tradingbot.risk.limits import KINDS
from backend.tradingbot.risk.volatility import Level, Volatility
from tests.unit.gate_samples import NOW, answer, buy, limits, sell

REQUIRED = [(profile.name, kind) for profile in PROFILES.values() for kind in profile.values]
SIDES = {"buy": (buy("1"), ("sell", "short")), "sell": (sell("1"), ("buy", "long"))}
# what only the other side, or another level of volatility, ever asks for
ELSEWHERE = {"volatility_elevated_pct", "reducing_rate_account_per_min"}
SEEN = {"volatility": Volatility(Level.EXTREME, Decimal(36), NOW), "cash": Decimal(10**6)}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("profile", "kind"), REQUIRED)
def test_a_required_limit_that_is_missing_denies_at_its_gate_and_is_named(profile, kind, side) -> None:
    asked = SIDES[side][0]
    check = answer(KINDS[kind].gate, asked, limits=limits(profile, position_short_max=100), **SEEN)
    without = answer(KINDS[kind].gate, asked, limits=limits(profile, **{"position_short_max": 100, kind: None}), **SEEN)
    assert check.code != "limit_missing"
    assert (without.passed, without.code) == (False, "limit_missing")
    assert kind in without.message


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("profile", "kind"), REQUIRED)
def test_a_limit_that_is_no_number_denies_at_its_gate(profile, kind, side) -> None:
    asked, others = SIDES[side]
    if kind in ELSEWHERE or any(f"_{word}_" in kind for word in others):
        pytest.skip("the other side's")
    wrong = limits(profile, **{"position_short_max": 100, kind: "NaN"})
    assert answer(KINDS[kind].gate, asked, limits=wrong, **SEEN).passed is False
