"""An account's exposure in the admin: figures beside every bar, the stress grid, and what an order would do to it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services.limits import set_limit
from tests.browser.browsing import PHONE
from tests.browser.shots import shot


def limit(scope, kind, value):
    set_limit(scope, kind, Decimal(value), actor="test", reason="the page", clock=SYSTEM_CLOCK)


@pytest.fixture
def held(house):
    """Thirty shares wanted at 100, of which the account may gross 3,500, and the firm 10,000."""
    limit("account:main", "gross_exposure_max", 3_500)
    limit("account:main", "stress_loss_max", 5_000)
    limit("firm", "net_exposure_max", 10_000)
    assert house.order("rest", qty="30", type="limit", limit_price="90.00").status_code == 201
    return house


def page_of(visitor):
    from backend.tradingbot.models import Account

    return f"/admin/tradingbot/account/{Account.objects.get(code='main').pk}/exposure/"


def test_the_page_shows_figures_beside_bars_and_the_worst_cell(held, sign_in):
    visitor = sign_in("viewer")
    page = visitor.open("/admin/tradingbot/account/")
    page.get_by_role("link", name="Exposure of main").click()
    page.wait_for_url("**/exposure/")
    shot(page, "exposure")
    used = page.get_by_role("region", name="Used of the account's limits")
    row = used.get_by_role("row").filter(has_text="Gross value")
    assert "3,000" in row.inner_text()
    assert "3,500" in row.inner_text()
    assert "85.7 %, near the limit" in row.inner_text()
    assert "0 to 3,000" in used.get_by_role("row").filter(has_text="Net value").inner_text()
    grid = page.get_by_role("region", name="Stress grid")
    assert grid.get_by_role("row").count() == 8
    assert "-600 ▼▼▼▼ worst" in " ".join(grid.get_by_role("row").nth(1).inner_text().split())
    above = page.get_by_role("region", name="Used of the limits above the account").inner_text()
    assert "firm: net_exposure" in above
    assert "30.0 %" in above
    visitor.need_accessible()


def test_what_an_order_would_do_is_asked_of_every_gate_and_nothing_is_written(held, sign_in):
    from backend.tradingbot.models import JournalEntry, Order

    visitor = sign_in("viewer")
    visitor.open(page_of(visitor))
    before = (Order.objects.count(), JournalEntry.objects.count())
    page = visitor.page
    page.get_by_label("Symbol").fill("aapl")
    page.get_by_label("Quantity").fill("6")
    page.get_by_role("button", name="Ask every gate").press("Enter")
    answer = page.locator(".exposure-answer")
    answer.wait_for()
    assert "It would be refused by gross_exposure." in answer.inner_text()
    assert "3600, limit 3500" in answer.inner_text()
    assert answer.get_by_role("row").count() == 24
    page.get_by_label("Quantity").fill("5")
    page.get_by_role("button", name="Ask every gate").click()
    page.get_by_text("It would be let through").wait_for()
    visitor.need_accessible()
    shot(page, "exposure-what-if")
    visitor.expect(422)
    page.get_by_label("Quantity").fill("NaN")
    page.get_by_role("button", name="Ask every gate").click()
    page.get_by_text("must be finite").wait_for()
    assert (Order.objects.count(), JournalEntry.objects.count()) == before


def test_it_fits_a_phone_in_the_dark(held, sign_in):
    visitor = sign_in("viewer", viewport=PHONE)
    visitor.dark()
    page = visitor.open(page_of(visitor) + "?strategy=mean&symbol=AAPL&side=buy&qty=6&limit_price=&time_in_force=day")
    visitor.need_no_sideways_scroll()
    visitor.need_accessible()
    shot(page, "exposure-phone-dark")
