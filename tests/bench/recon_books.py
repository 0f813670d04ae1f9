"""Books for the reconciliation benchmark, made in PostgreSQL by sets: orders, 1.3 executions an order, a statement of
both with one fault in a thousand executions, and positions and cash that follow from the lines of each side.

The faults go round: a line missing at the broker, a line that only the broker has, another quantity, another price,
another side. ``expected`` says how many breaks of each kind a run has to store.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from django.db import connection

from backend.tradingbot.models import Account, RiskRow, Statement

DAY = date(2026, 1, 5)
BORN, CUT = datetime(2026, 1, 5, 13, 0, tzinfo=UTC), datetime(2026, 1, 6, 5, 0, tzinfo=UTC)
KINDS = ("missing_at_broker", "missing_internal", "qty", "price", "side")
EVERY, SYMBOLS = 1_000, 500

_ORDERS = """
INSERT INTO tradingbot_order (account_id, strategy_id, client_order_id, body_digest, symbol, side, qty, strategy_build,
  type, time_in_force, status, mode, broker_order_id, past_broker_order_ids, broker_status, filled_qty, reported_qty,
  filled_value, reserved_price, reduces, greeks, permit_id, decision, snapshot, evidence, lookup_misses, quiet_seconds,
  build_id, build_stamp, trace_id, created_at, updated_at)
SELECT %(account)s, %(strategy)s, 'c' || n, 'x', 'S' || n %% 500, CASE WHEN n %% 3 = 0 THEN 'sell' ELSE 'buy' END,
  100, '', 'market', 'day', 'filled', 'live', 'b' || n, '{}', 'filled', 100, 100, 0, 0, false, '{}', '', '{}', '{}',
  '{}', 0, 0, 'bench', '', '', %(opens)s + n * interval '20 milliseconds', %(opens)s + n * interval '20 milliseconds'
FROM generate_series(1, %(orders)s) AS n"""

_EXECUTIONS = """
INSERT INTO tradingbot_execution (account_id, order_id, execution_id, kind, corrects, broker_order_id, symbol, side,
  qty, price, occurred_at, recorded_at, source, evidence, build_id, build_stamp)
SELECT account_id, id, 'e' || broker_order_id || '-' || part, 'fill', '', broker_order_id, symbol, side,
  CASE WHEN number %% 10 < 7 THEN 100 WHEN part = 1 THEN 60 ELSE 40 END, 50 + (number %% 5000) / 100.0,
  created_at + part * interval '5 ms', created_at + interval '1 second', 'activities', '{}', 'bench', ''
FROM (SELECT *, substring(client_order_id FROM 2)::int AS number FROM tradingbot_order
  WHERE account_id = %(account)s) o, generate_series(1, CASE WHEN number %% 10 >= 7 THEN 2 ELSE 1 END) AS part"""

_THEIR_ORDERS = """
INSERT INTO tradingbot_statementorder (statement_id, order_id, client_order_id, symbol, side, qty, filled_qty, status)
SELECT %(statement)s, broker_order_id, client_order_id, symbol, side, qty, filled_qty, status
FROM tradingbot_order WHERE account_id = %(account)s"""

# fault: 0 to 4 as in KINDS on one execution in a thousand, else null
_FAULTED = """
SELECT e.*, o.client_order_id, CASE WHEN row_number %% 1000 = 0 THEN (row_number / 1000) %% 5 END AS fault
FROM (SELECT *, row_number() OVER (ORDER BY id) FROM tradingbot_execution WHERE account_id = %(account)s) e
JOIN tradingbot_order o ON o.id = e.order_id"""

_THEIR_EXECUTIONS = f"""
INSERT INTO tradingbot_statementexecution (statement_id, execution_id, order_id, client_order_id, symbol, side, qty,
  price, occurred_at, trade_date, kind, refers_to, multiplier)
