"""Every stored decision comes out the same when it is judged again; other limits show what they would have changed;
and a check decides as the order would, whatever the state, and writes nothing."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import (
    Account,
    Breaker,
    LimitVersion,
    Order,
    Position,
    ReconciliationBlock,
    RiskRow,
    TradingState,
)
from backend.tradingbot.risk.limits import KINDS
from backend.tradingbot.selectors.replays import replayed
from backend.tradingbot.services import breakers
from backend.tradingbot.services.limits import set_limit
from backend.tradingbot.services.revaluation import revalue

pytestmark = pytest.mark.django_db(transaction=True)


def day(gateway):
    """A few orders: let through, denied for several reasons, with and without a price."""
    hot_state()._redis.flushdb()
    gateway.order("early")
    gateway.tick()
    gateway.order("a")
    gateway.order("b", type="limit", limit_price="99.50", qty="1.5")
    gateway.order("c", symbol="TSLA")
    gateway.order("d", type="limit", limit_price="200.00")
    gateway.order("e", qty="9999")
    gateway.order("f", side="sell", qty="1")
    gateway.order("g", greeks={"delta": "1", "beta": "0.9"}, permit_id="permit-of-nobody")
    breakers.trip("account:main", actor="test", reason="look", clock=SYSTEM_CLOCK)
    gateway.order("h")


def command(name, *arguments):
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


def test_every_decision_of_a_day_comes_out_the_same_from_its_stored_snapshot(gateway, broker):
    day(gateway)
    orders = list(Order.objects.select_related("account", "strategy"))
    assert len(orders) == 9
    for order in orders:
        found = replayed(order)
        assert (found.same, found.differences) == (True, {}), order.client_order_id
    assert {order.decision["allowed"] for order in orders} == {True, False}
    told = command("replay_decision", "--all")
    assert told.count("the same as stored by build") == 9


def test_a_decision_that_was_tampered_with_comes_out_other_than_stored(gateway, broker):
    gateway.tick()
    gateway.order("a")
    order = Order.objects.get()
    stored = dict(order.decision)
    size = next(check for check in stored["checks"] if check["gate"] == "order_size")
    size["limit"] = "7"
    Order.objects.update(decision=stored)
    with pytest.raises(CommandError, match="1 decision"):
        command("replay_decision", order.client_order_id)
    assert list(replayed(Order.objects.get()).differences) == ["order_size"]


def test_a_snapshot_of_another_shape_is_said_to_be_one(gateway, broker):
    gateway.tick()
    gateway.order("a")
    Order.objects.update(snapshot={"now": "once"})
    with pytest.raises(CommandError):
        command("replay_decision", Order.objects.get().client_order_id)
    with pytest.raises(CommandError, match="0 decided orders"):
        command("replay_decision", "nobody")


def test_proposed_limits_show_which_decisions_would_change(gateway, broker, tmp_path):
    day(gateway)
    proposed = [
        {"scope": "account:main", "kind": "order_qty_max", "value": "4"},
        {"scope": "account:main", "kind": "price_collar_buy_bps", "value": "10000"},
    ]
    path = tmp_path / "proposed.json"
    path.write_text(json.dumps(proposed))
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    told = command("replay_limits", "--since", since, "--limits", str(path))
    assert f"{gateway.prefix}-a: allowed then, denied by these limits (order_size)" in told
    assert f"{gateway.prefix}-b" not in told  # 1.5 fits
    assert "9 decisions judged, 2 would be denied, 0 would be allowed, 0 cannot be judged" in told

    ask = {"since": since, "limits": [{"scope": "account:main", "kind": "price_collar_buy_bps", "value": "10000"}]}
    report = gateway.call("POST", "limits/replay", ask, token=gateway.risk).json()
    changes = {change["client_order_id"]: change["was_refused_by"] for change in report["changes"]}
    assert (report["would_be_allowed"], changes) == (1, {f"{gateway.prefix}-d": ["price_collar"]})
    assert gateway.call("POST", "limits/replay", ask).json()["code"] == "role_not_allowed"
    assert LimitVersion.objects.filter(version__gt=1).count() == 0


def test_a_proposal_that_makes_no_sense_is_refused_by_name(gateway, tmp_path):
    path = tmp_path / "proposed.json"
    path.write_text('[{"scope": "firm", "kind": "mystery", "value": "1"}]')
    with pytest.raises(CommandError, match="is not a kind"):
        command("replay_limits", "--since", "2026-01-05", "--limits", str(path))
    with pytest.raises(CommandError, match="No such file"):
        command("replay_limits", "--since", "2026-01-05", "--limits", str(tmp_path / "nothing.json"))


def rows_written():
    """How much each table has ever changed, by its rows and its newest key."""
    counts = {}
    with connection.cursor() as cursor:
        for model in apps.get_app_config("tradingbot").get_models():
            table = model._meta.db_table
            cursor.execute(
                f"SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"
            )
            counts[table] = cursor.fetchone()
    return counts


def random_state(gateway, rolls):
    """Prices, positions, limits, stops and blocks as they come."""
    account = Account.objects.get(code="main")
    if rolls.random() < 0.9:
        gateway.tick(price=f"{rolls.choice([80, 100, 104])}.00")
    qty = rolls.choice([0, 0, 5, -5, 40])
    Position.objects.update_or_create(account=account, symbol="AAPL", defaults={"qty": qty, "avg_price": 100})
    revalue(account, clock=SYSTEM_CLOCK)
    RiskRow.objects.filter(pk="account:main").update(cash=rolls.choice([100, 10_000]), equity=10_000)
    kind = rolls.choice([name for name in KINDS if "account" in KINDS[name].scopes])
    newest = LimitVersion.objects.filter(scope="account:main", kind=kind).order_by("-version").first()
    value = Decimal(rolls.choice([0, 1, 3, 600]))
    if newest is None or newest.value != value:
        set_limit("account:main", kind, value, actor="test", reason="roll", clock=SYSTEM_CLOCK)
    if rolls.random() < 0.2:
        TradingState.objects.filter(scope="firm").update(state=rolls.choice(["reducing", "active"]))
    if rolls.random() < 0.1:
        ReconciliationBlock.objects.create(
            account=account, reason="break", placed_by="test", placed_at=datetime.now(UTC)
        )
    Breaker.objects.update(evaluated_at=datetime.now(UTC))


def keys_of_trading():
    """All that Valkey holds, but for the note of when a key was last used, which every call leaves."""
    return sorted(set(hot_state()._redis.keys()) - {"keys:used", b"keys:used"})


@pytest.mark.parametrize("seed", range(4))
def test_a_check_decides_as_the_order_does_in_any_state_and_writes_nothing(gateway, broker, seed):
    rolls = random.Random(seed)
    hot_state()._redis.flushdb()
    for number in range(12):
        random_state(gateway, rolls)
        asked = {"side": rolls.choice(["buy", "sell"]), "qty": rolls.choice(["1", "5", "41"])}
        if rolls.random() < 0.6:
            asked |= {"type": "limit", "limit_price": rolls.choice(["79.00", "100.00", "111.00"])}
        name = f"s{seed}-{number}"
        before, keys = rows_written(), keys_of_trading()
        checked = gateway.call("POST", "orders/check", gateway.body(name, **asked)).json()
        assert (rows_written(), keys_of_trading()) == (before, keys)
        placed = gateway.order(name, **asked).json()
        decision = placed.get("order", placed)["decision"]
        assert [(c["gate"], c["passed"], c["code"]) for c in checked["checks"]] == [
            (c["gate"], c["passed"], c["code"]) for c in decision["checks"]
        ]
        moving = {"data_quality", "circuit_breaker", "order_rate"}  # these show an age or a wait, which goes on
        assert [c for c in checked["checks"] if c["gate"] not in moving and not c["passed"]] == [
            c for c in decision["checks"] if c["gate"] not in moving and not c["passed"]
        ]


def test_a_stored_order_is_judged_as_of_another_session(gateway, broker):
    Account.objects.update(session_calendar="XNYS")
    gateway.tick()
    gateway.order("a")
    name = f"{gateway.prefix}-a"
    sunday = command("replay_decision", name, "--session-at", "2026-11-29T17:00:00Z")
    assert "market_hours: market_closed: XNYS is closed until 2026-11-30T14:30:00.000000Z" in sunday
    assert "market_hours" not in command("replay_decision", name, "--session-at", "2026-11-30T15:00:00Z")
    with pytest.raises(CommandError, match="has no time zone"):
        command("replay_decision", name, "--session-at", "2026-11-30T15:00:00")
