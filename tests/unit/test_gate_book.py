"""position_limit, gross and net exposure, concentration and buying power: the book after the order, long and short."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backend.tradingbot.risk.exposure import EMPTY_BOOK, EMPTY_NAME, name_risk
from backend.tradingbot.risk.snapshot import Headroom
from tests.unit.gate_samples import OPTION, answer, buy, denials, figures, limits, option_unit, order, sell, share_unit

RICH = {"cash": Decimal(10**9), "book_equity": Decimal(10**9)}
SHORTS = {"position_short_max": 10_000}
WORKING = {"working_buys": Decimal(3), "working_sells": Decimal(2)}


def others(qty: str):
    """A book that holds ``qty`` (signed) of another share at 100."""
    return EMPTY_BOOK.replaced(EMPTY_NAME, name_risk(share_unit(), Decimal(qty), Decimal(0), Decimal(0)))


def test_the_longest_position_counts_open_purchases_and_no_open_sales() -> None:
    at = {"limits": limits(position_long_max=20), "position": Decimal(7), **WORKING, **RICH}
    assert figures("position_limit", order(qty="10"), **at) == (True, "within_limit", "20", "20", "0")
    assert figures("position_limit", order(qty="10.1"), **at) == (False, "position_too_long", "20.1", "20", "-0.1")


def test_the_shortest_position_counts_open_sales_and_no_open_purchases() -> None:
    at = {"limits": limits(position_short_max=20), "position": Decimal(-7), **WORKING, **RICH}
    assert figures("position_limit", sell("11"), **at) == (True, "within_limit", "20", "20", "0")
    check = answer("position_limit", sell("11.1"), **at)
    assert (check.passed, check.code, check.value, check.headroom) == (False, "position_too_short", "20.1", "-0.1")
    assert "short position at worst -20.1" in check.message


def test_without_a_short_limit_of_the_account_nothing_may_be_sold_short() -> None:
    at = {"position": Decimal(5), **RICH}
    assert denials(sell("5"), **at) == {}
    short = {"position_limit": "short_not_allowed", "buying_power": "short_not_allowed"}
    assert denials(sell("6"), **at) == short
    assert denials(sell("6"), limits=limits(position_short_max=0), **at)["position_limit"] == "position_too_short"
    assert denials(sell("6"), limits=limits(position_short_max=1), **at) == {}


@pytest.mark.parametrize(("side", "held"), [(buy, "900"), (sell, "-900")])
def test_gross_exposure_at_the_limit_passes_and_a_step_beyond_does_not(side, held) -> None:
    at = {"limits": limits(gross_exposure_max=91_000, **SHORTS), "others": others(held), **RICH}
    assert figures("gross_exposure", side("10"), **at) == (True, "within_limit", "91000", "91000", "0")
    assert figures("gross_exposure", side("10.01"), **at)[:3] == (False, "gross_too_large", "91001")


def test_gross_exposure_counts_each_name_at_its_worst_and_never_nets() -> None:
    at = {"others": others("-50"), "position": Decimal(10), **WORKING, "limits": limits(**SHORTS), **RICH}
    assert answer("gross_exposure", order(qty="1"), **at).value == "6400"  # 50 + 10 + 3 + 1 at 100
    assert answer("gross_exposure", sell("30"), **at).value == "7200"  # 50 + |10 - 2 - 30| at 100


@pytest.mark.parametrize(("side", "held", "code"), [(buy, "900", "net_too_long"), (sell, "-900", "net_too_short")])
def test_net_exposure_binds_long_and_short_alike(side, held, code) -> None:
    at = {"limits": limits(net_exposure_max=91_000, **SHORTS), "others": others(held), **RICH}
    assert figures("net_exposure", side("10"), **at) == (True, "within_limit", "91000", "91000", "0")
    assert figures("net_exposure", side("10.01"), **at)[:3] == (False, code, "91001")


def test_net_exposure_takes_the_worst_of_filled_and_unfilled() -> None:
    at = {"others": others("-900"), "limits": limits(net_exposure_max=90_000), **RICH}
    assert figures("net_exposure", order(qty="10"), **at)[:3] == (True, "within_limit", "90000")  # it may not fill


@pytest.mark.parametrize("side", [buy, sell])
def test_concentration_is_a_share_of_equity_and_binds_long_and_short(side) -> None:
    at = {"limits": limits(concentration_max_bps=1000, **SHORTS), "book_equity": Decimal(10_000)}
    assert figures("concentration", side("10"), **at) == (True, "within_limit", "1000", "1000", "0")
    assert figures("concentration", side("10.1"), **at)[:3] == (False, "too_concentrated", "1010")


@pytest.mark.parametrize("equity", [None, Decimal(0), Decimal(-1)])
def test_concentration_without_equity_denies(equity) -> None:
    assert figures("concentration", order(), book_equity=equity)[:2] == (False, "equity_unknown")


GATES = ["position_limit", "gross_exposure", "net_exposure", "concentration", "buying_power"]


@pytest.mark.parametrize("gate", GATES)
def test_an_order_that_only_reduces_passes_whatever_the_figures_say(gate) -> None:
    tight = limits(
        position_long_max=1, position_short_max=1, gross_exposure_max=1, net_exposure_max=1, concentration_max_bps=1
    )
    at = {"limits": tight, "others": others("900"), "cash": Decimal(-5), "book_equity": None}
    assert figures(gate, sell("10"), position=Decimal(10), **at)[:2] == (True, "reduces_risk")
    assert figures(gate, order(qty="10"), position=Decimal(-10), **at)[:2] == (True, "reduces_risk")
    assert figures(gate, order(qty="10"), position=Decimal(10), **at)[0] is False
    assert figures(gate, sell("10"), position=Decimal(-10), **at)[0] is False


@pytest.mark.parametrize("gate", ["gross_exposure", "net_exposure", "concentration"])
def test_what_is_not_known_of_the_book_denies(gate) -> None:
    assert figures(gate, order(), book_sums=None)[:2] == (False, "exposure_unknown")
    assert figures(gate, order(), unit=None)[:2] == (False, "unit_unknown")
    blind = EMPTY_BOOK.replaced(EMPTY_NAME, name_risk(None, Decimal(1), Decimal(0), Decimal(0)))
    assert figures(gate, order(), others=blind)[:2] == (False, "exposure_unknown")


@pytest.mark.parametrize("gate", GATES)
def test_a_figure_that_is_no_number_denies(gate) -> None:
    nan = Decimal("NaN")
    at = {"position": nan, "cash": nan, "book_equity": nan, "limits": limits(position_short_max=10)}
    assert answer(gate, order(), book_sums=None, **at).passed is False
    assert answer(gate, sell(), book_sums=None, **at).passed is False


def test_headroom_above_the_account_binds_what_all_accounts_take_together() -> None:
    room = Headroom("firm", Decimal(5_000), Decimal(4_000))
    assert figures("gross_exposure", order(qty="10"), headroom=(room,), **RICH)[0] is True
    check = answer("gross_exposure", order(qty="10.1"), headroom=(room,), **RICH)
    assert (check.code, check.value, check.limit, check.headroom) == ("headroom_exhausted", "5010", "5000", "-10")
    assert "gross_exposure_max of firm" in check.message
    unlimited = Headroom("firm", None, Decimal(10**9))
    assert figures("gross_exposure", order(qty="10.1"), headroom=(unlimited,), **RICH)[0] is True


def test_an_order_takes_only_what_it_adds_to_its_strategy() -> None:
    room = Headroom("strategy:trend", Decimal(2_000), Decimal(1_500))
    held = {"position": Decimal(10), "working_buys": Decimal(5), "headroom": (room,), **RICH}
    assert answer("gross_exposure", order(qty="5"), **held).passed is True
    assert answer("gross_exposure", order(qty="5.1"), **held).code == "headroom_exhausted"
    covered = {**held, "limits": limits(position_short_max=100)}
    assert answer("gross_exposure", sell("25"), **covered).passed is True  # from +15 to -15 at worst: nothing more


def test_a_short_sale_costs_half_its_value_as_margin_beyond_its_proceeds() -> None:
    at = {"limits": limits(**SHORTS), "book_equity": Decimal(10**6)}
    assert figures("buying_power", sell("10"), cash=Decimal(500), **at)[:3] == (True, "sufficient", "500")
    assert figures("buying_power", sell("10"), cash=Decimal("499.99"), **at)[:3] == (False, "insufficient", "500")
    held = {**at, "position": Decimal(4)}
    assert figures("buying_power", sell("10"), cash=Decimal(300), **held)[:3] == (True, "sufficient", "300")


def test_executed_shorts_tie_up_their_margin_for_purchases_too() -> None:
    at = {"limits": limits(**SHORTS), "others": others("-10"), "book_equity": Decimal(10**6)}
    assert figures("buying_power", order(qty="5"), cash=Decimal(2_000), **at)[:2] == (True, "sufficient")
    assert figures("buying_power", order(qty="5"), cash=Decimal("1999.99"), **at)[:2] == (False, "insufficient")


def test_an_option_costs_its_premium_times_its_multiplier() -> None:
    asked = order(qty="2", limit="5", symbol=OPTION)
    at = {"unit": option_unit()}
    assert figures("buying_power", asked, cash=Decimal(1000), **at)[:3] == (True, "sufficient", "1000")
    assert figures("buying_power", asked, cash=Decimal("999.99"), **at)[:2] == (False, "insufficient")
