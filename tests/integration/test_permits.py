"""Permits for one order, and patterns that stay disabled until a named person enables them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backend.tradingbot.models import Account, DisabledPattern, JournalEntry, Order, Permit, Strategy
from backend.tradingbot.services import journal
from backend.tradingbot.services.limits import set_limit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tight(gateway):
    gateway.tick()
    ask = {"scope": "account:main", "kind": "order_qty_max", "value": "5", "reason": "less"}
    assert gateway.call("POST", "limits", ask, token=gateway.risk).status_code == 201
    return gateway


def permit(gateway, token=None, **changes):
    order = {"account": "main", "strategy": "mean", "symbol": "AAPL", "side": "buy", "qty": "8", "reason": "hedge"}
    return gateway.call("POST", "permits", {**order, **changes}, token=token or gateway.risk)


def test_a_permit_lets_its_one_order_through_once(tight, broker):
    assert tight.order("a", qty="8").status_code == 422
    given = permit(tight)
    assert given.status_code == 201
    name = given.json()["permit_id"]
    placed = tight.order("b", qty="8", permit_id=name)
    assert (placed.status_code, f"{tight.prefix}-b" in broker.ids()) == (201, True)
    checks = {check["gate"]: check["code"] for check in placed.json()["decision"]["checks"]}
    assert checks["order_size"] == "permit"
    used = Permit.objects.get()
    assert (used.used_by, used.used_at is not None) == (f"{tight.prefix}-b", True)
    again = tight.order("c", qty="8", permit_id=name)
    assert again.status_code == 422
    assert f"permit {name} was used" in again.json()["detail"]


def test_an_order_that_is_denied_does_not_use_its_permit_up(tight, broker):
    name = permit(tight).json()["permit_id"]
    tight.call("POST", "breakers/account:main/trip", {"reason": "look"}, token=tight.risk)
    assert tight.order("a", qty="8", permit_id=name).status_code == 422
    assert Permit.objects.get().used_at is None


def test_a_check_uses_no_permit(tight):
    name = permit(tight).json()["permit_id"]
    checked = tight.call("POST", "orders/check", tight.body("a", qty="8", permit_id=name))
    assert checked.json()["allowed"] is True
    assert Permit.objects.get().used_at is None


def test_a_permit_fits_no_other_order_and_not_for_long(tight):
    name = permit(tight).json()["permit_id"]
    other = tight.order("a", qty="7", permit_id=name)
    assert (other.status_code, "is for another order" in other.json()["detail"]) == (422, True)
    Permit.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    late = tight.order("b", qty="8", permit_id=name)
    assert (late.status_code, "has expired" in late.json()["detail"]) == (422, True)
    unknown = tight.order("c", qty="8", permit_id="permit-of-nobody")
    assert "there is no permit permit-of-nobody" in unknown.json()["detail"]


def test_only_the_risk_role_gives_permits_and_says_why(tight):
    assert permit(tight, token=tight.trader).json()["code"] == "role_not_allowed"
    assert permit(tight, reason="").json()["errors"][0]["field"] == "reason"
    assert permit(tight, qty="NaN").json()["errors"][0]["field"] == "qty"
    assert permit(tight, account="nobody").status_code == 404
    assert Permit.objects.count() == 0
    assert permit(tight).status_code == 201
    entry = JournalEntry.objects.get(kind="permit_given")
    assert (entry.actor, entry.data["reason"], entry.data["qty"]) == ("key:risk", "hedge", "8")


def test_of_many_orders_with_one_permit_one_passes(tight, broker):
    from concurrent.futures import ThreadPoolExecutor

    name = permit(tight).json()["permit_id"]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: tight.order(f"r{n}", qty="8", permit_id=name).status_code, range(16)))
    assert (answers.count(201), answers.count(422)) == (1, 15)


@pytest.fixture
def repeating(gateway):
    gateway.tick()
    for kind, value in (("repeat_orders_max", 3), ("duplicate_orders_max", 100)):
        ask = {"scope": "account:main", "kind": kind, "value": str(value), "reason": "less"}
        gateway.call("POST", "limits", ask, token=gateway.risk)
    return gateway


def resting(gateway, name, **changes):
    return gateway.order(name, type="limit", limit_price="90.00", **changes)


def test_a_pattern_that_comes_too_often_is_disabled_until_a_person_enables_it(repeating, broker):
    assert [resting(repeating, f"a{n}").status_code for n in range(3)] == [201, 201, 201]
    fourth = resting(repeating, "a3")
    assert (fourth.status_code, "repeated_execution" in fourth.json()["detail"]) == (422, True)
    pattern = DisabledPattern.objects.get()
    assert (pattern.symbol, pattern.side, pattern.qty, pattern.enabled_at) == ("AAPL", "buy", 5, None)
    Order.objects.update(created_at=datetime.now(UTC) - timedelta(days=1))  # time alone enables nothing
    assert "came" not in pattern.why and resting(repeating, "a4").status_code == 422
    assert resting(repeating, "other", qty="6").status_code == 201

    path = f"disabled-patterns/{pattern.pk}/enable"
    assert repeating.call("POST", path, {"reason": "ok"}).json()["code"] == "role_not_allowed"
    assert repeating.call("POST", path, {"reason": ""}, token=repeating.risk).status_code == 400
    enabled = repeating.call("POST", path, {"reason": "a loop was mended"}, token=repeating.risk)
    assert (enabled.status_code, enabled.json()["enabled_by"]) == (200, "key:risk")
    assert repeating.call("POST", path, {"reason": "again"}, token=repeating.risk).json()["code"] == "pattern_enabled"
    assert resting(repeating, "a5").status_code == 201
    kinds = JournalEntry.objects.filter(kind__startswith="pattern_").order_by("seq").values_list("kind", "actor")
    assert list(kinds) == [("pattern_disabled", "gateway"), ("pattern_enabled", "key:risk")]
    assert journal.verify("account:main").intact


def test_after_it_was_enabled_the_count_begins_anew(repeating, broker):
    for number in range(4):
        resting(repeating, f"a{number}")
    pattern = DisabledPattern.objects.get()
    repeating.call("POST", f"disabled-patterns/{pattern.pk}/enable", {"reason": "mended"}, token=repeating.risk)
    assert [resting(repeating, f"b{n}").status_code for n in range(4)] == [201, 201, 201, 422]
    assert DisabledPattern.objects.filter(enabled_at__isnull=True).count() == 1
    listed = repeating.call("GET", "disabled-patterns", token=repeating.risk).json()["patterns"]
    assert [row["enabled_by"] for row in listed] == [None, "key:risk"]


def test_equal_orders_in_a_short_time_are_refused_and_a_different_price_is_not_equal(gateway, broker):
    from backend.tradingbot.core.clock import SYSTEM_CLOCK

    gateway.tick()
    for kind, value in (("duplicate_orders_max", 2), ("duplicate_window_seconds", 3600)):
        from decimal import Decimal

        set_limit("account:main", kind, Decimal(value), actor="test", reason="less", clock=SYSTEM_CLOCK)
    assert [resting(gateway, f"a{n}").status_code for n in range(3)] == [201, 201, 422]
    assert gateway.order("b", type="limit", limit_price="90.01").status_code == 201
    assert resting(gateway, "c", qty="6").status_code == 201
    assert Account.objects.get().code == "main" and Strategy.objects.get().code == "mean"
