"""What a promotion asks for, as versions: who may ask for less, and that no strategy moves to where less is asked."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.models import JournalEntry, PromotionBar, StrategyBuild
from backend.tradingbot.risk.promotion_profiles import SHIPPED
from backend.tradingbot.services import promotion, promotion_bars
from backend.tradingbot.services.accounts import change_strategy
from backend.tradingbot.services.breakers import trip
from backend.tradingbot.services.keys import create_key
from tests.integration.conftest import Broker, Gateway

pytestmark = pytest.mark.django_db(transaction=True)

LIVE = {**vars(SHIPPED["default"]["live"])}


def put(gateway: Gateway, token: str | None = None, **changes: Any) -> Any:
    body = {"profile": "default", "to_mode": "live", "reason": "for the test", **LIVE, **changes}
    return gateway.call("POST", "promotion-profiles", body, token or gateway.risk)


def test_the_first_strategy_brings_the_profiles_that_ship(gateway: Gateway, broker: Broker) -> None:
    for profile, steps in SHIPPED.items():
        for to_mode, bar in steps.items():
            assert promotion_bars.bar_in_force(profile, to_mode) == bar
    versions = gateway.call("GET", "promotion-profiles").json()["versions"]
    assert {(v["version"], v["state"], v["set_by"]) for v in versions} == {(1, "in_force", "setup")}


def test_asking_for_more_acts_at_once_and_asking_for_less_waits_for_a_second_person(
    gateway: Gateway, broker: Broker
) -> None:
    assert put(gateway, gateway.trader).status_code == 403
    more = put(gateway, min_days=20).json()
    assert (more["version"], more["state"]) == (2, "in_force")
    assert promotion_bars.bar_in_force("default", "live").min_days == 20
    assert put(gateway, min_days=20).json()["code"] == "bar_unchanged"
    for less in ({"min_days": 19}, {"min_days": 20, "max_slippage_bps": None}, {"min_days": 20, "max_open_breaks": 1}):
        waits = put(gateway, **less).json()
        assert waits["state"] == "waiting"
        assert promotion_bars.bar_in_force("default", "live").min_days == 20
    number = waits["id"]
    states = list(PromotionBar.objects.filter(profile="default", to_mode="live").values_list("state", flat=True))
    assert states == ["waiting", "refused", "refused", "in_force", "in_force"]  # a later one takes the place of it
    yes = {"reason": "agreed"}
    path = f"promotion-profiles/{number}/approve"
    assert gateway.call("POST", path, yes, gateway.risk).json()["code"] == "maker_is_checker"
    _, second = create_key(name="second", role="risk")
    assert gateway.call("POST", path, {}, second).status_code == 400
    assert gateway.call("POST", path, yes, second).json()["decided_by"] == "key:second"
    assert promotion_bars.bar_in_force("default", "live").max_open_breaks == 1
    assert gateway.call("POST", path, yes, second).json()["code"] == "bar_not_waiting"
    kinds = set(JournalEntry.objects.filter(subject="promotion:default/live").values_list("kind", flat=True))
    assert kinds == {"promotion_bar_set", "promotion_bar_approved"}


def test_how_many_breakers_may_be_open_is_set_by_the_profile(gateway: Gateway, broker: Broker) -> None:
    StrategyBuild.objects.update(mode="shadow")
    build = StrategyBuild.objects.select_related("strategy").get()
    about: dict[str, Any] = {"actor": "key:risk", "clock": SYSTEM_CLOCK}
    _, second = create_key(name="second", role="risk")
    asks = {**vars(SHIPPED["default"]["canary"]), "min_days": 0, "min_orders": 0, "max_hard_verdicts": 9}

    def allow(breakers_open: int) -> Any:
        made = put(gateway, to_mode="canary", **asks, max_open_breakers=breakers_open).json()
        assert (made["max_open_breakers"], made["state"]) == (breakers_open, "waiting")
        path = f"promotion-profiles/{made['id']}/approve"
        assert gateway.call("POST", path, {"reason": "agreed"}, second).status_code == 200

    def found() -> list[str]:
        _, asked = promotion.conditions(build, clock=SYSTEM_CLOCK)
        return [f"{one.met} {one.wanted} {one.found}" for one in asked if one.name == "open_breakers"]

    asks.pop("max_open_breakers")
    allow(0)
    trip("firm", actor="test", reason="look", clock=SYSTEM_CLOCK)
    assert found() == ["False at most 0 1"]
    with pytest.raises(ConflictError, match="open_breakers: at most 0 wanted, 1 found"):
        promotion.promote(build.strategy, "", reason="steady", **about)
    allow(1)
    assert found() == ["True at most 1 1"]
    trip("strategy:mean", actor="test", reason="look", clock=SYSTEM_CLOCK)
    assert found() == ["False at most 1 2"]
    assert put(gateway, to_mode="canary", **asks, max_open_breakers=0).json()["state"] == "in_force"  # asks for more
    assert found() == ["False at most 0 2"]


def test_a_new_profile_promotes_nobody_before_a_second_person_has_approved_it(gateway: Gateway, broker: Broker) -> None:
    made = put(gateway, profile="quick", min_days=0, min_orders=0).json()
    assert made["state"] == "waiting" and promotion_bars.bar_in_force("quick", "live") is None
    with pytest.raises(InvalidInputError, match="is not a profile in force"):
        change_strategy("mean", {"promotion_profile": "quick"}, actor="admin:ann", reason="quicker")


def test_a_strategys_profile_is_changed_only_while_all_its_builds_are_in_shadow(
    gateway: Gateway, broker: Broker
) -> None:
    change: dict[str, Any] = {"actor": "admin:ann", "reason": "a small one"}
    with pytest.raises(ConflictError, match="is in live"):
        change_strategy("mean", {"promotion_profile": "small_pilot"}, **change)
    StrategyBuild.objects.update(mode="shadow")
    assert change_strategy("mean", {"promotion_profile": "small_pilot"}, **change).promotion_profile == "small_pilot"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"second_person": False}, "second_person"),
        ({"min_days": -1}, "min_days"),
        ({"min_orders": 1.5}, "min_orders"),
        ({"max_open_breakers": 101}, "max_open_breakers"),
        ({"max_open_breakers": None}, "max_open_breakers"),
        ({"max_slippage_bps": -1}, "max_slippage_bps"),
        ({"max_fill_rate_difference": 1.01}, "max_fill_rate_difference"),
        ({"profile": "No such name"}, "profile"),
        ({"to_mode": "shadow"}, "to_mode"),
        ({"surprise": 1}, "surprise"),
        ({"reason": ""}, "reason"),
    ],
)
def test_a_version_that_makes_no_sense_is_refused_by_its_field(
    gateway: Gateway, broker: Broker, change: dict[str, Any], field: str
) -> None:
    answer = put(gateway, **change)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, [field])


def test_the_database_itself_refuses_one_person_for_live_and_a_changed_version(
    gateway: Gateway, broker: Broker
) -> None:
    row = PromotionBar.objects.get(profile="default", to_mode="live")
    with pytest.raises(DatabaseError), transaction.atomic():
        PromotionBar.objects.filter(pk=row.pk).update(min_days=0)
    with pytest.raises(DatabaseError), transaction.atomic():
        row.delete()
    row.pk, row.version, row.second_person = None, 9, False
    with pytest.raises(IntegrityError, match="promotion_bar_live_needs_two"), transaction.atomic():
        row.save(force_insert=True)


def test_a_profile_without_a_version_in_force_promotes_nobody(gateway: Gateway, broker: Broker) -> None:
    build = StrategyBuild.objects.select_related("strategy").get()
    build.strategy.promotion_profile = "gone"
    build.strategy.save()
    StrategyBuild.objects.update(mode="shadow")
    with pytest.raises(ConflictError, match="gone is not a promotion profile with a step to canary"):
        promotion.promote(build.strategy, "", actor="key:x", reason="y", clock=SYSTEM_CLOCK)
