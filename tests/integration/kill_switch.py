"""Steps that the tests of the kill switch share: pull it, carry a run to its end, read what became of the orders."""

from __future__ import annotations

import requests

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services import kill_switch
from tests.integration.conftest import BROKER_HEADERS

RESTING = {"type": "limit", "limit_price": "90.00", "qty": "1"}


def pull(gateway, scope="firm", token=None, **body):
    return gateway.call("POST", "kill-switch", {"scope": scope, **body}, token=token or gateway.risk)


def finish(gateway, answer, clock=SYSTEM_CLOCK, passes=40):
    """Pass after pass, as beat does, until the run ends."""
    token = answer.json()["run"]
    for _ in range(passes):
        if kill_switch.advance(token, clock=clock).finished_at is not None:
            break
    return gateway.call("GET", f"kill-switch/{token}", token=gateway.risk).json()  # a trader's key sees its own account


def outcomes(run, gateway):
    return {o["client_order_id"].removeprefix(f"{gateway.prefix}-"): (o["outcome"], o["status"]) for o in run["orders"]}


def statuses(broker, gateway):
    found = {o["client_order_id"]: o["status"] for o in broker.ledger()["orders"]}
    return {name.removeprefix(f"{gateway.prefix}-"): s for name, s in found.items() if name.startswith(gateway.prefix)}


def place_elsewhere(gateway, broker, name, symbol="AAPL"):
    body = {"client_order_id": f"{gateway.prefix}-{name}", "symbol": symbol, "qty": "1", "side": "buy", "type": "limit"}
    body |= {"limit_price": "90", "time_in_force": "day"}
    answer = requests.post(f"{broker.url}/v2/orders", json=body, headers=BROKER_HEADERS, timeout=10)
    return answer.json()["id"]
