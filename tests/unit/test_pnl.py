"""P&L attribution: FIFO and average cost, entries that are no trades, options by Greek; and that it adds up."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.ops.pnl import DayPnl, Opening, attribute_day
from backend.tradingbot.ops.pnl_lots import AverageState, Lot, first_in_first_out
from backend.tradingbot.ops.pnl_options import OptionMove, attribute_option
from backend.tradingbot.ops.recon_frames import frame
from backend.tradingbot.ops.recon_proofs import Entry, Proof, cash_proof, equity_proof, position_proofs

D = Decimal
START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def trades(*rows, symbol="AAPL", strategy="mean", multiplier=1):
    made = []
    for number, (side, qty, price) in enumerate(rows):
        made.append(
            {
                "execution_id": f"e{number:05}", "symbol": symbol, "side": side, "qty": D(qty), "price": D(price),
                "occurred_at": START + timedelta(seconds=number), "trade_date": date(2026, 1, 5),
                "multiplier": D(multiplier), "strategy": strategy,
            }
        )  # fmt: skip
    return frame("executions", made)


def day(executions, opening=None, entries=(), marks=None, **units) -> DayPnl:
    return attribute_day(opening or Opening(), executions, entries, {"AAPL": D(105)} if marks is None else marks, units)


def test_first_in_first_out_realises_against_the_oldest_lot_and_the_average_against_all():
    result = day(trades(("buy", 100, 100), ("buy", 100, 104), ("sell", 150, 106)))
    (line,) = result.lines
    assert line.realized_fifo == D(100 * 6 + 50 * 2)
    assert line.realized_average == D(150 * 4)
    assert result.closing.lots == {("mean", "AAPL"): (Lot(D(50), D(104)),)}
    assert result.closing.averages == {("mean", "AAPL"): AverageState(D(50), D(102))}
    assert (line.unrealized, line.total) == (D(50), D(750))


def test_crossing_zero_closes_the_long_and_opens_the_short_at_the_same_price():
    result = day(trades(("buy", 100, 100), ("sell", 150, 110), ("buy", 20, 108)))
    (line,) = result.lines
    assert line.realized_fifo == line.realized_average == D(100 * 10 + 20 * 2)
    assert result.closing.lots == {("mean", "AAPL"): (Lot(D(-30), D(110)),)}
    assert line.unrealized == D(150)


def test_a_multiplier_scales_money_and_not_quantity():
    result = day(trades(("buy", 10, "2.40"), ("sell", 4, "2.90"), multiplier=100), marks={"AAPL": D("3.00")})
    assert (result.lines[0].realized_fifo, result.lines[0].unrealized) == (D("200.00"), D("360.00"))


def test_opening_lots_are_consumed_before_those_of_the_day_and_only_the_change_counts():
    opening = Opening(
        {("mean", "AAPL"): (Lot(D(10), D(90)), Lot(D(10), D(95)))}, {("mean", "AAPL"): AverageState(D(20), D("92.5"))},
        {"AAPL": D(100)},
    )  # fmt: skip
    result = day(trades(("buy", 10, 101), ("sell", 15, 104)), opening)
    (line,) = result.lines
    assert line.realized_fifo == D(10 * 14 + 5 * 9)
    assert line.realized_average == (D(104) - D("95.333333333")) * 15
    assert line.unrealized == D(5 * 10 + 10 * 4)
    assert line.unrealized_change == D(90) - D(10 * 10 + 10 * 5)


def test_strategies_are_kept_apart():
    both = frame(
        "executions", [*trades(("buy", 1, 100)).to_dicts(), *trades(("sell", 1, 103), strategy="trend").to_dicts()]
    )
    result = day(both)
    assert [(line.strategy, line.realized_fifo, line.unrealized) for line in result.lines] == [
        ("mean", D(0), D(5)),
        ("trend", D(0), D(-2)),
    ]


def test_a_held_symbol_without_a_mark_is_unknown_and_not_zero():
    result = day(trades(("buy", 1, 100)), marks={})
    assert (result.lines[0].unrealized, result.lines[0].total, result.unmarked) == (None, None, ("AAPL",))
    assert result.equity_lines() is None


def naive_fifo(rows):
    lots, gain = [], D(0)
    for side, qty, price in rows:
        left = D(qty) if side == "buy" else -D(qty)
        while left and lots and lots[0][0] * left < 0:
            closed = min(abs(left), abs(lots[0][0]))
            gain += closed * (price - lots[0][1]) * (1 if lots[0][0] > 0 else -1)
            lots[0][0] += closed if left > 0 else -closed
            left += -closed if left > 0 else closed
            if not lots[0][0]:
                lots.pop(0)
        if left:
            lots.append([left, price])
    return gain, tuple(Lot(qty, price) for qty, price in lots)


@pytest.mark.parametrize("seed", range(25))
def test_the_columns_realise_what_a_plain_loop_over_lots_does(seed):
    dice = random.Random(seed)
    rows = [
        (dice.choice(["buy", "sell"]), D(dice.randint(1, 300)) / 10, D(dice.randint(9000, 11000)) / 100)
        for _ in range(120)
    ]
    result = first_in_first_out({}, trades(*rows))
    gain, lots = naive_fifo(rows)
    assert result.realized[("mean", "AAPL")] == gain
    assert result.lots.get(("mean", "AAPL"), ()) == lots


def equity(cash, result, marks):
    worth = sum(lot.qty * marks[symbol] for (_, symbol), lots in result.closing.lots.items() for lot in lots)
    return cash + worth


@pytest.mark.parametrize("seed", range(10))
def test_every_line_together_is_the_change_of_equity_with_every_kind_of_entry(seed):
    dice = random.Random(seed)
    rows = [
        (dice.choice(["buy", "buy", "sell"]), dice.randint(1, 50), D(dice.randint(9500, 10500)) / 100)
        for _ in range(30)
    ]
    first = trades(*rows)
    opened = attribute_day(Opening(), first, [], {"AAPL": D("101.25")})
    held = sum(lot.qty for lots in opened.closing.lots.values() for lot in lots)
    entries = [
        Entry("fee", "", D(0), D("-1.23")),
        Entry("dividend", "AAPL", D(0), D("12.50")),
        Entry("interest", "", D(0), D("0.77")),
        Entry("flow", "", D(0), D(5000)),
        Entry("corporate_action", "AAPL", held, D(0)),
        Entry("correction", "AAPL", D(10), D(-505)),
        Entry("correction", "", D(0), D("-0.05")),
        Entry("flow", "AAPL", D(7), D(0)),
        Entry("option_event", "AAPL", D(-3), D(0)),
        Entry("correction", "AAPL", D(2), D(9)),
    ]
    second = trades(*[(side, qty, price / 2) for side, qty, price in rows])
    marks = {"AAPL": D("51.50")}
    result = attribute_day(opened.closing, second, entries, marks)
    cash0 = D(10_000)
    cash1 = cash0 + cash_proof(D(0), second, entries, D(0)).unexplained * -1
    proof = equity_proof(
        equity(cash0, opened, {"AAPL": D("101.25")}), result.equity_lines(), equity(cash1, result, marks)
    )
    assert abs(proof.unexplained) < D("0.000001")
    assert [name for name, _ in proof.lines] == [
        "realized",
        "unrealized_change",
        "dividends",
        "interest",
        "fees",
        "flows",
        "corrections",
    ]


def test_a_split_keeps_the_cost_of_the_whole():
    opened = attribute_day(Opening(), trades(("buy", 100, 150)), [], {"AAPL": D(160)})
    result = attribute_day(opened.closing, trades(), [Entry("corporate_action", "AAPL", D(100), D(0))], {"AAPL": D(80)})
    assert result.closing.lots == {("mean", "AAPL"): (Lot(D(200), D(75)),)}
    assert (result.lines[0].unrealized_change, result.booked.corrections) == (D(0), D(0))


def test_an_option_that_expires_worthless_realises_the_loss_of_its_premium():
    opened = attribute_day(Opening(), trades(("buy", 10, "2.40"), symbol="X", multiplier=100), [], {"X": D("0.10")})
    result = attribute_day(opened.closing, trades(), [Entry("option_event", "X", D(-10), D(0))], {}, {"X": D(100)})
    (line,) = result.lines
    assert (line.strategy, line.realized_fifo, line.unrealized, result.unmarked) == ("mean", D(-2400), D(0), ())
    assert result.closing.lots == {}


def test_proofs_add_up_and_say_what_is_missing():
    rows = trades(("buy", 10, 100), ("sell", 4, 110))
    entries = [
        Entry("corporate_action", "AAPL", D(6), D(0)),
        Entry("flow", "MSFT", D(3), D(0)),
        Entry("fee", "", D(0), D(-1)),
    ]
    aapl, msft = position_proofs({"AAPL": D(5)}, rows, entries, {"AAPL": D(17), "MSFT": D(2)})
    assert aapl == Proof(
        "AAPL", D(5), (("fills", D(6)), ("corporate_actions", D(6)), ("transfers", D(0)), ("corrections", D(0))), D(17)
    )
    assert (aapl.holds, msft.unexplained) == (True, D(-1))
    cash = cash_proof(D(1000), rows, entries, D(440))
    assert cash.as_dict() == {
        "name": "cash", "opening": "1000",
        "lines": {"trades": "-560", "fees": "-1", "dividends": "0", "interest": "0", "flows": "0", "corrections": "0"},
        "unexplained": "1", "closing": "440",
    }  # fmt: skip


def test_the_option_vector_comes_out_to_four_decimals():
    """+10 calls x100, K 50, r 5 %, S 49 -> 50, vol 20 -> 21 %, 140 -> 139 days; prices and Greeks by Black-Scholes."""
    from backend.tradingbot.risk.greeks import black_scholes

    before = black_scholes(49.0, 50.0, 0.05, 0.20, 140 / 365, True)
    after = black_scholes(50.0, 50.0, 0.05, 0.21, 139 / 365, True)
    now = {name: D(repr(float(getattr(before, name)))) for name in ("price", "delta", "gamma", "vega", "theta")}
    move = OptionMove(
        "X", D(10), D(100), now["price"], D(repr(float(after.price))), D(49), D(50), D("0.20"), D("0.21"), D(1),
        now["delta"], now["gamma"], now["vega"], now["theta"],
    )  # fmt: skip
    found = attribute_option(move)
    expected = {"actual": "661.8973", "delta": "521.3971", "gamma": "32.8179"}
    expected |= {"vega": "120.8923", "theta": "-11.8067", "residual": "-1.4032"}
    assert {name: str(round(getattr(found, name), 4)) for name in expected} == expected


def test_an_option_figure_that_is_not_finite_is_refused():
    numbers = dict.fromkeys(OptionMove.__dataclass_fields__, D(1)) | {"symbol": "X", "gamma": D("NaN")}
    with pytest.raises(ValueError, match="gamma of X must be finite"):
        attribute_option(OptionMove(**numbers))
