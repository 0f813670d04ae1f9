"""One order over real HTTP, through the gates, to a broker with its own ledger, and back into the books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from backend.tradingbot.core.clock import FixedClock, SystemClock
from backend.tradingbot.models import Account, Execution, JournalEntry, Order, Position, RiskRow
from backend.tradingbot.services import fills, journal, recovery

pytestmark = pytest.mark.django_db(transaction=True)


def poll_until_filled(gateway, name, tries=200):
    account = Account.objects.get(code="main")
    for _ in range(tries):
        fills.poll_account(account, clock=SystemClock())
        order = gateway.read(name)
        if order["status"] == "filled":
            return order
    raise AssertionError(f"not filled: {order}")


def test_an_order_is_placed_once_filled_and_booked(gateway, broker):
    gateway.tick()
    answer = gateway.order("a")
    assert answer.status_code == 201
    placed = answer.json()
    assert placed["status"] == "accepted" and placed["broker_order_id"]

    order = poll_until_filled(gateway, "a")
    assert (order["filled_qty"], order["avg_price"]) == ("5", "100")
    assert broker.ids().count(f"{gateway.prefix}-a") == 1
    assert Position.objects.get(symbol="AAPL").qty == 5
    row = RiskRow.objects.get(pk="account:main")
    assert (row.cash, row.reserved_cash) == (Decimal(9_500), Decimal(0))
    assert Execution.objects.count() == 1
    assert journal.verify("account:main").intact


def test_a_replay_answers_with_the_same_order_and_another_body_is_refused(gateway, broker):
    gateway.tick()
    first = gateway.order("a").json()
    again = gateway.order("a", qty="5.0")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json()["broker_order_id"] == first["broker_order_id"]
    other = gateway.order("a", qty="6")
    assert (other.status_code, other.json()["code"]) == (422, "client_order_id_reused")
    assert broker.ids().count(f"{gateway.prefix}-a") == 1


def test_without_a_key_nothing_happens(gateway):
    answer = gateway.call("POST", "orders", gateway.body("a"), token="tb_wrong")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert Order.objects.count() == 0


def test_a_key_may_not_order_for_another_account(gateway):
    answer = gateway.order("a", account="other")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_your_account")


@pytest.mark.parametrize("age, code", [(None, "never_seen"), (30, "stale")])
def test_old_or_missing_market_data_denies_and_is_kept(gateway, broker, age, code):
    symbol = "AAPL" if age else "MSFT"
    if age:
        gateway.tick(at=(datetime.now(UTC) - timedelta(seconds=age)).isoformat())
    else:
        from backend.tradingbot.hot_state import hot_state

        hot_state()._redis.flushdb()
    answer = gateway.order("a", symbol=symbol)
    assert (answer.status_code, answer.json()["code"]) == (422, "order_denied")
    failed = [check["code"] for check in answer.json()["order"]["decision"]["checks"] if not check["passed"]]
    assert code in failed
    assert Order.objects.get().status == "denied"
    assert f"{gateway.prefix}-a" not in broker.ids()
    assert JournalEntry.objects.filter(kind="order_denied").count() == 1


def test_a_dead_market_data_store_denies(gateway, broker, settings):
    from pydantic import SecretStr

    gateway.tick()
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    answer = gateway.order("a")
    checks = answer.json()["order"]["decision"]["checks"]
    assert answer.status_code == 422
    assert {check["gate"]: check["code"] for check in checks if not check["passed"]} == {
        "data_quality": "market_data_unavailable",
        "greek_exposure": "unit_unknown",
        "order_size": "unpriced",
        "price_collar": "no_reference",
        "gross_exposure": "unit_unknown",
        "net_exposure": "unit_unknown",
        "concentration": "unit_unknown",
        "buying_power": "unknown",
        "order_rate": "rate_unknown",
    }
    assert f"{gateway.prefix}-a" not in broker.ids()


def test_an_open_breaker_stops_orders_until_the_risk_role_resets_it(gateway, broker):
    gateway.tick()
    trip = gateway.call("POST", "breakers/account:main/trip", {"reason": "look"}, token=gateway.risk)
    assert (trip.status_code, trip.json()["tripped"]) == (200, True)
    assert gateway.order("a").json()["code"] == "order_denied"
    refused = gateway.call("POST", "breakers/account:main/reset", {"reason": "ok"}, token=gateway.risk)
    assert (refused.status_code, refused.json()["code"]) == (409, "cooldown_active")
    trader = gateway.call("POST", "breakers/account:main/reset", {"reason": "ok"})
    assert (trader.status_code, trader.json()["code"]) == (403, "role_not_allowed")
    assert f"{gateway.prefix}-a" not in broker.ids()
    assert JournalEntry.objects.filter(chain="firm", kind__startswith="breaker").count() == 1
    assert journal.verify("firm").intact


def test_an_order_whose_answer_was_lost_is_found_and_never_sent_again(gateway, broker):
    gateway.tick()
    broker.fault("drop_after_accept")
    answer = gateway.order("lost", type="limit", limit_price="90.00")
    assert (answer.status_code, answer.json()["status"]) == (202, "in_doubt")
    blocked = gateway.order("next")
    assert "in_doubt" in blocked.json()["detail"]
    assert recovery.recover(clock=SystemClock()) == {f"{gateway.prefix}-lost": "accepted"}
    assert gateway.read("lost")["broker_order_id"]
    assert broker.ids().count(f"{gateway.prefix}-lost") == 1


def test_an_execution_before_the_answer_is_booked_to_its_order(gateway, broker):
    gateway.tick()
    broker.fault("drop_after_accept")
    assert gateway.order("early").status_code == 202
    assert poll_until_filled(gateway, "early")["filled_qty"] == "5"
    ours = gateway.read("early")["broker_order_id"]
    assert not JournalEntry.objects.filter(kind="external_order", data__broker_order_id=ours).exists()
    assert Position.objects.get(symbol="AAPL").qty == 5


def test_an_order_that_never_arrived_is_given_up_only_after_the_quiet_window(gateway, broker):
    gateway.tick()
    broker.fault("drop_before")
    assert gateway.order("gone", type="limit", limit_price="90.00").status_code == 202
    clock, name = FixedClock(datetime.now(UTC) + timedelta(seconds=1)), f"{gateway.prefix}-gone"
    assert recovery.recover(clock=clock) == {name: "in_doubt"}
    assert recovery.recover(clock=clock) == {}  # its turn comes again in two seconds
    for _ in range(2):
        clock.advance(59)
        assert recovery.recover(clock=clock) == {name: "in_doubt"}
    clock.advance(2)
    assert recovery.recover(clock=clock) == {}
    clock.advance(6)
    assert recovery.recover(clock=clock) == {name: "never_arrived"}
    assert name not in broker.ids()


def test_a_resting_order_can_be_cancelled(gateway, broker):
    gateway.tick()
    gateway.order("rest", type="limit", limit_price="90.00")
    path = f"orders/{gateway.prefix}-rest?account=main"
    answer = gateway.call("DELETE", path)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending_cancel")
    fills.poll_account(Account.objects.get(code="main"), clock=SystemClock())
    assert gateway.read("rest")["status"] == "canceled"
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 0
    assert gateway.call("DELETE", path).json()["code"] == "order_terminal"


def test_evidence_cannot_be_changed_in_the_database(gateway):
    gateway.tick()
    gateway.order("a")
    table = "tradingbot_journalentry"
    for statement in (f"UPDATE {table} SET actor = 'x'", f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert journal.verify("account:main").entries == 2


def test_a_check_writes_nothing_and_decides_the_same(gateway):
    gateway.tick()
    entries = JournalEntry.objects.count()
    checked = gateway.call("POST", "orders/check", gateway.body("a")).json()
    assert (checked["allowed"], Order.objects.count(), JournalEntry.objects.count()) == (True, 0, entries)
    placed = gateway.order("a").json()["decision"]
    assert [(c["gate"], c["passed"]) for c in checked["checks"]] == [(c["gate"], c["passed"]) for c in placed["checks"]]


def test_a_number_that_is_not_one_names_the_field(gateway):
    answer = gateway.order("a", qty="NaN")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "qty")
    assert Order.objects.count() == 0


def test_a_strategy_cancels_its_own_orders_and_no_others(gateway, broker):
    from backend.tradingbot.models import Account
    from backend.tradingbot.services.accounts import create_strategy
    from backend.tradingbot.services.keys import create_key

    gateway.tick()
    gateway.order("own", type="limit", limit_price="90.00")
    main, trend = Account.objects.get(code="main"), create_strategy(code="trend", mode="live")
    _, second = create_key(name="second", role="trader", account=main, strategy=trend)
    path = f"orders/{gateway.prefix}-own?account=main"
    refused = gateway.call("DELETE", path, token=second)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_your_account")
    assert gateway.read("own")["status"] == "accepted"
    assert gateway.call("DELETE", path).status_code == 202


def test_the_list_of_orders_can_be_asked_for_one_status(gateway):
    gateway.tick()
    assert gateway.order("yes").status_code == 201
    assert gateway.order("no", symbol="GME").status_code == 422

    def listed(status):
        answer = gateway.call("GET", f"orders?account=main&status={status}")
        return [order["client_order_id"] for order in answer.json()["orders"]]

    assert ["no" in name for name in listed("denied")] == [True]
    assert listed("in_doubt") == []
    answer = gateway.call("GET", "orders?account=main&status=lost")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "status")
