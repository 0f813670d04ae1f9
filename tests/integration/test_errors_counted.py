"""Whose error the broker's failures are, seen over HTTP with a broker that fails as asked."""

from datetime import UTC, datetime, timedelta

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.models import Account, Breaker, Order
from backend.tradingbot.services import breakers, recovery
from backend.tradingbot.services.fills import poll_account

pytestmark = pytest.mark.django_db(transaction=True)
NOBODY = {"account:main": 0, "strategy:mean": 0, "firm": 0}


def counted():
    return {row.scope: len(row.state.get("error_times", ())) for row in Breaker.objects.all()}


@pytest.mark.parametrize(
    ("mode", "options", "whose"),
    [
        ("drop_after_accept", {}, "account:main"),
        ("drop_before", {}, "account:main"),
        ("error_500", {}, "account:main"),
        ("error_500_after_accept", {}, "account:main"),
        ("garbage_after_accept", {}, "account:main"),
        ("reject", {"status": 403, "code": 40310000}, "strategy:mean"),
        ("reject", {"status": 422, "code": 42210000}, "strategy:mean"),
        ("reject", {"status": 401, "code": 40110000}, "account:main"),
        ("rate_limit", {}, None),
    ],
)
def test_a_failure_to_take_an_order_counts_once_where_it_belongs(gateway, broker, mode, options, whose):
    gateway.tick()
    broker.fault(mode, **options)
    gateway.order("a")
    assert counted() == NOBODY | ({} if whose is None else {whose: 1})


def test_a_timeout_of_the_broker_counts_for_the_account(gateway, broker, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"broker_read_timeout": 0.3})
    gateway.tick()
    broker.fault("hang_after_accept", seconds=1)
    assert gateway.order("a").status_code == 202
    assert counted() == NOBODY | {"account:main": 1}


def test_a_broker_that_cannot_be_reached_counts_for_the_account(gateway, settings):
    gateway.tick()
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"alpaca_base_url": "http://127.0.0.1:9"})
    assert gateway.order("a").status_code == 422
    assert counted() == NOBODY | {"account:main": 1}


def test_denials_and_the_callers_own_mistakes_count_for_nobody(gateway):
    gateway.tick()
    assert gateway.order("a", symbol="TSLA").status_code == 422
    assert gateway.order("b", qty="1000000").status_code == 422
    assert gateway.order("c", qty="-1").status_code == 400
    assert gateway.order("d", account="other").status_code == 403
    assert gateway.order("e", symbol="MSFT").json()["code"] == "order_denied"
    assert gateway.call("DELETE", f"orders/{gateway.prefix}-none?account=main").status_code == 404
    assert counted() == NOBODY


def test_a_question_that_fails_counts_for_nobody(gateway, broker):
    from backend.tradingbot.brokers.answers import BrokerQueryError

    for _ in range(3):
        broker.fault("error_500", target="read")
        with pytest.raises(BrokerQueryError):
            poll_account(Account.objects.get(code="main"), clock=SYSTEM_CLOCK)
    assert counted() == NOBODY


def test_a_cancel_that_may_not_have_arrived_counts_for_the_account_and_a_late_one_does_not(gateway, broker):
    gateway.tick()
    gateway.order("a", type="limit", limit_price="99.00")
    broker.fault("error_500", target="cancel")
    gateway.call("DELETE", f"orders/{gateway.prefix}-a?account=main")
    assert counted() == NOBODY | {"account:main": 1}
    gateway.order("b")
    gateway.call("DELETE", f"orders/{gateway.prefix}-b?account=main")
    assert counted() == NOBODY | {"account:main": 1}


def test_an_order_that_the_broker_accepts_and_rejects_later_counts_for_the_strategy(gateway, broker):
    gateway.tick()
    broker.fault("reject_later")
    assert gateway.order("a", type="limit", limit_price="99.00").status_code in (201, 422)
    for _ in range(2):
        poll_account(Account.objects.get(code="main"), clock=SYSTEM_CLOCK)
    assert gateway.read("a")["status"] == "rejected"
    assert counted() == NOBODY | {"strategy:mean": 1}


def test_an_order_whose_sender_died_counts_for_the_account_once(gateway, broker):
    gateway.tick()
    gateway.order("a", type="limit", limit_price="99.00")
    unheard = {"broker_order_id": None, "broker_status": "", "broker_filled_qty": None, "broker_updated_at": None}
    Order.objects.update(status="pending_submit", send_by=datetime.now(UTC) - timedelta(hours=1), **unheard)
    broker.fault("error_500", target="lookup", times=None)
    later = FixedClock(datetime.now(UTC) + timedelta(minutes=1))
    recovery.recover(clock=later)
    later.advance(60)
    recovery.recover(clock=later)
    assert Order.objects.get().status == "in_doubt"
    assert counted() == NOBODY | {"account:main": 1}


def test_rejections_trip_the_strategy_and_no_other_scope(gateway, broker):
    gateway.tick()
    for number in range(5):
        broker.fault("reject")
        gateway.order(f"r{number}")
    assert Breaker.objects.get(scope="strategy:mean").reason == "error-rate"
    assert set(Breaker.objects.exclude(scope="strategy:mean").values_list("reason", flat=True)) == {""}
    assert "circuit_open" in gateway.order("after").text


def test_an_answer_of_the_broker_is_recorded_although_it_cannot_be_counted(gateway, broker, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(breakers, "mark_error", fails)
    gateway.tick()
    broker.fault("reject", status=422, code=42210000)
    answer = gateway.order("a")
    assert (answer.status_code, answer.json()["code"], gateway.read("a")["status"]) == (
        422, "broker_rejected", "rejected",
    )  # fmt: skip
