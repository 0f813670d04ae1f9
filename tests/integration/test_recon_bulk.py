"""The benchmark's books, small: every planted fault is a stored break of its kind, and no statement is sent for each
row."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import connection

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Break
from backend.tradingbot.services import recon
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.recon_policies import set_policy
from tests.bench.recon_books import DAY, expected, populate

pytestmark = pytest.mark.django_db(transaction=True)


def statements_of_a_run(orders: int, code: str) -> int:
    account = create_account(code=code, cash=1, broker_account=f"U-{code}", symbols=["S1"])
    set_policy(account, {"upload_only": True}, actor="ann", reason="files", clock=SYSTEM_CLOCK)
    populate(account, create_strategy(code=code).pk, orders)
    account.refresh_from_db()
    asked: list[str] = []

    def count(execute, sql, params, many, context):
        asked.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        run = recon.run_session(account, DAY, actor="ann", clock=SYSTEM_CLOCK, pull=False)
    assert (run.state, run.failure) == ("completed", "")
    found = Counter(Break.objects.filter(account=account).values_list("kind", flat=True))
    assert dict(found) == expected(orders)
    assert run.counts["ours"] == orders + 3 * orders // 10
    return len(asked)


def test_every_planted_fault_is_stored_and_ten_times_the_rows_take_as_many_statements():
    few, many = statements_of_a_run(1_000, "few"), statements_of_a_run(10_000, "many")
    assert expected(10_000) == {"missing_at_broker": 2, "missing_internal": 3, "qty": 3, "price": 3, "side": 2}
    assert many <= few + 3
