"""A build is promoted in the browser: its evidence in view, refused for what it lacks, approved by a second person."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backend.tradingbot.models import StrategyBuild
from backend.tradingbot.selectors import evidence
from tests.browser.shots import shot
from tests.integration.test_modes import book_fills, meet, set_mode


@pytest.fixture
def build(house, monkeypatch):
    monkeypatch.setattr(evidence, "hard_verdicts", lambda symbols, since: 0)
    found = set_mode("canary", allocation=Decimal("0.5"), max_orders=100)
    found.strategy.promotion_profile = "demo"
    found.strategy.save()
    return found


def address(row):
    return f"/admin/tradingbot/strategybuild/{row.pk}/change/"


def test_a_strategy_is_promoted_by_evidence_and_two_people_and_demoted_by_one(sign_in, house, build):
    ann = sign_in("risk", "ann")
    page = ann.open(address(build))
    assert "Evidence for the step to live" in page.locator("#evidence-title").inner_text()
    ann.expect(422)
    ann.act("Promote", "Promote", "it looks well")
    page.get_by_text("orders: at least 2 wanted, 0 found").wait_for()
    for number in range(6):
        house.tick()
        assert house.order(f"p{number}", qty="4", side="sell" if number % 2 else "buy").status_code == 201
        book_fills(house)
        meet("100.00")
    page = ann.open(address(build))
    shot(page, "build-evidence")
    ann.need_accessible()
    ann.act("Promote", "Promote", "a calm week")
    page.get_by_text("waits for a second person until").wait_for()
    bob = sign_in("risk", "bob", color_scheme="dark")
    page = bob.open(address(build))
    shot(page, "build-waits-dark")
    bob.need_accessible()
    bob.act("Approve", "Approve", "I looked as well")
    page.get_by_text("is in live").wait_for()
    assert StrategyBuild.objects.get().mode == "live"
    bob.act("Demote", "Demote to shadow", "enough for today")
    page.get_by_text("until it is flat it places only what reduces").wait_for()
    assert StrategyBuild.objects.get().mode == "shadow"


def test_shadow_against_live_is_drawn_for_all_days_and_for_one(sign_in, house, build):
    for number in range(4):
        house.tick()
        house.order(f"d{number}", qty="4", side="sell" if number % 2 else "buy")
        book_fills(house)
        meet("100.02" if number % 2 else "100.05")
    visitor = sign_in("viewer")
    page = visitor.open(f"/admin/tradingbot/strategybuild/{build.pk}/divergence")
    assert page.locator("svg.versus").count() == 5
    shot(page, "divergence")
    visitor.need_accessible()
    page.locator(".modes-days a").nth(1).click()
    assert page.locator(".modes-days a[aria-current]").inner_text() != "all days"
    phone = sign_in("viewer", color_scheme="dark", viewport={"width": 390, "height": 800})
    page = phone.open(f"/admin/tradingbot/strategybuild/{build.pk}/divergence")
    shot(page, "divergence-phone-dark")
    phone.need_accessible()
