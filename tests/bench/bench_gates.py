"""The whole decision of one order against a book of 10,000 names, beside adding the book up anew; and option books."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import numpy as np

from backend.tradingbot.risk.exposure import EMPTY_BOOK, EMPTY_NAME, book_of, name_risk
from backend.tradingbot.risk.gates import evaluate
from backend.tradingbot.risk.greeks import black_scholes, implied_volatility
from backend.tradingbot.risk.limits import LimitSet
from backend.tradingbot.risk.snapshot_json import to_json
from tests.bench.measuring import Figure, timed
from tests.unit.gate_samples import limits, order, share_unit, snapshot

NAMES, OPTIONS = 10_000, 100_000


def bench_decision() -> Iterator[Figure]:
    unit = share_unit("100")
    names = [name_risk(unit, Decimal(number % 7 - 3), Decimal(1), Decimal(1)) for number in range(NAMES)]
    book = EMPTY_BOOK
    for name in names:
        book = book.replaced(EMPTY_NAME, name)
    wide = {kind: 10**9 for kind in limits().required if kind.endswith("_max")}
    seen = snapshot(others=book, limits=limits(**wide, stress_loss_max=10**9), cash=Decimal(10**8))
    asked = order(qty="5")
    decision = evaluate(asked, seen)
    assert decision.allowed, [check for check in decision.checks if not check.passed]
    # a fresh snapshot each time, as every order has: nothing that was worked out before may help
    rows, account, required = seen.limits.rows, seen.limits.account, seen.limits.required
    fresh = timed("a fresh snapshot", lambda: replace(seen, limits=LimitSet(account, required, rows)), calls=200)
    whole = timed(
        "all gates", lambda: evaluate(asked, replace(seen, limits=LimitSet(account, required, rows))), calls=200
    )
    yield Figure(f"all gates, one order, {NAMES} names", whole.value - fresh.value, "us", whole.passes)
    yield timed("a book with one name replaced", lambda: book.replaced(names[0], names[1]), calls=2000)
    yield timed(f"the same sums from scratch, {NAMES} names", lambda: book_of(names), passes=3)
    yield timed("the snapshot as stored JSON", lambda: to_json(seen), calls=500)


def bench_options() -> Iterator[Figure]:
    rolls = np.random.default_rng(7)
    spot, strike = rolls.uniform(50, 150, OPTIONS), rolls.uniform(50, 150, OPTIONS)
    volatility, years = rolls.uniform(0.1, 0.8, OPTIONS), rolls.uniform(0.01, 2, OPTIONS)
    calls = rolls.random(OPTIONS) > 0.5
    arguments = (spot, strike, 0.04, volatility, years, calls, 0.01)
    yield timed(f"{OPTIONS} options: price and all Greeks", lambda: black_scholes(*arguments), unit="ms")
    prices = black_scholes(*arguments).price[:10_000]
    some = (prices, spot[:10_000], strike[:10_000], 0.04, years[:10_000], calls[:10_000], 0.01)
    yield timed("10000 options: implied volatility", lambda: implied_volatility(*some), unit="ms", passes=3)
