"""Statements that are no good, through the real door: a clear refusal, nothing of them in any table, and a day that was
not closed by them is a break and a block, never flat."""

from __future__ import annotations

import gzip
import io
import json
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from backend.tradingbot.models import (
    Break,
    JournalEntry,
    Statement,
    StatementActivity,
    StatementExecution,
    StatementFile,
    StatementOrder,
    StatementPosition,
)
from backend.tradingbot.ops.statements import StatementError
from backend.tradingbot.selectors.blocks import open_blocks
from backend.tradingbot.services.recon_policies import save_mapping
from tests.integration.recon_house import MONDAY, TUESDAY, House, own_database
from tests.unit.test_statements import BOMB, COLUMNS, HEADER, flex, trade

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
TABLES = (Statement, StatementFile, StatementExecution, StatementOrder, StatementPosition, StatementActivity)
GOOD_ROWS = "".join(f"e{n},AAPL,BUY,10,150.00,2026-01-05T10:00:{n:02d}\n" for n in range(40))


@pytest.fixture
def house() -> House:
    found = House()
    save_mapping(
        {"name": "house", "table": "executions", "columns": COLUMNS}, actor="ann", reason="their file",
        clock=found.clock,
    )  # fmt: skip
    found.trade(MONDAY)
    found.after_close(MONDAY)
    return found


def zipped(content: bytes) -> bytes:
    folder = io.BytesIO()
    with zipfile.ZipFile(folder, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("day.csv", content)
    return folder.getvalue()


def own(text: str) -> str:
    return text.replace('"U1"', '"U-main"')


def bad_json(**changes) -> bytes:
    row = {
        "activity_type": "FILL", "id": "2::e1", "order_id": "b1", "symbol": "AAPL", "side": "buy", "qty": "1",
        "price": "1", "transaction_time": "2026-01-05T17:00:00Z", **changes,
    }  # fmt: skip
    return json.dumps({"account": {"account_number": "U-main", "cash": "1"}, "activities": [row]}).encode()


CASES = {
    "truncated XML": ("flex_xml", own(flex(trade()))[:-40], "statement_truncated"),
    "entities in XML": ("flex_xml", BOMB + own(flex("&b;")), "statement_bomb"),
    "another account in XML": ("flex_xml", flex(trade(), account="U-other"), "statement_other_account"),
    "another date in XML": ("flex_xml", own(flex(trade(), first="2026-01-02")), "statement_other_date"),
    "a formula in XML": ("flex_xml", own(flex(trade(orderReference="=cmd()"))), "statement_formula"),
    "UTF-16 for UTF-8": ("csv", (HEADER + GOOD_ROWS).encode("utf-16"), "statement_encoding"),
    "the last line cut off": ("csv", HEADER + GOOD_ROWS + "e99,AAPL,BUY,10,15", "statement_truncated"),
    "a formula in a CSV": (
        "csv",
        HEADER + GOOD_ROWS + "=1+1,AAPL,BUY,10,150,2026-01-05T10:01:00\n",
        "statement_cell",
    ),
    "another date in a CSV": ("csv", HEADER + GOOD_ROWS.replace("2026-01-05", "2026-01-02"), "statement_other_date"),
    "a number that is none": (
        "csv",
        HEADER + GOOD_ROWS + "e99,AAPL,BUY,ten,150,2026-01-05T10:01:00\n",
        "statement_cell",
    ),
    "a zip bomb": ("csv", zipped(b"0" * 40_000_000), "statement_bomb"),
    "a gzip bomb": ("csv", gzip.compress(b"0" * 40_000_000), "statement_bomb"),
    "another account in JSON": ("alpaca_json", bad_json().replace(b"U-main", b"U-2"), "statement_other_account"),
    "a formula in JSON": ("alpaca_json", bad_json(order_id="@SUM(A1)"), "statement_formula"),
    "an infinite price": ("alpaca_json", bad_json(price="Infinity"), "statement_number"),
    "an empty file": ("alpaca_json", b"", "statement_empty"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_statement_is_refused_with_a_reason_and_leaves_nothing_and_the_day_stays_blocked(house, name, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"statement_max_bytes": 4_000_000})
    source, content, code = CASES[name]
    raw = content.encode() if isinstance(content, str) else content
    entries = JournalEntry.objects.count()
    with pytest.raises(StatementError) as caught:
        house.upload(MONDAY, raw, source=source, mapping="house" if source == "csv" else "")
    assert caught.value.code == code
    assert caught.value.errors[0].remedy
    assert [model.objects.count() for model in TABLES] == [0] * len(TABLES)
    assert JournalEntry.objects.count() == entries
    assert house.run(MONDAY).state == "failed"
    assert Break.objects.get().kind == "stale_or_incomplete_source"
    assert open_blocks(house.account, house.clock.now())


def test_rows_told_twice_are_breaks_and_count_once(house):
    house.fills.append(dict(house.fills[0]))
    dividend = {"activity_type": "DIV", "id": "d1", "date": str(MONDAY), "net_amount": "5", "symbol": "AAPL"}
    house.others = [dividend, dict(dividend)]
    house.their_cash += 5
    assert house.close(MONDAY).state == "completed"
    found = sorted(Break.objects.values_list("kind", "subject"))
    assert found == [("duplicate", "activity d1"), ("duplicate", "main-e3")] or len(found) == 2
    assert house.row().cash == house.their_cash


def test_yesterdays_file_is_no_statement_of_today(house):
    yesterday = house.statement(MONDAY)
    house.upload(MONDAY, yesterday)
    house.run(MONDAY)
    house.trade(TUESDAY, qty=5)
    house.after_close(TUESDAY)
    with pytest.raises(StatementError, match="its newest execution is of 2026-01-05"):
        house.upload(TUESDAY, yesterday)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_csv_of_500_megabytes_on_disk_is_refused_by_the_command_in_bounded_memory(house, tmp_path):
    block, huge = (GOOD_ROWS * 200).encode(), tmp_path / "huge.csv"
    with huge.open("wb") as sink:
        sink.write(HEADER.encode())
        while sink.tell() < 500_000_000:
            sink.write(block)
    command = [sys.executable, "-W", "ignore", "manage.py", "eod_recon", "--account", "main", "--date", str(MONDAY)]
    done = subprocess.run(
        [*command, "--file", str(huge), "--mapping", "house"], cwd=ROOT, env=own_database(),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode != 0
    assert "is larger than" in done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 600 * 1024
    assert Statement.objects.count() == 0
