"""Reads both sets of books as they lie on disk: the broker's SQLite ledger, and our tables by plain SQL."""

from __future__ import annotations

import sqlite3
from collections import Counter
from decimal import Decimal
from typing import Any

from tests.chaos.house import House
from tests.chaos.judge import Execution, OurBooks, OurOrder, TheirBooks, TheirOrder

SEND = "submit.send_begins"

OUR_ORDERS = """
SELECT o.client_order_id, o.broker_order_id, o.symbol, o.side, o.qty, o.status, o.filled_qty, o.avg_price,
       o.reserved_price, j.after AS journal_status, o.watch_until IS NOT NULL AS watched
  FROM tradingbot_order o JOIN tradingbot_account a ON a.id = o.account_id
  LEFT JOIN (SELECT DISTINCT ON (chain, subject) chain, subject, data ->> 'after' AS after
               FROM tradingbot_journalentry WHERE data ? 'after' ORDER BY chain, subject, seq DESC) j
    ON j.chain = 'account:' || a.code AND j.subject = o.client_order_id
 WHERE a.code = %s ORDER BY o.id
"""
OUR_EXECUTIONS = """
SELECT e.execution_id, o.broker_order_id, e.symbol, e.side, e.qty, e.price
  FROM tradingbot_execution e
  JOIN tradingbot_order o ON o.id = e.order_id
  JOIN tradingbot_account a ON a.id = e.account_id
 WHERE a.code = %s
"""
OUR_POSITIONS = """
SELECT p.symbol, p.qty FROM tradingbot_position p JOIN tradingbot_account a ON a.id = p.account_id WHERE a.code = %s
"""

RUNNING = """
WITH parts AS (
  SELECT e.*, s.code FROM tradingbot_strategyexposure e JOIN tradingbot_strategy s ON s.id = e.strategy_id),
shares AS (
  SELECT 'firm' AS scope, gross FROM parts
  UNION ALL SELECT 'strategy:' || code, gross FROM parts
  UNION ALL SELECT 'symbol:' || symbol, gross FROM parts
  UNION ALL SELECT 'strategy:' || code || '/symbol:' || symbol, gross FROM parts)
SELECT 'headroom ' || h.scope AS name, h.reserved AS kept, coalesce(sum(s.gross), 0) AS added_up
  FROM tradingbot_sharedheadroom h LEFT JOIN shares s ON s.scope = h.scope GROUP BY h.scope, h.reserved
UNION ALL
SELECT 'gross exposure', a.gross, (SELECT coalesce(sum(n.gross), 0) FROM tradingbot_nameexposure n
                                    WHERE n.account_id = a.account_id)
  FROM tradingbot_accountexposure a JOIN tradingbot_account c ON c.id = a.account_id WHERE c.code = %(account)s
UNION ALL
SELECT 'strategy position ' || p.symbol, p.position,
       (SELECT coalesce(sum(CASE WHEN e.side = 'buy' THEN e.qty ELSE -e.qty END), 0)
          FROM tradingbot_execution e JOIN tradingbot_order o ON o.id = e.order_id
         WHERE o.strategy_id = p.strategy_id AND o.account_id = p.account_id AND e.symbol = p.symbol)
  FROM parts p JOIN tradingbot_account c ON c.id = p.account_id WHERE c.code = %(account)s
"""


def their_books(house: House) -> TheirBooks:
    """The broker's ledger."""
    ledger = sqlite3.connect(f"file:{house.ledger}?mode=ro", uri=True)
    ledger.row_factory = sqlite3.Row

    def rows(statement: str) -> list[sqlite3.Row]:
        return ledger.execute(statement).fetchall()

    try:
        return TheirBooks(
            orders=[_their_order(row) for row in rows("select * from orders order by seq")],
            executions=[_execution(row, "id", "order_id") for row in rows("select * from executions order by seq")],
            positions={r["symbol"]: Decimal(r["qty"]) for r in rows("select * from positions") if Decimal(r["qty"])},
            cash=Decimal(rows("select cash from account")[0]["cash"]),
        )
    finally:
        ledger.close()


def _their_order(row: sqlite3.Row) -> TheirOrder:
    texts = {name: row[name] for name in ("client_order_id", "symbol", "side", "status", "refused_duplicates")}
    figures = {name: Decimal(row[name]) for name in ("qty", "filled_qty", "filled_value")}
    return TheirOrder(broker_order_id=row["id"], **texts, **figures)


def _execution(row: Any, execution_id: str, broker_order_id: str) -> Execution:
    return Execution(
        execution_id=row[execution_id],
        broker_order_id=row[broker_order_id],
        symbol=row["symbol"],
        side=row["side"],
        qty=Decimal(row["qty"]),
        price=Decimal(row["price"]),
    )


def our_books(house: House, account: str = "demo") -> OurBooks:
    """Our database, and what ``manage.py journal verify`` says about its chains."""
    with house.database() as connection:
        orders = [OurOrder(**row) for row in connection.execute(OUR_ORDERS, [account]).fetchall()]
        executions = connection.execute(OUR_EXECUTIONS, [account]).fetchall()
        positions = connection.execute(OUR_POSITIONS, [account]).fetchall()
        running = connection.execute(RUNNING, {"account": account}).fetchall()
        risk = connection.execute(
            "SELECT * FROM tradingbot_riskrow WHERE scope = %s", [f"account:{account}"]
        ).fetchone()
    assert risk is not None
    verified = house.manage("manage.py", "journal", "verify")
    return OurBooks(
        orders=orders,
        executions=[_execution(row, "execution_id", "broker_order_id") for row in executions],
        positions={row["symbol"]: row["qty"] for row in positions if row["qty"]},
        cash=risk["cash"],
        reserved_cash=risk["reserved_cash"],
        running={row["name"]: (row["kept"], row["added_up"]) for row in running},
        journal_problems=[] if verified.returncode == 0 else [(verified.stdout + verified.stderr).strip()[-500:]],
    )


def sends(house: House) -> Counter[str]:
    """How often a send began, by client order id, as the fail points counted it before anything left."""
    return Counter(hit.subject for hit in house.points.hits() if hit.point == SEND)