SELECT %(statement)s, execution_id || suffix, broker_order_id, client_order_id, symbol,
  CASE WHEN fault = 4 THEN CASE WHEN side = 'buy' THEN 'sell' ELSE 'buy' END ELSE side END,
  qty + CASE WHEN fault = 2 THEN 1 ELSE 0 END, price + CASE WHEN fault = 3 THEN 0.01 ELSE 0 END,
  occurred_at + CASE WHEN suffix = '' THEN interval '0' ELSE interval '1 minute' END, %(day)s, 'fill', '', 1
FROM ({_FAULTED}) faulted, unnest(CASE WHEN fault = 0 THEN '{{}}'::text[] WHEN fault = 1 THEN '{{"","-more"}}'::text[]
  ELSE '{{""}}'::text[] END) AS suffix"""

_SUMS = """
SELECT symbol, sum(CASE WHEN side = 'buy' THEN qty ELSE -qty END) AS qty,
  sum(CASE WHEN side = 'buy' THEN -qty ELSE qty END * price) AS cash FROM {table} WHERE {owner} GROUP BY symbol"""
_OURS = _SUMS.format(table="tradingbot_execution", owner="account_id = %(account)s")
_THEIRS = _SUMS.format(table="tradingbot_statementexecution", owner="statement_id = %(statement)s")

_OUR_POSITIONS = f"""
INSERT INTO tradingbot_position (account_id, symbol, qty, avg_price, realized_pnl, base_qty, base_avg_price,
  base_realized_pnl, base_execution, last_execution_id)
SELECT %(account)s, symbol, qty, 75, 0, 0, 0, 0, 0, '' FROM ({_OURS}) sums"""
_THEIR_POSITIONS = f"""
INSERT INTO tradingbot_statementposition (statement_id, symbol, qty, avg_price, mark, multiplier)
SELECT %(statement)s, symbol, qty, 75, 75, 1 FROM ({_THEIRS}) sums WHERE qty <> 0"""


def populate(account: Account, strategy_id: int, orders: int) -> Statement:
    """Fill both sides; the account must be fresh. Foreign keys are not checked row by row, and tables are analysed."""
    Account.objects.filter(pk=account.pk).update(created_at=BORN)
    opening = Decimal(100_000_000)
    statement = Statement.objects.create(
        account=account, session=DAY, source="alpaca_json", name="bench.json", sha256="0" * 64, size=1, as_of=CUT,
        sections=["executions", "orders", "positions", "activities", "cash"], cash=opening, received_at=CUT,
        received_by="bench", build_id="bench",
    )  # fmt: skip
    opens = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    values = {
        "account": account.pk, "strategy": strategy_id, "orders": orders, "opens": opens, "statement": statement.pk,
        "day": DAY, "opening": opening,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET session_replication_role = replica")
        for step in (_ORDERS, _EXECUTIONS, _THEIR_ORDERS, _THEIR_EXECUTIONS, _OUR_POSITIONS, _THEIR_POSITIONS):
            cursor.execute(step, values)
        cursor.execute(f"SELECT coalesce(sum(cash), 0) FROM ({_OURS}) sums", values)
        RiskRow.objects.filter(account=account).update(cash=opening + cursor.fetchone()[0])
        cursor.execute(f"SELECT coalesce(sum(cash), 0) FROM ({_THEIRS}) sums", values)
        Statement.objects.filter(pk=statement.pk).update(cash=opening + cursor.fetchone()[0])
        cursor.execute("SET session_replication_role = origin")
        cursor.execute("ANALYZE")
        cursor.execute("RESET statement_timeout")
    return Statement.objects.get(pk=statement.pk)


def expected(orders: int) -> dict[str, int]:
    """How many breaks of each kind these books hold."""
    executions = sum(2 if number % 10 >= 7 else 1 for number in range(1, orders + 1))
    faults = [kind for number in range(1, executions // EVERY + 1) for kind in [KINDS[number % 5]]]
    return {kind: faults.count(kind) for kind in KINDS if kind in faults}
