"""An order's page: every state with its time, every gate with its headroom, the journal, and who sees it."""

from __future__ import annotations

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Order
from backend.tradingbot.services import fills
from tests.browser.shots import shot


def order_of(house, name):
    return Order.objects.get(client_order_id=f"{house.prefix}-{name}")


def test_an_orders_life_stands_there_state_by_state(sign_in, house):
    assert house.order("a", qty="5").status_code == 201
    order = order_of(house, "a")
    fills.poll_account(order.account, clock=SYSTEM_CLOCK)
    visitor = sign_in("viewer")
    page = visitor.open(f"/admin/tradingbot/order/{order.pk}/change/")
    states = page.locator("[aria-label='Every state with its time'] tbody tr")
    words = states.all_inner_texts()
    assert [word for word in ("pending_submit", "accepted", "filled") if any(word in line for line in words)] == [
        "pending_submit", "accepted", "filled"]  # fmt: skip
    text = page.locator("#content, main, body").first.inner_text()
    assert order.build_id in text
    gate = page.locator("tr", has=page.get_by_text("buying_power", exact=True)).first.inner_text()
    assert "What the broker said" in text and gate
    shot(page, "order")
    visitor.need_accessible()


def test_a_refused_order_shows_the_gates_that_refused_first(sign_in, house):
    assert house.order("big", qty="5000").status_code == 422
    visitor = sign_in("viewer")
    page = visitor.open(f"/admin/tradingbot/order/{order_of(house, 'big').pk}/change/")
    assert "denied" in page.locator(".cr-page").inner_text()
    first = page.locator("table:has-text('Headroom') tbody tr").first.inner_text()
    assert "buying_power" in first or "order_size" in first or "greek_exposure" in first or "concentration" in first
    shot(page, "order-refused")
    visitor.need_accessible()


def test_an_order_is_found_by_its_whole_id(sign_in, house):
    house.order("big", qty="5000")
    visitor = sign_in("viewer")
    page = visitor.open(f"/admin/tradingbot/order/?q={house.prefix}-big")
    assert page.locator("#result_list tbody tr").count() == 1
    page = visitor.open("/admin/tradingbot/order/?q=AAPL")
    assert page.locator("#result_list tbody tr").count() == 1
    page = visitor.open("/admin/tradingbot/order/?q=nothing")
    assert page.locator("#result_list tbody tr").count() == 0
