"""Statements: what is read from each format, and what is refused; nothing is ever half-imported."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.ops.statement_mappings import CsvMapping
from backend.tradingbot.ops.statements import (
    Control,
    Expected,
    StatementError,
    merged,
    read_statement,
    receive,
)

D = Decimal
DAY = date(2026, 1, 5)
EXPECTED = Expected("U1", DAY, datetime(2026, 1, 6, 5, tzinfo=UTC), session_date)
COLUMNS = {"execution_id": "Exec", "symbol": "Sym", "side": "Side", "qty": "Qty", "price": "Px", "occurred_at": "Time"}
TRADES = CsvMapping("house", 1, "executions", COLUMNS)
HEADER = "Exec,Sym,Side,Qty,Px,Time\n"


def received(content, name="file"):
    return receive(name, io.BytesIO(content.encode() if isinstance(content, str) else content))


def read_csv(content, mapping=TRADES, expected=EXPECTED):
    return read_statement(received(content), expected, "csv", mapping)


def refused(code, content, mapping=TRADES, source="csv", expected=EXPECTED):
    with pytest.raises(StatementError) as caught:
        read_statement(received(content), expected, source, mapping)
    assert caught.value.code == code
    return caught.value.message


# -- files


def test_the_hash_is_of_the_bytes_as_they_came_and_the_name_is_never_a_path():
    file = receive("../../etc/passwd\n", io.BytesIO(b"abc"))
    assert file.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (file.name, file.content) == ("passwd", b"abc")


def test_an_archive_with_one_file_is_unpacked_and_hashed_as_it_came():
    packed = gzip.compress(b"hello", mtime=0)
    file = received(packed)
    assert (file.content, file.original) == (b"hello", packed)
    folder = io.BytesIO()
    with zipfile.ZipFile(folder, "w") as archive:
        archive.writestr("a/statement.csv", "hello")
    assert received(folder.getvalue()).content == b"hello"


def test_an_archive_of_two_files_or_none_is_refused():
    for names in (["a", "b"], []):
        folder = io.BytesIO()
        with zipfile.ZipFile(folder, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        with pytest.raises(StatementError, match=f"holds {len(names)} files"):
            received(folder.getvalue())


@pytest.mark.parametrize(
    "damaged", [b"\x1f\x8b\x08broken", b"PK\x03\x04broken", gzip.compress(b"x" * 100, mtime=0)[:-9]]
)
def test_a_damaged_archive_is_refused(damaged):
    with pytest.raises(StatementError, match="cannot be unpacked"):
        received(damaged)


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_a_bomb_unpacks_to_no_more_than_the_limit(kind):
    if kind == "gzip":
        bomb = gzip.compress(b"0" * 50_000_000)
    else:
        folder = io.BytesIO()
        with zipfile.ZipFile(folder, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x", b"0" * 50_000_000)
        bomb = folder.getvalue()
    assert len(bomb) < 100_000
    tracemalloc.start()
    with pytest.raises(StatementError) as caught:
        receive("bomb", io.BytesIO(bomb), limit=5_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == "statement_bomb"
    assert peak < 16_000_000


def test_a_zip_that_lies_about_its_size_unpacks_to_no_more_than_the_limit():
    folder = io.BytesIO()
    with zipfile.ZipFile(folder, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", b"0" * 9_000_000)
    raw = folder.getvalue().replace((9_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    with pytest.raises(StatementError):
        receive("liar", io.BytesIO(raw), limit=1_000_000)


class Endless(io.RawIOBase):
    """A CSV of 500 MB that is made while it is read."""

    def __init__(self):
        self.left, self.line = 500_000_000, b"e1,AAPL,BUY,100,150.00,2026-01-05T10:00:00\n" * 2000

    def read(self, size=-1):
        self.left -= len(self.line)
        return self.line if self.left > 0 else b""


def test_a_csv_of_500_megabytes_is_refused_without_being_held():
    tracemalloc.start()
    with pytest.raises(StatementError) as caught:
        receive("huge.csv", Endless(), limit=8_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == "statement_too_large"
    assert peak < 24_000_000


def test_an_empty_file_is_not_a_flat_day():
    with pytest.raises(StatementError, match="is empty"):
        received(b"")


# -- CSV


def test_a_csv_is_read_by_its_mapping_with_zone_decimal_comma_brackets_and_words():
    mapping = CsvMapping(
        "berlin", 3, "executions",
        {"execution_id": "Nr", "symbol": "Wert", "side": "Art", "qty": "Stück", "price": "Kurs", "occurred_at": "Zeit",
         "fee": "Gebühr"},
        delimiter=";", encoding="cp1252", decimal_mark=",", thousands_mark=".", time_zone="Europe/Berlin",
        time_format="%d.%m.%Y %H:%M:%S", side_words={"Kauf": "buy", "Verkauf": "sell"},
    )  # fmt: skip
    text = (
        "Nr;Wert;Art;Stück;Kurs;Zeit;Gebühr\n"
        "e1;AAPL;Kauf;1.000;150,25;05.01.2026 16:00:01;(1,50)\n"
        "e2;AAPL;VERKAUF;5;151;05.01.2026 17:00:00;\n"
    )
    statement = read_csv(text.encode("cp1252"), mapping)
    first, second = statement.books.executions.to_dicts()
    assert (first["qty"], first["price"], first["fee"], first["side"]) == (D(1000), D("150.25"), D("1.50"), "buy")
    assert first["occurred_at"] == datetime(2026, 1, 5, 15, 0, 1, tzinfo=UTC)
    assert (first["trade_date"], first["multiplier"]) == (DAY, D(1))
    assert (second["side"], second["fee"]) == ("sell", None)
    assert (statement.counts, statement.totals) == ({"executions": 2}, {"executions": "-149495"})
    assert (statement.books.positions, statement.books.cash, statement.problems) == (None, None, ())


def test_without_a_side_column_the_sign_of_the_quantity_is_the_side():
    columns = {name: column for name, column in COLUMNS.items() if name != "side"}
    mapping = CsvMapping("signed", 1, "executions", columns)
    rows = read_csv("Exec,Sym,Qty,Px,Time\ne1,AAPL,-5,150,2026-01-05T10:00:00\n", mapping).books.executions.to_dicts()
    assert (rows[0]["side"], rows[0]["qty"]) == ("sell", D(5))
    refused("statement_unreadable", "Exec,Sym,Qty,Px,Time\ne1,AAPL,0,150,2026-01-05T10:00:00\n", mapping)


def test_positions_cash_and_activities_have_mappings_of_their_own():
    positions = CsvMapping("p", 1, "positions", {"symbol": "S", "qty": "Q", "avg_price": "C", "mark": "M"})
    (row,) = read_csv("S,Q,C,M\nAAPL260116C00150000,-3,2.1234567891,3\n", positions).books.positions.to_dicts()
    assert (row["qty"], row["avg_price"], row["multiplier"]) == (D(-3), D("2.123456789"), D(100))
    cash = read_csv('Balance\n"1,234.56"\n', CsvMapping("c", 1, "cash", {"amount": "Balance"}, thousands_mark=","))
    assert (cash.books.cash, cash.totals) == (D("1234.56"), {"cash": "1234.56"})
    told = {"activity_id": "Id", "kind": "Type", "amount": "Amt", "date": "D", "description": "Text"}
    activities = CsvMapping("a", 1, "activities", told, kind_words={"Reg fee": "fee"})
    rows = read_csv(
        "Id,Type,Amt,D,Text\n1,REG FEE,-0.12,2026-01-05,TAF\n2,Odd,5,2026-01-05,\n", activities
    ).books.activities
    assert rows["kind"].to_list() == ["fee", "other"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("e1,AAPL,BUY,1e3,150,2026-01-05T10:00:00", "line 2, Qty: '1e3' is not an exact number"),
        ("e1,AAPL,BUY,NaN,150,2026-01-05T10:00:00", "line 2, Qty: 'NaN' is not an exact number"),
        ("e1,AAPL,BUY,10,150.1234567891,2026-01-05T10:00:00", "line 2, Px: '150.1234567891' is not an exact number"),
        ('e1,AAPL,BUY,10,"150,25",2026-01-05T10:00:00', "line 2, Px: '150,25' is not an exact number"),
        ("e1,AAPL,BOUGHT,10,150,2026-01-05T10:00:00", "line 2, Side: 'BOUGHT' is no side"),
        ("e1,AAPL,BUY,10,150,yesterday", "line 2, Time: 'yesterday' is not a time"),
        ("e1,AAPL,BUY,10,150,2026-03-08T02:30:00", "line 2, Time: '2026-03-08T02:30:00' is not a time"),
        ("e1,=cmd|calc!A1,BUY,10,150,2026-01-05T10:00:00", "line 2, Sym: '=cmd|calc!A1' starts like a formula"),
        ("@SUM(A1),AAPL,BUY,10,150,2026-01-05T10:00:00", "line 2, Exec: '@SUM(A1)' starts like a formula"),
        ("e1,AA\x07L,BUY,10,150,2026-01-05T10:00:00", "line 2, Sym: 'AA\\x07L' is too long or has control characters"),
    ],
)  # fmt: skip
def test_a_bad_cell_refuses_the_file_by_line_and_column(line, message):
    told = refused("statement_cell", HEADER + line + "\n")
    assert told.replace('\\"', '"').startswith(message.split(": ")[0])
    assert message.split(": ", 1)[1] in told


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("statement_truncated", HEADER + "e1,AAPL,BUY,10,150,2026-01-05T10:00:00\ne2,AAPL,BUY"),
        ("statement_truncated", HEADER + "e1,AAPL,BUY,10,150,2026-01-05T10:00:00,more\n"),
        ("statement_truncated", HEADER + "\ne1,AAPL,BUY,10,150,2026-01-05T10:00:00\n"),
        ("statement_unreadable", HEADER + 'e1,"AAPL,BUY,10,150,2026-01-05T10:00:00\n'),
        ("statement_unreadable", "\n"),
        ("statement_unreadable", "Exec,Sym,Side,Qty,Px,Px\n"),
        ("statement_mapping", "Exec,Sym,Side,Qty,Px\n"),
        ("statement_encoding", (HEADER + "e1,AAPL,BUY,10,150,2026-01-05T10:00:00é\n").encode("latin-1")),
        ("statement_encoding", (HEADER + "e1,AAPL,BUY,10,150,2026-01-05T10:00:00\n").encode("utf-16")),
        ("statement_unreadable", HEADER + f"e1,AAPL,BUY,10,150,{'9' * 20_000}\n"),
    ],
)
def test_a_csv_that_is_not_whole_is_refused(code, content):
    refused(code, content)


def test_rows_that_are_the_same_twice_and_have_no_id_are_refused():
    columns = {name: column for name, column in COLUMNS.items() if name != "execution_id"}
    mapping = CsvMapping("anonymous", 1, "executions", columns)
    line = "AAPL,BUY,10,150,2026-01-05T10:00:00\n"
    assert "line 2" in refused("statement_duplicate_rows", "Sym,Side,Qty,Px,Time\n" + line + line, mapping)


def test_another_account_or_another_day_is_refused():
    mapping = CsvMapping("owned", 1, "executions", COLUMNS, account_column="Acct")
    header, line = "Acct," + HEADER, "e1,AAPL,BUY,10,150,2026-01-05T10:00:00\n"
    assert read_csv(header + "U1," + line, mapping).counts == {"executions": 1}
    assert "U2" in refused("statement_other_account", header + "U1," + line + "U2," + line, mapping)
    for day in ("2026-01-02", "2026-01-06"):
        told = refused("statement_other_date", HEADER + line.replace("2026-01-05", day))
        assert f"newest execution is of {day}, not of 2026-01-05" in told
    late = HEADER + line.replace("2026-01-05", "2026-01-02") + line.replace("e1", "e2")
    assert [str(day) for day in read_csv(late).books.executions["trade_date"]] == ["2026-01-02", "2026-01-05"]


def test_a_trailer_is_a_control_that_the_rows_must_meet():
    mapping = CsvMapping("closed", 1, "executions", COLUMNS, trailer="TOTAL")
    line = "e1,AAPL,BUY,10,150,2026-01-05T10:00:00\n"
    assert read_csv(HEADER + line + "TOTAL,1,-1500\n", mapping).problems == ()
    short = read_csv(HEADER + line + "TOTAL,2,-3000\n", mapping)
    assert short.problems == (
        ("executions", "should have 2 rows and has 1"),
        ("executions", "should come to -3000 and comes to -1500"),
    )
    refused("statement_truncated", HEADER + line, mapping)
    refused("statement_unreadable", HEADER + line + "TOTAL,1,-1500\n" + line, mapping)


def test_controls_that_came_beside_the_file_are_checked_too():
    expected = Expected("U1", DAY, EXPECTED.as_of, session_date, controls=(Control("executions", rows=3),))
    assert read_csv(HEADER, expected=expected).problems == (("executions", "should have 3 rows and has 0"),)
    assert read_csv(HEADER).problems == ()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"table": "orders"}, "table"),
        ({"columns": {"symbol": "S"}}, "columns.qty"),
        ({"columns": {**COLUMNS, "colour": "C"}}, "columns.colour"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"decimal_mark": ","  , "thousands_mark": ","}, "delimiter"),
        ({"side_words": {"X": "short"}}, "side_words"),
        ({"kind_words": {"X": "tip"}}, "kind_words"),
    ],
)  # fmt: skip
def test_a_mapping_that_makes_no_sense_cannot_be_made(changes, field):
    with pytest.raises(InvalidInputError) as caught:
        CsvMapping(**{"name": "m", "version": 1, "table": "executions", "columns": COLUMNS, **changes})
    assert field in [error.field for error in caught.value.errors]


# -- Alpaca JSON


FILL = {
    "activity_type": "FILL", "id": "20260105150000000::e1", "order_id": "b1", "symbol": "AAPL", "side": "buy",
    "qty": "10", "price": "150.25", "type": "fill", "transaction_time": "2026-01-05T15:00:00.123456Z",
}  # fmt: skip
POSITION = {"symbol": "AAPL", "qty": "10", "side": "long", "avg_entry_price": "150.25", "current_price": "150.25"}
ORDER = {"id": "b1", "client_order_id": "c1", "symbol": "AAPL", "side": "buy", "qty": "10"}
WHOLE = {
    "account": {"account_number": "U1", "cash": "98497.50", "equity": "100000"},
    "positions": [POSITION],
    "orders": [{**ORDER, "filled_qty": "10", "status": "filled"}],
    "activities": [FILL],
    "as_of": "2026-01-05T21:20:00Z",
}
FEE = {"activity_type": "FEE", "id": "f1", "date": "2026-01-05", "net_amount": "-0.02"}


def read_json(body):
    return read_statement(received(json.dumps(body)), EXPECTED, "alpaca_json")


def test_a_whole_answer_of_the_broker_tells_every_section():
    statement = read_json(WHOLE)
    assert statement.as_of == datetime(2026, 1, 5, 21, 20, tzinfo=UTC)
    assert statement.counts == {"executions": 1, "orders": 1, "positions": 1, "activities": 0}
    assert statement.totals == {"executions": "-1502.5", "positions": "10", "activities": "0", "cash": "98497.5"}
    (row,) = statement.books.executions.to_dicts()
    assert (row["execution_id"], row["order_id"], row["kind"], row["qty"]) == ("e1", "b1", "fill", D(10))
    assert statement.books.equity == D(100_000)


def test_a_list_of_activities_tells_neither_positions_nor_cash():
    statement = read_json([FILL])
    assert (statement.books.positions, statement.books.cash) == (None, None)


def test_activities_get_their_kind_and_a_fee_the_day_that_it_is_for():
    rows = [
        {**FEE, "description": "TAF fee for proceed of 2 shares (1 trades) on 2026-01-02 by U1"},
        {"activity_type": "DIV", "id": "d1", "date": "2026-01-05", "net_amount": "2.40", "symbol": "AAPL", "qty": "10"},
        {"activity_type": "CSW", "id": "w1", "date": "2026-01-05", "net_amount": "-500"},
        {"activity_type": "SPLIT", "id": "s1", "date": "2026-01-05", "net_amount": "0", "symbol": "AAPL", "qty": "30"},
        {"activity_type": "OPEXP", "id": "o1", "date": "2026-01-05", "symbol": "AAPL260105C00150000", "qty": "-1"},
        {"activity_type": "NEW", "id": "n1", "date": "2026-01-05", "net_amount": "1"},
    ]  # fmt: skip
    found = read_json([FILL, *rows]).books.activities
    assert found["kind"].to_list() == ["fee", "dividend", "flow", "corporate_action", "option_event", "other"]
    assert (found["covers"][0], found["amount"][4], found["qty"][3]) == (date(2026, 1, 2), D(0), D(30))


def test_busts_and_corrections_name_what_they_take_back():
    change = {**FILL, "id": "x::e2", "type": "trade_correct", "previous_execution_id": "e1", "price": "150.30"}
    rows = read_json([FILL, change]).books.executions.to_dicts()
    assert (rows[1]["kind"], rows[1]["refers_to"]) == ("correction", "e1")
    refused("statement_unreadable", json.dumps([{**FILL, "type": "trade_bust"}]), source="alpaca_json")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("statement_truncated", json.dumps(WHOLE)[:-20]),
        ("statement_truncated", "[" * 100_000),
        ("statement_unreadable", json.dumps({"positions": {}})),
        ("statement_unreadable", json.dumps({"balance": 5})),
        ("statement_unreadable", "5"),
        ("statement_unreadable", '{"account": {"account_number": "U1", "cash": NaN}}'),
        ("statement_number", json.dumps({"account": {"account_number": "U1", "cash": "1e400"}})),
        ("statement_number", json.dumps([{**FILL, "qty": "1_0"}])),
        ("statement_number", json.dumps([{**FILL, "qty": None}])),
        ("statement_other_account", json.dumps({"account": {"account_number": "U2", "cash": "1"}})),
        ("statement_other_date", json.dumps([{**FILL, "transaction_time": "2026-01-06T15:00:00Z"}])),
        ("statement_time", json.dumps([{**FILL, "transaction_time": "2026-01-05T15:00:00"}])),
        ("statement_formula", json.dumps([{**FILL, "symbol": "=1+1"}])),
        ("statement_formula", json.dumps([FILL, {**FEE, "description": '=HYPERLINK("x")'}])),
        ("statement_encoding", json.dumps(WHOLE).encode("utf-16")),
    ],
)  # fmt: skip
def test_json_that_is_not_whole_or_not_ours_is_refused(code, body):
    refused(code, body, source="alpaca_json")


def test_answers_that_did_not_fit_together_are_a_problem():
    assert read_json({**WHOLE, "complete": False}).problems == (("file", "the broker's answers did not fit together"),)


def test_nothing_at_all_is_a_problem():
    assert read_json({}).problems == (("file", "tells nothing at all"),)


# -- Flex XML


def flex(trades="", account="U1", first="2026-01-05", last="2026-01-05", more=""):
    return (
        f'<FlexQueryResponse queryName="q" type="AF"><FlexStatements count="1"><FlexStatement accountId="{account}" '
        f'fromDate="{first}" toDate="{last}" period="LastBusinessDay" whenGenerated="2026-01-05;18:00:00">'
        f"<Trades>{trades}</Trades>"
        '<OpenPositions><OpenPosition accountId="U1" symbol="AAPL" position="10" markPrice="151" '
        'costBasisPrice="150.35" multiplier="1" levelOfDetail="SUMMARY"/></OpenPositions>'
        '<CashReport><CashReportCurrency accountId="U1" currency="BASE_SUMMARY" endingCash="98496.5"/></CashReport>'
        '<CashTransactions><CashTransaction accountId="U1" type="Dividends" amount="2.40" symbol="AAPL" '
        'transactionID="77" description="AAPL CASH DIVIDEND" levelOfDetail="DETAIL"/></CashTransactions>'
        f"{more}</FlexStatement></FlexStatements></FlexQueryResponse>"
    )


def trade(number="1", **changes):
    fields = {
        "accountId": "U1", "symbol": "AAPL", "buySell": "BUY", "quantity": "10", "tradePrice": "150.25",
        "multiplier": "1", "dateTime": "2026-01-05;10:00:00", "tradeDate": "2026-01-05",
        "ibExecID": f"x{number}", "tradeID": f"t{number}", "ibOrderID": "b1", "orderReference": "c1",
        "ibCommission": "-1", "taxes": "0",
        "levelOfDetail": "EXECUTION", **changes,
    }  # fmt: skip
    return "<Trade " + " ".join(f'{name}="{value}"' for name, value in fields.items()) + "/>"


def read_flex(text):
    return read_statement(received(text), EXPECTED, "flex_xml")


def test_a_flex_statement_is_read_with_our_id_its_fee_and_new_york_times():
    summary = trade("9", levelOfDetail="ORDER")
    statement = read_flex(flex(trade() + summary))
    (row,) = statement.books.executions.to_dicts()
    assert (row["execution_id"], row["order_id"], row["client_order_id"], row["fee"]) == ("x1", "b1", "c1", D(1))
    assert row["occurred_at"] == datetime(2026, 1, 5, 10, 0, tzinfo=ZoneInfo("America/New_York"))
    assert statement.books.cash == D("98496.5")
    assert statement.books.positions.to_dicts()[0]["avg_price"] == D("150.35")
    assert statement.books.activities.to_dicts()[0]["kind"] == "dividend"


def test_a_cancelled_flex_trade_is_a_bust_of_the_execution_that_it_names():
    cancel = trade("2", buySell="BUY (Ca.)", quantity="-10", origTradeID="t1")
    rows = read_flex(flex(trade() + cancel)).books.executions.to_dicts()
    assert [(row["kind"], row["refers_to"]) for row in rows] == [("fill", None), ("bust", "x1")]


def test_a_flex_statement_without_a_section_does_not_tell_it():
    text = flex(trade()).replace("<CashReport>", "<!--").replace("</CashReport>", "-->")
    assert read_flex(text).books.cash is None


BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("statement_truncated", flex(trade())[:-60]),
        ("statement_truncated", flex(trade())[: len(flex(trade())) // 2]),
        ("statement_bomb", BOMB + flex("&b;")),
        ("statement_bomb", '<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>'),
        ("statement_unreadable", "<html><body>Login</body></html>"),
        ("statement_other_account", flex(trade(), account="U2")),
        ("statement_other_date", flex(trade(), first="2026-01-02")),
        ("statement_other_date", flex(trade(tradeDate="2026-01-02"))),
        ("statement_unreadable", flex(trade(levelOfDetail="ORDER"))),
        ("statement_unreadable", flex(trade(quantity="ten"))),
        ("statement_unreadable", flex(trade(newField="1"))),
        ("statement_unreadable", flex(trade(buySell="BUY (Ca.)"))),
        ("statement_formula", flex(trade(orderReference="=1+1"))),
        ("statement_encoding", flex(trade()).encode("utf-16")),
        ("statement_truncated", "<a>" * 300_000),
    ],
)
def test_xml_that_is_not_whole_or_not_ours_or_not_safe_is_refused(code, text):
    refused(code, text, source="flex_xml")


# -- together


def test_several_statements_of_a_day_tell_each_section_once_the_later_one():
    positions = CsvMapping("p", 1, "positions", {"symbol": "S", "qty": "Q"})
    whole = merged([read_json([FILL]), read_csv("S,Q\nAAPL,10\n", positions), read_csv("S,Q\nAAPL,11\n", positions)])
    assert whole.books.executions.height == 1
    assert whole.books.positions["qty"].to_list() == [D(11)]
    assert (whole.books.cash, whole.counts) == (None, {"executions": 1, "positions": 1, "activities": 0})


def test_an_unknown_source_or_a_csv_without_a_mapping_is_refused():
    refused("statement_source", "x", source="pdf")
    refused("statement_mapping", "x", mapping=None)
