"""The morning of the demo, scene by scene against the real application: each gate refuses once, for its own reason, and
every decision of it can be judged again. The whole demo, on a stack of its own, is played in ``test_demo``."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from rich.console import Console

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account, Order
from backend.tradingbot.risk.gates import GATES
from backend.tradingbot.risk.snapshot import MarketSession
from backend.tradingbot.selectors.replays import replayed
from backend.tradingbot.services import fills
from ops.demo import gates, orders
from ops.demo.stage import Stage
from ops.feed import demo_env
from tests.integration.conftest import BROKER_HEADERS

pytestmark = pytest.mark.django_db(transaction=True)


class Morning(Stage):
    """The stage without its processes: commands run here, and whoever waits polls the broker himself."""

    def manage(self, *arguments):
        said = StringIO()
        call_command(*arguments, stdout=said, stderr=StringIO())
        return said.getvalue().strip()

    def wait_for(self, what, condition, seconds=30.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, what
            fills.poll_account(Account.objects.get(code="demo"), clock=SYSTEM_CLOCK)


@pytest.fixture
def stage(live_server, broker, settings, tmp_path):
    hot_state()._redis.flushdb()
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"state_dir": tmp_path})
    os.environ.setdefault("PORT", "0")
    call_command("seed_demo", stdout=StringIO())
    known = demo_env(tmp_path / "demo.env") | {"TRADINGBOT_URL": live_server.url}
    return Morning(tmp_path, known, broker.url, BROKER_HEADERS, Console(file=StringIO(), width=200))


def test_each_gate_refuses_for_its_own_reason_and_every_decision_comes_out_the_same_again(stage):
    for _, scene in [*orders.SCENES, *gates.SCENES]:
        scene(stage)
    assert stage.refusals == set(GATES) - {"circuit_breaker"}  # that one speaks in the scene of the trip
    decided = list(Order.objects.select_related("account", "strategy"))
    assert len(decided) >= len(GATES)
    assert [order.client_order_id for order in decided if not replayed(order).same] == []
    alone = {order.client_order_id: refused_by(order) for order in decided if order.client_order_id.startswith("gate-")}
    assert {name: by for name, by in alone.items() if len(by) > 1} == {}  # nothing else refuses beside the gate


def test_out_of_hours_is_shown_as_well_while_new_york_trades(stage, monkeypatch):
    def open_now(name, now):
        return MarketSession(name, True, None, now + timedelta(hours=1), False)

    monkeypatch.setattr("backend.tradingbot.selectors.risk_parts.market_session", open_now)
    gates.the_clock(stage)
    assert "market_hours" in stage.refusals
    assert Order.objects.get(client_order_id="gate-hours").decision["allowed"] is True


def refused_by(order):
    return [check["gate"] for check in order.decision["checks"] if not check["passed"]]
