"""The paper broker's equity at each close: written before anything after that close changes it."""

from datetime import date, datetime
from decimal import Decimal

import pytest

from backend.paperbroker.books import Books, latest_close
from backend.paperbroker.ledger import Ledger
from backend.paperbroker.matching import Quote
from backend.paperbroker.sessions import NEW_YORK
from backend.paperbroker.shapes import account_json


def new_york(*parts):
    return datetime(*parts, tzinfo=NEW_YORK)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(str(tmp_path / "ledger.sqlite3"), Decimal(1_000))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("now", "day", "following"),
    [
        (new_york(2026, 11, 25, 15, 59), date(2026, 11, 24), new_york(2026, 11, 25, 16, 0)),
        (new_york(2026, 11, 25, 16, 0), date(2026, 11, 25), new_york(2026, 11, 27, 13, 0)),
        (new_york(2026, 11, 29, 12, 0), date(2026, 11, 27), new_york(2026, 11, 30, 16, 0)),
    ],
)
def test_the_last_close_is_found_over_holidays_weekends_and_early_closes(now, day, following):
    assert latest_close(now) == (day, following)


def test_the_equity_of_a_close_is_kept_until_the_next_one(ledger):
    books = Books(ledger)
    ledger.move("AAPL", Decimal(5), Decimal(100))
    ledger.store_quote(Quote("AAPL", None, None, None, None, Decimal(120)))
    books.close(new_york(2026, 11, 25, 16, 0))
    assert books.last_close() == ("2026-11-25", Decimal(1_100))
    ledger.store_quote(Quote("AAPL", None, None, None, None, Decimal(90)))
    books.close(new_york(2026, 11, 26, 12, 0))
    books.close(new_york(2026, 11, 27, 12, 59, 59))
    shown = account_json(ledger, Decimal(0), books.last_close())
    assert (shown["equity"], shown["last_equity"], shown["balance_asof"]) == ("950.00", "1100", "2026-11-25")
    books.close(new_york(2026, 11, 27, 13, 0))
    assert books.last_close() == ("2026-11-27", Decimal(950))


def test_a_close_survives_a_restart_and_is_written_once(ledger):
    Books(ledger).close(new_york(2026, 11, 25, 16, 0))
    ledger.move("AAPL", Decimal(5), Decimal(100))
    ledger.store_quote(Quote("AAPL", None, None, None, None, Decimal(1)))
    again = Books(ledger)
    again.close(new_york(2026, 11, 25, 17, 0))
    assert again.last_close() == ("2026-11-25", Decimal(1_000))


def test_a_deposit_is_cash_and_an_activity_at_once(ledger):
    books = Books(ledger)
    row = books.move_cash("CSD", Decimal("12.5"), "ACH", new_york(2026, 11, 25, 10, 0))
    assert (row["kind"], row["net_amount"], row["day"], row["id"][:17]) == (
        "CSD",
        "12.5",
        "2026-11-25",
        "20261125000000000",
    )
    assert ledger.account()["cash"] == "1012.5"
    assert [each["id"] for each in books.activities(["CSD", "CSW"])] == [row["id"]]
    assert books.activities(["CSW"]) == []
