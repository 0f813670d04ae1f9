"""A breaker's life in the browser: trip, order refused, reset refused inside the cooldown, forced, by two people."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Breaker, EquityMark, RiskRow
from backend.tradingbot.services import breakers, marking
from tests.browser.shots import shot

RESTING = {"type": "limit", "limit_price": "90.00", "qty": "1"}


@pytest.fixture
def breaker(house):
    marking.mark_all(clock=SYSTEM_CLOCK)
    return Breaker.objects.get(scope="account:main")


def address(row):
    return f"/admin/tradingbot/breaker/{row.pk}/change/"


def test_trip_order_refused_reset_refused_in_the_cooldown_and_forced(sign_in, house, breaker):
    visitor = sign_in("risk")
    page = visitor.open(address(breaker))
    assert "It has never tripped" in page.locator(".cr-page").inner_text()
    visitor.act("Trip", "Trip account:main", "the desk says stop")
    page.get_by_text("is open: new risk in this scope is refused").wait_for()
    assert "open: new risk is refused" in page.locator(".cr-page").inner_text()
    refused = house.order("a", **RESTING)
    assert (refused.status_code, "the desk says stop" in refused.text) == (422, True)
    shot(page, "breaker-open")
    visitor.need_accessible()
    visitor.expect(422)
    visitor.act("Reset", "Reset account:main", "all is well")
    page.get_by_text("the cooldown runs for another").wait_for()
    assert page.locator("input[name=force]").count() == 0
    boss = sign_in("risk", "chief", rights=("force_reset_breaker",))
    page = boss.open(address(breaker))
    boss.act("Reset", "Reset account:main", "all is well", force=True)
    page.get_by_text("is closed again (forced)").wait_for()
    assert house.order("b", **RESTING).status_code == 201
    events = boss.open(address(breaker)).locator("#events-group, .tabular, table").all_inner_texts()
    assert any("all is well (forced)" in text for text in events)


def test_two_people_reset_where_that_is_set(sign_in, house, breaker, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"reset_second_person": True})
    Breaker.objects.filter(pk=breaker.pk).update(cooldown_sec=0)
    breakers.trip("account:main", actor="test", reason="look", clock=SYSTEM_CLOCK)
    ann = sign_in("risk", "ann")
    page = ann.open(address(breaker))
    ann.act("Reset", "Reset account:main", "all is well")
    page.get_by_text("A second person has to carry it out").wait_for()
    assert "admin:ann asked to reset it" in page.locator(".cr-page").inner_text()
    overview = ann.open("/admin/")
    assert "1 reset" in overview.locator(".cr-waiting").inner_text()
    bob = sign_in("risk", "bob")
    page = bob.open(address(breaker))
    shot(page, "breaker-second-person")
    bob.need_accessible()
    bob.act("Reset", "Reset account:main", "looked too")
    page.get_by_text("is closed again").wait_for()
    assert Breaker.objects.get(pk=breaker.pk).tripped_at is None


def test_the_timeline_shows_the_equity_before_the_trip(sign_in, house, breaker):
    now = SYSTEM_CLOCK.now()
    for minute in range(60):
        EquityMark.objects.create(
            scope="account:main", at=now - timedelta(minutes=60 - minute), equity=Decimal(10_000 - minute * 10),
            start_equity=Decimal(10_000),
        )  # fmt: skip
    RiskRow.objects.filter(scope="account:main").update(cash=Decimal(9_390))
    marking.mark_all(clock=SYSTEM_CLOCK)
    visitor = sign_in("viewer", color_scheme="dark")
    page = visitor.open(address(breaker))
    drawing = page.get_by_role("img", name="equity from 10,000 to 9,390")
    drawing.wait_for()
    assert "trips at" in drawing.inner_html()
    assert "daily-dd-0.061" in page.locator(".cr-page").inner_text()
    assert page.get_by_role("link", name=re.compile(r"\bReset$")).count() == 0
    shot(page, "breaker-dark")
    visitor.need_accessible()
