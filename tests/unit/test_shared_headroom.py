"""Headroom above the account for net exposure and Greeks: at the limit passes, beyond it fails, both ways."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.risk.exposure import BETA, DELTA, NET, STRESS, THETA, VEGA
from backend.tradingbot.risk.gate_greeks import binds_above
from backend.tradingbot.risk.limits import Limit
from backend.tradingbot.risk.shared_headroom import GREEK_KINDS, taken_within
from backend.tradingbot.risk.snapshot import Headroom
from tests.unit.gate_samples import NOW, OPTION, answer, buy, denials, limits, option_unit, sell, snapshot

RICH = {"cash": Decimal(10**9), "book_equity": Decimal(10**9)}
NAN = Decimal("NaN")


def room(scope="firm", unknown=0, greeks=None, **ends):
    """What is taken: ``net=(low, high)`` and so on, nothing of the rest."""
    low, high = [Decimal(0)] * STRESS, [Decimal(0)] * STRESS
    for name, index in (("net", NET), ("delta", DELTA), ("theta", THETA), ("vega", VEGA), ("beta", BETA)):
        low[index], high[index] = map(Decimal, ends.get(name, (0, 0)))
    return Headroom(scope, None, Decimal(0), tuple(low), tuple(high), unknown, greeks)


def above(kind, value, scope="firm", **changes):
    short = {"position_short_max": 10**6} if changes.pop("short", False) else {}
    return limits(elsewhere=(Limit(scope, kind, Decimal(value), 1),), **short, **changes)


@pytest.mark.parametrize("scope", ["firm", "strategy:trend", "symbol:AAPL", "strategy:trend/symbol:AAPL"])
def test_net_exposure_of_all_accounts_binds_at_its_limit_on_either_side(scope):
    at = {"limits": above("net_exposure_max", 5_000, scope, short=True), **RICH}
    long, short = {"headroom": (room(scope, net=(0, 4_000)),)}, {"headroom": (room(scope, net=(-4_000, 0)),)}
    assert denials(buy("10"), **at, **long) == {}
    assert denials(buy("10.01"), **at, **long) == {"net_exposure": "headroom_exhausted"}
    assert denials(sell("10"), **at, **short) == {}
    assert denials(sell("10.01"), **at, **short) == {"net_exposure": "headroom_exhausted"}
    check = answer("net_exposure", sell("10.01"), **at, **short)
    assert (check.value, check.limit, check.headroom) == ("5001", "5000", "-1")
    assert f"net_exposure_max of {scope}" in check.message
    assert "-5001" in check.message


@pytest.mark.parametrize(
    ("kind", "name", "each"), [("portfolio_delta_max", "delta", 1), ("portfolio_beta_exposure_max", "beta", 100)]
)
def test_a_greek_of_all_accounts_binds_at_its_limit_on_either_side(kind, name, each):
    at = {"limits": above(kind, 100 * each, short=True), **RICH}
    assert denials(buy("10"), headroom=(room(**{name: (0, 90 * each)}),), **at) == {}
    assert denials(buy("11"), headroom=(room(**{name: (0, 90 * each)}),), **at) == {
        "greek_exposure": "headroom_exhausted"
    }
    assert denials(sell("10"), headroom=(room(**{name: (-90 * each, 0)}),), **at) == {}
    assert denials(sell("11"), headroom=(room(**{name: (-90 * each, 0)}),), **at) == {
        "greek_exposure": "headroom_exhausted"
    }


def test_decay_of_all_accounts_binds_below_only():
    unit = option_unit(delta="0.5", gamma="0.02", theta="-0.03", vega="0.1")
    asked = buy("1", "5", symbol=OPTION)
    at = {"limits": above("portfolio_theta_loss_max", 100), "unit": unit, **RICH}
    check = answer("greek_exposure", asked, headroom=(room(theta=(-97, 0)),), **at)
    assert (check.passed, check.value) == (True, "100")
    assert answer("greek_exposure", asked, headroom=(room(theta=(-98, 0)),), **at).code == "headroom_exhausted"
    assert answer("greek_exposure", asked, headroom=(room(theta=(0, 10**6)),), **at).passed is True


def test_an_order_takes_only_what_it_adds_to_its_strategys_part():
    """Ten held and five wanted already count in what is taken: five more to the other side add nothing."""
    held = {"position": Decimal(10), "working_buys": Decimal(5), "headroom": (room(delta=(10, 15)),), **RICH}
    assert denials(buy("5"), limits=above("portfolio_delta_max", 20), **held) == {}
    assert denials(buy("6"), limits=above("portfolio_delta_max", 20), **held) == {
        "greek_exposure": "headroom_exhausted"
    }


@pytest.mark.parametrize("kind", ["net_exposure_max", "portfolio_vega_max"])
def test_what_is_not_known_in_any_account_denies_where_it_is_limited(kind):
    gate = "net_exposure" if kind == "net_exposure_max" else "greek_exposure"
    at = {"limits": above(kind, 10**9), **RICH}
    assert denials(buy(), headroom=(room(unknown=1),), **at) == {gate: "exposure_unknown"}
    assert denials(buy(), headroom=(), **at) == {gate: "headroom_unknown"}
    assert denials(buy(), headroom=(Headroom("firm", None, Decimal(0)),), **at) == {gate: "headroom_unknown"}
    assert denials(buy(), headroom=(room(unknown=1),), **RICH) == {}  # nobody limits it
    left = {"position": Decimal(20), **at}
    assert denials(sell("5"), headroom=(room(unknown=1),), **left) == {}  # and everybody is let out


def test_gross_headroom_is_not_told_while_a_part_has_no_known_risk():
    firm = replace(room(unknown=1), limit=Decimal(10**9))
    assert denials(buy(), headroom=(firm,), **RICH) == {"gross_exposure": "exposure_unknown"}


@pytest.mark.parametrize(("seconds", "passes"), [(900, True), (901, False)])
def test_old_greeks_in_any_account_deny_where_greeks_are_limited_above(seconds, passes):
    held = (room(greeks=NOW - timedelta(seconds=seconds)),)
    at = {"headroom": held, **RICH}
    wanted = {} if passes else {"greek_exposure": "greeks_stale"}
    assert denials(buy(), limits=above("portfolio_vega_max", 10**9), **at) == wanted
    assert denials(buy(), **at) == {}


def test_a_reduction_passes_unless_it_worsens_a_greek_of_all_accounts_that_is_breached():
    held = {"position": Decimal(20), **RICH}
    at = {"limits": above("portfolio_delta_max", 100), **held}
    assert denials(sell("5"), headroom=(room(delta=(20, 500)),), **at) == {}  # too long: selling helps
    hedge = {"headroom": (room(delta=(-101, 20)),), **at}
    assert denials(sell("5"), **hedge) == {"greek_exposure": "headroom_exhausted"}  # too short: selling worsens
    assert denials(sell("5"), flattening=True, **hedge) == {}  # the flatten service lets this account out
    net = {"limits": above("net_exposure_max", 100), **held}
    assert denials(sell("5"), headroom=(room(net=(-10_000, 10_000)),), **net) == {}


def test_what_a_reduction_must_keep_when_it_takes_its_headroom_is_what_the_gate_held_against_it():
    held = {"position": Decimal(20), "headroom": (room(delta=(20, 20)),), **RICH}
    rows = (Limit("firm", "net_exposure_max", Decimal(1), 1), Limit("firm", "portfolio_delta_max", Decimal(100), 1))
    at = snapshot(limits=limits(elsewhere=rows), **held)
    assert must_keep(buy("1"), at) == {"firm": {NET: Decimal(1), DELTA: Decimal(100)}}
    assert must_keep(sell("5"), at) == {"firm": {DELTA: Decimal(100)}}
    assert must_keep(sell("5"), replace(at, flattening=True)) == {}
    assert must_keep(sell("5"), replace(at, headroom=(room(unknown=1),))) == {}
    old = replace(at.book, oldest_greeks=NOW - timedelta(seconds=901))
    assert must_keep(sell("5"), replace(at, book=old)) == {}  # the gate lets it out before it looks above
    missing = limits(elsewhere=rows, portfolio_vega_max=None)
    assert must_keep(sell("5"), replace(at, limits=missing)) == {}


def must_keep(asked, at):
    return taken_within(asked, at, greeks=binds_above(asked, at))


@pytest.mark.parametrize("kind", ["net_exposure_max", *GREEK_KINDS])
def test_a_figure_or_a_limit_that_is_no_number_denies(kind):
    gate = "net_exposure" if kind == "net_exposure_max" else "greek_exposure"
    poisoned = room(net=(NAN, NAN), delta=(NAN, NAN), theta=(NAN, NAN), vega=(NAN, NAN), beta=(NAN, NAN))
    low = tuple(NAN for _ in poisoned.low)
    poisoned = replace(poisoned, low=low, high=low)
    assert gate in denials(buy(), limits=above(kind, 10**9), headroom=(poisoned,), **RICH)
    assert gate in denials(buy(), limits=above(kind, "NaN"), headroom=(room(),), **RICH)
