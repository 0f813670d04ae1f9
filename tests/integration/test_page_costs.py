"""Every page of the admin costs as many statements with many rows as with a few; run with -s to see the figures."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import (
    Account,
    Break,
    BreakerEvent,
    CashFlow,
    DataStop,
    Execution,
    Feed,
    KillSwitchOrder,
    KillSwitchRun,
    Order,
    Position,
    ReconciliationBlock,
    ResetRequest,
    Strategy,
)
from backend.tradingbot.services import breakers
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.keys import create_key

pytestmark = pytest.mark.django_db(transaction=False)
MOST = 40  # statements of any page


def add_rows(count: int) -> None:
    """``count`` more of everything that a list may show."""
    now = datetime.now(UTC)
    for _ in range(count):
        name = secrets.token_hex(5)
        account = create_account(code=name, cash=Decimal(10_000), broker_account=name, symbols=["AAPL"])
        strategy = create_strategy(code=name, mode="live")
        create_key(name=name, role="trader", account=account, strategy=strategy)
        order = Order.objects.create(
            account=account, strategy=strategy, client_order_id=name, body_digest="d", symbol="AAPL", side="buy", qty=5,
            type="market", time_in_force="day", status="in_doubt", build_id="b", trace_id="t", created_at=now,
            updated_at=now, decision={"allowed": True, "checks": []},
        )  # fmt: skip
        Execution.objects.create(
            account=account, order=order, execution_id=name, symbol="AAPL", side="buy", qty=1, price=10,
            occurred_at=now, recorded_at=now, build_id="b",
        )  # fmt: skip
        Position.objects.create(account=account, symbol="AAPL", qty=1)
        breaker = breakers.trip(f"account:{name}", actor="test", reason="look", clock=SYSTEM_CLOCK)
        ResetRequest.objects.create(
            breaker=breaker, tripped_at=now, reason="r", requested_by="x", requested_at=now,
            expires_at=now + timedelta(hours=1),
        )  # fmt: skip
        run = KillSwitchRun.objects.create(
            token=name, scope=f"account:{name}", reason="r", actor="a", started_at=now, flatten=False
        )
        KillSwitchOrder.objects.create(run=run, order=order, purpose="cancel")
        Break.objects.create(
            account=account, kind="cash", severity="critical", subject=name, opened_at=now, opened_by="run",
            updated_at=now,
        )  # fmt: skip
        ReconciliationBlock.objects.create(account=account, reason=name, placed_by="run", placed_at=now)
        CashFlow.objects.create(
            account=account, activity_id=name, kind="deposit", amount=5, occurred_at=now, session=now.date(),
            recorded_at=now, reason="r", actor="a", moved_start=False,
        )  # fmt: skip
        DataStop.objects.create(symbol=name.upper(), check_name="z", source="ticks", since=now, build_id="b")
        Feed.objects.create(code=name, symbols=["AAPL"], max_silence_seconds=5, watched_since=now)


def addresses() -> dict[str, str]:
    found = {"overview": "/admin/", "overview, all": "/admin/?accounts=all", "overview's parts": "/admin/overview/",
             "kill switch": reverse("admin:tradingbot_killswitchrun_pull")}  # fmt: skip
    for model in admin.site._registry:
        options = model._meta
        if options.app_label == "tradingbot":
            prefix = f"admin:tradingbot_{options.model_name}"
            found[f"{options.model_name} list"] = reverse(f"{prefix}_changelist")
    for model in (Account, Strategy, Order, KillSwitchRun, BreakerEvent):
        name = model._meta.model_name
        row = model._default_manager.order_by("pk").first()
        found[f"one {name}"] = reverse(f"admin:tradingbot_{name}_change", args=[row.pk])
    return found


def costs(client, pages: dict[str, str]) -> dict[str, int]:
    counted = {}
    for name, address in pages.items():
        with CaptureQueriesContext(connection) as seen:
            assert client.get(address).status_code == 200, name
        counted[name] = len(seen)
    return counted


def test_no_page_asks_more_often_for_more_rows(client):
    client.force_login(User.objects.create_superuser("boss"))
    add_rows(2)
    pages = addresses()
    costs(client, pages)  # what is cached for the process is not counted against either
    few = costs(client, pages)
    add_rows(8)
    many = costs(client, pages)
    for name in sorted(pages, key=lambda page: -many[page]):
        print(f"{name:<32} {few[name]:>3} statements, {many[name]:>3} with five times the rows")
    assert {name: (few[name], many[name]) for name in pages if many[name] > few[name]} == {}
    assert max(many.values()) <= MOST
