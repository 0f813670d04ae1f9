"""Builds of strategies in the admin: the evidence in view, each step with its reason, two people for live, reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backend.tradingbot.models import (
    JournalEntry,
    ModeChange,
    Order,
    PromotionBar,
    PromotionRequest,
    Strategy,
    StrategyBuild,
)
from backend.tradingbot.ops.divergence import mean, proportion
from backend.tradingbot.ops.divergence_chart import chart
from backend.tradingbot.selectors import evidence
from tests.integration.conftest import Broker, Gateway
from tests.integration.desk_admin import listed, page, text_of, viewer
from tests.integration.desk_admin import person as signed_in
from tests.integration.test_modes import book_fills, meet, set_mode

pytestmark = pytest.mark.django_db(transaction=True)
RIGHTS = ("promote_build", "demote_build", "register_build", "set_promotionbar")


def risk(name: str) -> Client:
    return signed_in(name, *RIGHTS)


def act(client: Client, row: Any, name: str, **entered: Any) -> Any:
    url = reverse(f"admin:tradingbot_{row._meta.model_name}_{name}", args=[row.pk])
    return client.post(url, entered, follow=True)


@pytest.fixture
def known_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "hard_verdicts", lambda symbols, since: 0)


def demo_build() -> StrategyBuild:
    build = set_mode("shadow")
    build.strategy.promotion_profile = "demo"
    build.strategy.save()
    return build


def test_a_build_walks_up_and_down_in_the_admin_with_every_refusal_in_words(
    gateway: Gateway, broker: Broker, known_data: None
) -> None:
    build, ann, bob = demo_build(), risk("ann"), risk("bob")
    assert "Evidence for the step to canary" in text_of(ann.get(page(build)))
    refused = act(ann, build, "promote", reason="it looks well")
    assert refused.status_code == 422 and "orders: at least 1 wanted, 0 found" in text_of(refused)
    gateway.tick()
    gateway.order("one")
    assert act(ann, build, "promote").status_code == 422  # no reason
    assert "is in canary" in text_of(act(ann, build, "promote", reason="it looks well"))
    for name in ("two", "three"):
        gateway.order(name)
    assert "waits for a second person" in text_of(act(ann, build, "promote", reason="steady"))
    shown = text_of(bob.get(page(build)))
    assert "waits for a second person" in shown and "steady" in shown
    own = act(ann, build, "approve", reason="me too")
    assert own.status_code == 422 and "who asked may not approve" in text_of(own)
    assert "is in live" in text_of(act(bob, build, "approve", reason="I looked as well"))
    change = ModeChange.objects.first()
    assert change is not None
    assert (change.actor, change.second, change.after) == ("admin:ann", "admin:bob", "live")
    assert change.reason == "steady; admin:bob: I looked as well"
    assert "is in shadow" in text_of(act(bob, build, "demote", reason="slippage"))
    history = text_of(bob.get(page(build)))
    for words in ("it looks well", "I looked as well", "slippage"):
        assert words in history


def test_a_request_is_refused_with_a_reason_and_a_new_one_may_be_asked(
    gateway: Gateway, broker: Broker, known_data: None
) -> None:
    build, ann, bob = demo_build(), risk("ann"), risk("bob")
    build.mode = "canary"
    build.save()
    gateway.tick()
    for name in ("one", "two"):
        gateway.order(name)
    act(ann, build, "promote", reason="steady")
    assert "stays in canary" in text_of(act(bob, build, "refuse", reason="too early"))
    assert JournalEntry.objects.get(kind="promotion_refused").data["reason"] == "too early"
    act(ann, build, "promote", reason="again")
    assert list(PromotionRequest.objects.values_list("state", flat=True)) == ["waiting", "refused"]


def test_who_only_looks_sees_the_evidence_and_can_do_nothing(gateway: Gateway, broker: Broker) -> None:
    build, looks = set_mode("canary"), viewer()
    shown = looks.get(page(build))
    assert shown.status_code == 200 and "Evidence for the step to live" in text_of(shown)
    for name in ("promote", "approve", "refuse", "demote", "withdraw"):
        assert act(looks, build, name, reason="x").status_code == 403
    assert looks.get(reverse("admin:tradingbot_strategybuild_divergence", args=[build.pk])).status_code == 200
    assert StrategyBuild.objects.get().mode == "canary"


def test_a_build_is_registered_and_withdrawn_and_the_canarys_caps_are_set(gateway: Gateway, broker: Broker) -> None:
    ann, strategy = risk("ann"), Strategy.objects.get()
    assert "is on file, in shadow" in text_of(act(ann, strategy, "register", build_id="v2", reason="new signal"))
    assert act(ann, strategy, "register", build_id="v 3", reason="x").status_code == 422
    build = StrategyBuild.objects.get(build_id="v2")
    assert "is withdrawn" in text_of(act(ann, build, "withdraw", reason="wrong signal"))
    assert "v2" in text_of(ann.get(listed("strategybuild")))
    StrategyBuild.objects.update(mode="shadow")
    form: dict[str, Any] = {
        "canary_allocation": "0.25", "canary_lot": "1", "canary_max_orders": "3",
        "canary_max_notional": "1000", "canary_max_loss": "50", "promotion_profile": "small_pilot", "reason": "pilot",
    }  # fmt: skip
    assert "are set" in text_of(act(ann, strategy, "canary", **form))
    strategy.refresh_from_db()
    assert (strategy.canary_allocation, strategy.canary_max_orders, strategy.promotion_profile) == (
        Decimal("0.25"),
        3,
        "small_pilot",
    )
    wrong = text_of(act(ann, strategy, "canary", **{**form, "canary_allocation": "1.5"}))
    assert "must be above 0 and at most 1" in wrong


def test_asking_for_less_waits_in_the_admin_too(gateway: Gateway, broker: Broker) -> None:
    ann, bob = risk("ann"), risk("bob")
    row = PromotionBar.objects.get(profile="default", to_mode="live")
    entered: dict[str, Any] = {
        "min_days": "5", "min_orders": "100", "max_slippage_bps": "10", "max_fill_rate_difference": "0.2",
        "max_hard_verdicts": "0", "max_open_breaks": "0", "max_open_breakers": "0", "second_person": "on",
        "reason": "quicker",
    }  # fmt: skip
    assert "waits for a second person" in text_of(act(ann, row, "new_version", **entered))
    made = PromotionBar.objects.get(version=2)
    assert act(ann, made, "approve", reason="x").status_code == 422
    assert "is in force" in text_of(act(bob, made, "approve", reason="agreed"))


def test_the_report_compares_both_sides_in_all_and_on_one_day(gateway: Gateway, broker: Broker) -> None:
    build = set_mode("canary", allocation=Decimal("0.5"))
    gateway.tick()
    for number in range(3):
        gateway.order(f"d{number}", qty="4")
    gateway.order("refused", symbol="TSLA")
    book_fills(gateway)
    meet("100.50")
    StrategyBuild.objects.update(mode_since=datetime.now(UTC) - timedelta(days=4))
    older = Order.objects.filter(client_order_id__endswith="d0")
    older.update(created_at=datetime.now(UTC) - timedelta(days=2))
    url = reverse("admin:tradingbot_strategybuild_divergence", args=[build.pk])
    whole = text_of(risk("ann").get(url))
    assert whole.count('<svg class="versus"') == 5 and "Fill rate" in whole and "differs for certain" in whole
    report = gateway.call("GET", "strategies/mean/divergence").json()["divergence"]
    days = report["days"]
    assert [day["live"]["fill_rate"]["n"] for day in days] == [2, 1] and report["live"]["fill_rate"]["n"] == 3
    assert [day["live"]["refusals"]["n"] for day in days] == [3, 1]
    assert report["shadow"]["refusals"]["value"] == report["live"]["refusals"]["value"] == 0.25
    # bought at 100 for real, and simulated at the tick of 100.50, which is the last price of the newer session
    assert (days[0]["live"]["pnl"]["value"], days[0]["shadow"]["pnl"]["value"]) == (1.0, 0.0)
    one = text_of(risk("ann").get(url, {"day": days[1]["day"]}))
    assert "(one order)" in one


def test_a_chart_says_every_value_escapes_its_names_and_is_empty_without_any() -> None:
    none = proportion(0, 0)
    assert chart("Fill rate", "%", [("in all", none, none)]) == ""
    drawn = chart("P&L", "bps", [("<day>", mean([1.0, 3.0]), none)])
    assert "&lt;day&gt;" in drawn and "P&amp;L" in drawn and "2 bps" in drawn and "live -" in drawn
    assert "style=" not in drawn and "<script" not in drawn
