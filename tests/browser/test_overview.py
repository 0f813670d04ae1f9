"""The first page: what it says, that it follows what happens without a reload, and that it admits when it is old."""

from __future__ import annotations

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services import breakers, marking
from tests.browser.browsing import PHONE
from tests.browser.shots import shot


def test_an_empty_installation_explains_itself(sign_in):
    visitor = sign_in("admin")
    page = visitor.open("/admin/")
    steps = page.locator("#cr-first_steps").inner_text()
    assert "account create main --from-broker" in steps
    assert "feed declare main" in steps
    assert f"{visitor.url}/api/v1/market-data/ticks" in steps
    shot(page, "empty")
    visitor.need_accessible()
    page = visitor.open("/admin/tradingbot/order/")
    words = page.locator("#main").inner_text()
    assert "No orders yet" in words and "refused ones as well" in words and "Create a new item" not in words
    visitor.need_accessible()
    page = visitor.open("/admin/tradingbot/order/?q=nothing")
    assert "None of the orders matches" in page.locator("#main").inner_text()


def test_it_follows_a_trip_and_a_reset_without_a_reload(sign_in, house):
    house.order("a", type="limit", limit_price="90.00")
    house.order("big", qty="5000")
    marking.mark_all(clock=SYSTEM_CLOCK)
    visitor = sign_in("risk")
    page = visitor.open("/admin/")
    assert page.locator("#cr-accounts").get_by_text("10,000").first.is_visible()
    shot(page, "overview")
    page.evaluate("window.sameDocument = true")
    link = page.locator("#to-orders")
    link.focus()
    breakers.trip("account:main", actor="test", reason="look at this", clock=SYSTEM_CLOCK)
    stop = page.locator("#cr-stops .stop", has_text="account:main")
    stop.wait_for(timeout=6_000)
    assert "look at this" in stop.inner_text()
    assert "the risk role" in stop.inner_text()
    assert "account:main breaker open" in page.locator("#cr-says").inner_text()
    assert page.evaluate("document.activeElement.id") == "to-orders"
    shot(page, "stopped")
    visitor.need_accessible()
    breakers.reset("account:main", actor="test", reason="seen", force=True, clock=SYSTEM_CLOCK)
    stop.wait_for(state="detached", timeout=6_000)
    assert page.evaluate("window.sameDocument") is True


def test_focus_on_a_part_that_is_redrawn_stays(sign_in, house):
    marking.mark_all(clock=SYSTEM_CLOCK)
    visitor = sign_in("risk")
    page = visitor.open("/admin/")
    page.locator("#to-orders").focus()
    house.order("another", qty="5000")
    page.locator("#cr-decisions", has_text=f"{house.prefix}-another").wait_for(timeout=6_000)
    assert page.evaluate("document.activeElement.id") == "to-orders"


def test_it_says_when_the_server_is_gone_and_when_one_is_signed_out(sign_in, house):
    visitor = sign_in("viewer")
    page = visitor.open("/admin/")
    visitor.expect_words("ERR_FAILED", "htmx:sendError", "htmx:afterRequest")
    page.route("**/admin/overview/**", lambda route: route.abort())
    page.locator("#cr-stale", has_text="No answer from the server").wait_for(timeout=12_000)
    shot(page, "stale")
    page.unroute("**/admin/overview/**")
    page.locator("#cr-stale").wait_for(state="hidden")
    visitor.context.clear_cookies()
    page.locator("#cr-stale", has_text="You are signed out").wait_for()


@pytest.mark.parametrize("look", [{"viewport": PHONE}, {"color_scheme": "dark"}], ids=["phone", "dark"])
def test_on_a_phone_and_in_the_dark(sign_in, house, look):
    house.order("big", qty="5000")
    marking.mark_all(clock=SYSTEM_CLOCK)
    breakers.trip("firm", actor="test", reason="look", clock=SYSTEM_CLOCK)
    visitor = sign_in("admin", **look)
    page = visitor.open("/admin/")
    page.locator("#cr-stops .stop").first.wait_for()
    shot(page, "phone" if "viewport" in look else "dark")
    visitor.need_accessible()
    visitor.need_no_sideways_scroll()


def test_a_viewer_is_shown_no_act(sign_in, house):
    breakers.trip("firm", actor="test", reason="look", clock=SYSTEM_CLOCK)
    page = sign_in("viewer").open("/admin/")
    assert page.locator("#cr-stops .stop").count() >= 1
    assert page.locator("#cr-stops .stop", has_text="breaker open").get_by_role("link").count() == 0
