"""What one trouble must not cost: an execution, the look at the next order, the cancel of the next order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection

from backend.tradingbot import tasks
from backend.tradingbot.core.clock import FixedClock, SystemClock
from backend.tradingbot.execution.order_state import IllegalTransitionError
from backend.tradingbot.models import Account, Breaker, Execution, Order, RiskRow
from backend.tradingbot.services import adoption, booking, cancel_pass, cancels, fills, kill_switch, polling, recovery

pytestmark = pytest.mark.django_db(transaction=True)
RESTING = {"type": "limit", "limit_price": "90.00"}
CLOCK = SystemClock()


def poll() -> int:
    return fills.poll_account(Account.objects.get(code="main"), clock=CLOCK)


def later(seconds: float) -> FixedClock:
    return FixedClock(datetime.now(UTC) + timedelta(seconds=seconds))


def failing_for(name: str, real: Any, error: Exception) -> Any:
    """``real``, but for the order ``name`` it raises."""

    def call(*arguments: Any, **options: Any) -> Any:
        named = [getattr(each, "client_order_id", "") for each in arguments]
        if any(each.endswith(f"-{name}") for each in named):
            raise error
        return real(*arguments, **options)

    return call


def test_what_recovery_reads_does_not_move_the_poll_past_what_it_has_not_read(gateway, broker, monkeypatch):
    monkeypatch.setattr(recovery, "SKEW", timedelta(0))
    gateway.tick()
    gateway.tick("MSFT")
    gateway.order("rests", **RESTING)
    broker.control("execute", client_order_id=f"{gateway.prefix}-rests", qty="2", price="90")
    broker.fault("drop_before")
    assert gateway.order("gone", symbol="MSFT", **RESTING).status_code == 202
    broker.control("execute", client_order_id=f"{gateway.prefix}-rests", qty="1", price="90")
    recovery.recover(clock=later(1))
    assert gateway.read("rests")["filled_qty"] == "1"  # what it reads begins with the order that it looks for
    poll()
    assert gateway.read("rests")["filled_qty"] == "3"


def test_a_part_that_is_filed_late_is_found_while_its_order_still_works(gateway, broker, monkeypatch):
    monkeypatch.setattr(polling, "SWEEP_PAUSE", timedelta(0))
    gateway.tick()
    gateway.tick("MSFT")
    gateway.order("late", **RESTING)
    broker.fault("lag_activities", symbol="AAPL", seconds=3600, times=None)
    broker.control("execute", client_order_id=f"{gateway.prefix}-late", qty="2", price="90")
    gateway.order("seen", symbol="MSFT", **RESTING)
    broker.control("execute", client_order_id=f"{gateway.prefix}-seen", qty="5", price="90")
    poll()
    assert (gateway.read("seen")["status"], gateway.read("late")["filled_qty"]) == ("filled", "0")
    broker.heal()
    poll()
    assert (gateway.read("late")["status"], gateway.read("late")["filled_qty"]) == ("partially_filled", "2")


def test_an_execution_that_cannot_be_booked_keeps_no_other_waiting(gateway, broker, monkeypatch):
    gateway.tick()
    for name in ("a", "b", "c"):
        gateway.order(name, **RESTING)
        broker.control("execute", client_order_id=f"{gateway.prefix}-{name}", qty="5", price="90")
    real, troubled = adoption.take_execution, Order.objects.get(client_order_id=f"{gateway.prefix}-a").broker_order_id

    def take(account: Any, client: Any, fill: Any, **options: Any) -> bool:
        if fill.broker_order_id == troubled:
            raise IntegrityError("no such thing can be stored")
        return real(account, client, fill, **options)

    monkeypatch.setattr(adoption, "take_execution", take)
    with pytest.raises(IntegrityError):
        poll()
    assert [gateway.read(name)["filled_qty"] for name in ("a", "b", "c")] == ["0", "5", "5"]
    monkeypatch.setattr(adoption, "take_execution", real)
    poll()
    assert (gateway.read("a")["filled_qty"], Execution.objects.count()) == ("5", 3)


def test_an_account_that_cannot_be_polled_keeps_no_other_waiting(gateway, broker, monkeypatch):
    other = Account.objects.create(code="aaa", broker_account="none")
    asked = []

    def read(account: Account, *, clock: Any) -> int:
        asked.append(account.code)
        raise ValueError("nobody thought of this") if account == other else AssertionError("nor of that")

    monkeypatch.setattr(fills, "poll_account", read)
    with pytest.raises((ValueError, AssertionError)):  # the task fails at its end, so that it is counted
        tasks.poll_broker()
    assert sorted(asked) == ["aaa", "main"]


def in_doubt(gateway: Any, broker: Any, *names: str) -> None:
    gateway.tick()
    gateway.tick("MSFT")
    for name, symbol in zip(names, ("AAPL", "MSFT"), strict=True):
        broker.fault("drop_after_accept")
        assert gateway.order(name, symbol=symbol, **RESTING).status_code == 202


def test_an_order_that_cannot_be_resolved_keeps_no_other_waiting(gateway, broker, monkeypatch):
    in_doubt(gateway, broker, "a", "b")
    monkeypatch.setattr(recovery, "_found", failing_for("a", recovery._found, IntegrityError("nobody thought of it")))
    with pytest.raises(IntegrityError):
        recovery.recover(clock=later(1))
    assert [gateway.read(name)["status"] for name in ("a", "b")] == ["in_doubt", "accepted"]
    assert Order.objects.get(client_order_id=f"{gateway.prefix}-a").next_lookup_at is not None
    monkeypatch.undo()
    recovery.recover(clock=later(60))
    assert gateway.read("a")["status"] == "accepted"


def test_a_cancel_that_cannot_be_sent_keeps_no_other_waiting(gateway, broker, monkeypatch):
    in_doubt(gateway, broker, "a", "b")
    for name in ("a", "b"):
        gateway.call("DELETE", f"orders/{gateway.prefix}-{name}?account=main")
    recovery.recover(clock=later(1))
    trouble = IllegalTransitionError("nobody thought of it", status="accepted", event="cancel")
    monkeypatch.setattr(cancels, "cancel_order", failing_for("a", cancels.cancel_order, trouble))
    with pytest.raises(IllegalTransitionError):
        cancels.send_wished_cancels(clock=CLOCK)
    assert [gateway.read(name)["status"] for name in ("a", "b")] == ["accepted", "pending_cancel"]


def test_a_run_of_the_kill_switch_that_fails_keeps_no_other_waiting(gateway, broker, monkeypatch):
    gateway.tick()
    gateway.order("a", **RESTING)
    runs = [
        kill_switch.pull(scope, flattening=False, reason="test", actor="test", clock=CLOCK).token
        for scope in ("symbol:MSFT", "account:main")
    ]
    real = kill_switch.advance

    def advance(token: str, **options: Any) -> Any:
        if token == runs[0]:
            raise KeyError("nobody thought of it")
        return real(token, **options)

    monkeypatch.setattr(kill_switch, "advance", advance)
    with pytest.raises(KeyError):
        kill_switch.advance_all(clock=CLOCK)
    assert gateway.read("a")["status"] in ("pending_cancel", "canceled")


def test_a_cancel_of_many_leaves_an_order_alone_that_was_replaced_meanwhile(gateway, broker, monkeypatch):
    from backend.tradingbot.services import mass_cancel

    gateway.tick()
    gateway.order("a", **RESTING)
    gateway.order("b", **RESTING | {"limit_price": "91.00"})
    real = mass_cancel.ask_for_each

    def ask(*arguments: Any) -> Any:
        answered = real(*arguments)
        Order.objects.filter(client_order_id=f"{gateway.prefix}-a").update(broker_order_id="its-new-id")
        return answered

    monkeypatch.setattr(mass_cancel, "ask_for_each", ask)
    answer = gateway.call("POST", "orders/cancel-all", {"account": "main"})
    assert (answer.status_code, [gateway.read(n)["status"] for n in ("a", "b")]) == (
        202, ["accepted", "pending_cancel"],
    )  # fmt: skip
    assert Order.objects.get(client_order_id=f"{gateway.prefix}-a").cancel_requested_at is not None
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 905


def test_two_workers_never_recover_or_poll_at_once(gateway, broker):
    in_doubt(gateway, broker, "a", "b")
    Order.objects.update(send_by=datetime(2020, 1, 1, tzinfo=UTC))
    elsewhere = connection.copy()
    try:
        with elsewhere.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s), pg_advisory_lock(%s)", [tasks.RECOVERY_LOCK, tasks.POLL_LOCK])
        tasks.recover_orders()
        tasks.poll_broker()
        assert [gateway.read(name)["status"] for name in ("a", "b")] == ["in_doubt", "in_doubt"]
        with elsewhere.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")
    finally:
        elsewhere.close()
    tasks.recover_orders()
    assert [gateway.read(name)["status"] for name in ("a", "b")] == ["accepted", "accepted"]


def test_a_process_that_dies_between_the_stop_and_an_over_fill_has_stopped_the_account_and_lost_nothing(
    gateway, broker, monkeypatch
):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.control("execute", client_order_id=f"{gateway.prefix}-a", qty="9", price="90")
    real = booking._book

    def dies(*arguments: Any, stopped: bool) -> bool:
        if stopped:
            raise SystemExit("killed")
        return real(*arguments, stopped=stopped)

    monkeypatch.setattr(booking, "_book", dies)
    with pytest.raises(SystemExit):
        poll()
    assert Breaker.objects.get(scope="account:main").reason == f"over-fill {gateway.prefix}-a"
    assert Execution.objects.count() == 0
    monkeypatch.undo()
    assert (poll(), gateway.read("a")["filled_qty"]) == (1, "9")


def test_a_broker_that_is_slow_to_answer_does_not_hold_the_cancels_up_for_long(gateway, broker, monkeypatch):
    in_doubt(gateway, broker, "a", "b")
    clock, real = later(1), recovery._look_up

    def slow(*arguments: Any) -> Any:
        clock.advance(31)
        return real(*arguments)

    monkeypatch.setattr(recovery, "_look_up", slow)
    recovery.recover(clock=clock)
    assert [gateway.read(name)["status"] for name in ("a", "b")] == ["accepted", "in_doubt"]
    recovery.recover(clock=clock)
    assert gateway.read("b")["status"] == "accepted"


def test_a_pass_of_the_kill_switch_that_fails_says_so_and_the_halt_stands(gateway, broker, monkeypatch):
    gateway.tick()
    gateway.order("a", **RESTING)

    def fails(*arguments: Any, **options: Any) -> int:
        raise KeyError("nobody thought of it")

    monkeypatch.setattr(cancel_pass, "cancel_open", fails)
    answer = gateway.call("POST", "kill-switch", {"scope": "account:main"}, token=gateway.risk)
    assert (answer.status_code, answer.json()["problem"]) == (
        202, "the pass failed (KeyError), see the log by trace_id",
    )  # fmt: skip
    assert gateway.order("b", **RESTING).json()["code"] == "order_denied"
    monkeypatch.undo()
    kill_switch.advance_all(clock=CLOCK)
    assert gateway.read("a")["status"] in ("pending_cancel", "canceled")


def test_cancels_are_sent_although_recovery_fails(gateway, broker, monkeypatch):
    gateway.tick()
    gateway.order("a", **RESTING)
    Order.objects.update(cancel_requested_at=datetime.now(UTC))

    def fails(**options: Any) -> None:
        raise KeyError("nobody thought of it")

    monkeypatch.setattr(recovery, "recover", fails)
    with pytest.raises(KeyError):
        tasks.recover_orders()
    assert gateway.read("a")["status"] == "pending_cancel"
