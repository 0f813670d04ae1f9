"""The minimal wiring order of the brief, through the services: gate every order, act on every tick.

The third line, the end of the day, is in ``test_recon_broker.py``; the plain modules are wired together in
``production/integration_example.py``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import requests

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Order
from backend.tradingbot.services import breakers
from backend.tradingbot.services.limits import set_limit
from tests.integration.conftest import Broker, Gateway

pytestmark = pytest.mark.django_db(transaction=True)


def failed(answer: Any) -> set[str]:
    assert (answer.status_code, answer.json()["code"]) == (422, "order_denied"), answer.text
    return {check["gate"] for check in answer.json()["order"]["decision"]["checks"] if not check["passed"]}


def figures(gateway: Gateway) -> str:
    headers = {"Authorization": f"Bearer {gateway.risk}"}
    return requests.get(f"{gateway.url}/metrics", headers=headers, timeout=10).text


def test_every_order_meets_freshness_breaker_greeks_and_the_guard_of_its_id(gateway: Gateway, broker: Broker) -> None:
    assert "data_quality" in failed(gateway.order("before-any-tick"))  # data_quality.assert_fresh()
    gateway.tick()
    breakers.trip("account:main", actor="test", reason="look", clock=SYSTEM_CLOCK)
    assert failed(gateway.order("while-open")) == {"circuit_breaker"}  # circuit_breaker.require_ok()
    breakers.reset("account:main", actor="test", reason="fine", force=True, clock=SYSTEM_CLOCK)
    set_limit("account:main", "name_delta_max", Decimal(4), actor="key:risk", reason="tight", clock=SYSTEM_CLOCK)
    assert failed(gateway.order("too-much-delta")) == {"greek_exposure"}  # greek_limiter.require_ok()
    assert gateway.order("fits", qty="3").status_code == 201
    again = gateway.order("fits", qty="3")  # replay_guard.seen(client_order_id)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    other = gateway.order("fits", qty="2")
    assert (other.status_code, other.json()["code"]) == (422, "client_order_id_reused")
    assert [name for name in broker.ids() if name.startswith(gateway.prefix)] == [f"{gateway.prefix}-fits"]
    assert Order.objects.count() == 4  # every refusal is on file, stamped by the build that made it
    assert Order.objects.filter(build_stamp="").count() == 0


def test_every_tick_counts_as_fresh_is_judged_and_is_told_in_the_metrics(gateway: Gateway, broker: Broker) -> None:
    gateway.tick()
    quality = gateway.call("GET", "data-quality?symbol=AAPL").json()
    assert quality["symbols"][0]["symbol"] == "AAPL"  # data_quality.mark_tick()
    evaluated = gateway.call("GET", "breakers").json()["breakers"]
    assert all(one["tripped"] is False for one in evaluated)  # circuit_breaker.poll()
    told = figures(gateway)  # update_prometheus_metrics()
    for name in ("tradingbot_breaker_open", "tradingbot_equity", "tradingbot_build_info"):
        assert name in told
