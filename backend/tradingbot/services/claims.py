"""The referee of exactly-once: one row for each account and client order id, decided by the database's constraint."""

from __future__ import annotations

from django.db import connection

from backend.tradingbot.models import Order
from backend.tradingbot.services.rows import insert_sql


def claim(order: Order) -> bool:
    """Insert ``order`` and give it its key; False when its id has a row already, and then it must not be sent.

    Two that come at once: the later one waits here until the first commits or fails. It holds nothing that others wait
    for, because an order is claimed before any lock is taken.
    """
    insert, values = insert_sql(order)
    with connection.cursor() as cursor:
        cursor.execute(f"{insert} ON CONFLICT ON CONSTRAINT order_client_id_once DO NOTHING RETURNING id", values)
        found = cursor.fetchone()
    if found is None:
        return False
    order.pk = found[0]
    return True
