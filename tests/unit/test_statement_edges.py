"""What a statement may not slip past: a sign against its side, rows without an id twice, an archive of folders; and
what is taken back of it when a run comes late."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.ops.recon_frames import Books, frame
from backend.tradingbot.ops.statement_cut import taken_back
from backend.tradingbot.ops.statement_mappings import CsvMapping
from backend.tradingbot.ops.statements import StatementError
from tests.unit.test_statements import COLUMNS, HEADER, TRADES, read_csv, received, refused

D = Decimal
DAY = date(2026, 1, 5)
CUT = datetime(2026, 1, 6, 5, tzinfo=UTC)


def test_a_negative_purchase_is_refused_and_a_negative_sale_is_a_sale():
    line = "e1,AAPL,{},-100,150.00,2026-01-05T10:00:00\n"
    told = refused("statement_cell", HEADER + line.format("BUY"))
    assert "line 2, Qty" in told
    rows = read_csv(HEADER + line.format("SELL")).books.executions
    assert rows.select("side", "qty").row(0) == ("sell", D(100))


@pytest.mark.parametrize("qty", ["", "0"])
def test_a_trade_of_nothing_is_refused(qty):
    with pytest.raises(StatementError):
        read_csv(HEADER + f"e1,AAPL,BUY,{qty},150.00,2026-01-05T10:00:00\n")


def test_rows_whose_id_is_empty_count_as_rows_without_one():
    line = ",AAPL,BUY,10,150,2026-01-05T10:00:00\n"
    assert "line 3" in refused("statement_duplicate_rows", HEADER + "e1" + line + line + line)


def test_the_same_row_twice_with_its_id_is_read_for_the_engine_to_judge():
    line = "e1,AAPL,BUY,10,150,2026-01-05T10:00:00\n"
    assert read_csv(HEADER + line + line).books.executions.height == 2


def test_an_archive_of_many_folders_is_refused_before_its_list_is_read(monkeypatch):
    folder = io.BytesIO()
    with zipfile.ZipFile(folder, "w") as archive:
        archive.writestr("statement.csv", "hello")
        for number in range(300):
            archive.writestr(f"f{number}/", "")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("its list of members was read"))
    with pytest.raises(StatementError, match="more than one"):
        received(folder.getvalue())


@pytest.mark.parametrize("mark", ["é", "\n", '"', "\r", "\x00"])
def test_a_delimiter_that_cannot_part_cells_makes_no_mapping(mark):
    with pytest.raises(InvalidInputError, match="delimiter"):
        CsvMapping("odd", 1, "executions", COLUMNS, delimiter=mark)


def execution(number, hour, **changes):
    at = CUT + timedelta(hours=hour)
    row = {"execution_id": f"e{number}", "order_id": "b1", "symbol": "AAPL", "side": "buy", "qty": D(100),
           "price": D(150), "occurred_at": at, "trade_date": DAY}  # fmt: skip
    return {**row, **changes}


def now(executions, qty, cash):
    held = [{"symbol": "AAPL", "qty": D(qty), "avg_price": D(150), "mark": D(151)}] if qty else []
    return Books(frame("executions", executions), positions=frame("positions", held), activities=frame("activities"),
                 cash=D(cash), equity=D(1))  # fmt: skip


def correction(number, of, hour, qty, price=150):
    return execution(number, hour, kind="correction", refers_to=of, qty=D(qty), price=D(price))


def at_cut(books):
    back = taken_back(books, CUT, DAY)
    return dict(back.positions.select("symbol", "qty").iter_rows()), back.cash, back.executions.height


def test_a_correction_after_the_cut_is_taken_back_to_what_was_told_before_it():
    told = [execution(1, -2), correction(2, "e1", 9, 90)]
    assert at_cut(now(told, 90, 100_000 - 90 * 150)) == ({"AAPL": D(100)}, D(85_000), 1)


def test_a_correction_of_a_correction_and_of_what_came_after_the_cut_is_taken_back_whole():
    told = [execution(1, -2), correction(2, "e1", 9, 90), correction(3, "e2", 10, 80)]
    told += [execution(4, 8, price=D(151)), correction(5, "e4", 11, 50, 151)]
    assert at_cut(now(told, 130, 100_000 - 80 * 150 - 50 * 151)) == ({"AAPL": D(100)}, D(85_000), 1)


def test_a_bust_after_the_cut_is_taken_back_whether_or_not_its_execution_is_told():
    bust = execution(2, 9, kind="bust", refers_to="e1")
    for told in ([execution(1, -2), bust], [bust]):
        assert at_cut(now(told, 0, 100_000))[:2] == ({"AAPL": D(100)}, D(85_000))


def test_a_bust_of_what_was_corrected_after_the_cut_takes_both_back():
    told = [execution(1, -2), correction(2, "e1", 9, 90), execution(3, 10, kind="bust", refers_to="e2", qty=D(90))]
    assert at_cut(now(told, 0, 100_000)) == ({"AAPL": D(100)}, D(85_000), 1)


def test_trades_and_activities_after_the_cut_are_taken_back():
    told = now([execution(1, -2), execution(2, 9, side="sell", qty=D(30), price=D(160))], 70, 85_000 + 4_800 - 5)
    fee = {"activity_id": "f", "kind": "fee", "amount": D(-5), "date": DAY + timedelta(days=1)}
    assert at_cut(replace(told, activities=frame("activities", [fee]))) == ({"AAPL": D(100)}, D(85_000), 1)


def test_the_mapping_of_the_tests_reads_a_plain_row():
    assert read_csv(HEADER + "e1,AAPL,BUY,100,150.00,2026-01-05T10:00:00\n", TRADES).books.executions.height == 1
