"""After a breaker's reset new risk rises slowly: over HTTP, in the stored snapshot, and for people to see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.models import Account, Breaker, Order, Position
from backend.tradingbot.selectors.replays import replayed
from backend.tradingbot.services.accounts import create_strategy
from tests.integration.conftest import Broker, Gateway

pytestmark = pytest.mark.django_db(transaction=True)


def limit_order_size(gateway: Gateway, qty: str) -> None:
    body = {"scope": "account:main", "kind": "order_qty_max", "value": qty, "reason": "for the test"}
    assert gateway.call("POST", "limits", body, gateway.risk).status_code in (200, 201)


def trip_and_reset(gateway: Gateway, scope: str = "account:main") -> None:
    Breaker.objects.filter(scope=scope).update(cooldown_sec=0)
    assert gateway.call("POST", f"breakers/{scope}/trip", {"reason": "look"}, gateway.risk).status_code == 200
    answer = gateway.call("POST", f"breakers/{scope}/reset", {"reason": "fine again"}, gateway.risk)
    assert answer.status_code == 200, answer.text
    assert float(answer.json()["share_of_order_size"]) == pytest.approx(0.25, abs=0.05)


def size_check(answer: Any) -> dict[str, Any]:
    body = answer.json()
    checks = (body.get("order") or body)["decision"]["checks"]
    return next(check for check in checks if check["gate"] == "order_size")


def since_reset(seconds: float, scope: str = "account:main") -> None:
    Breaker.objects.filter(scope=scope).update(reset_at=datetime.now(UTC) - timedelta(seconds=seconds))


@pytest.mark.parametrize("scope", ["firm", "account:main", "strategy:mean"])
def test_after_a_reset_a_large_order_waits_and_a_small_one_passes(gateway: Gateway, broker: Broker, scope: str) -> None:
    limit_order_size(gateway, "20")
    gateway.tick(price="10.00")
    assert gateway.order("before", qty="20").status_code == 201
    broker.cancel_everything()
    trip_and_reset(gateway, scope)
    refused = gateway.order("large", qty="12")
    check = size_check(refused)
    assert (refused.status_code, check["code"]) == (422, "ramp_after_reset")
    assert check["message"].startswith(f"{scope} was reset at ") and "is allowed again from" in check["remedy"]
    assert 5 <= float(check["limit"]) < 6
    assert gateway.order("small", qty="5").status_code == 201
    since_reset(450, scope)
    assert gateway.order("later", qty="12").status_code == 201
    since_reset(900, scope)
    whole = gateway.order("whole", qty="20")
    assert (whole.status_code, size_check(whole)["code"]) == (201, "within_limit")
    assert f"{gateway.prefix}-large" not in broker.ids()


def test_a_decision_within_a_ramp_is_judged_again_the_same(gateway: Gateway, broker: Broker) -> None:
    limit_order_size(gateway, "20")
    gateway.tick(price="10.00")
    trip_and_reset(gateway)
    gateway.order("large", qty="12")
    gateway.order("small", qty="5")
    Breaker.objects.filter(scope="account:main").update(reset_at=None)  # what is so now changes nothing
    assert [replayed(order).same for order in Order.objects.all()] == [True, True]
    assert Order.objects.get(status="denied").snapshot["ramps"][0]["scope"] == "account:main"
    call_command("replay_decision", "--all")


def test_what_only_reduces_passes_a_ramp(gateway: Gateway, broker: Broker) -> None:
    limit_order_size(gateway, "20")
    gateway.tick(price="10.00")
    Position.objects.create(account=Account.objects.get(code="main"), symbol="AAPL", qty=20, avg_price=10)
    trip_and_reset(gateway)
    out = gateway.order("out", qty="20", side="sell", type="limit", limit_price="10.00")
    assert (out.status_code, size_check(out)["code"]) == (201, "within_limit")


def test_a_ramp_that_makes_no_sense_is_refused() -> None:
    for name, wrong in (("ramp_sec", "-1"), ("ramp_start_pct", "0"), ("ramp_start_pct", "101"), ("ramp_sec", "NaN")):
        with pytest.raises(InvalidInputError, match=name):
            create_strategy(code="odd", breaker={name: Decimal(wrong)})
