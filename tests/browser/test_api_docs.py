"""The API's own page under its content policy: every call is drawn from this host, and nothing complains."""

from __future__ import annotations

import re

from tests.browser.shots import shot


def test_the_apis_page_draws_every_call_and_asks_nobody_else(visit):
    visitor = visit()
    asked = []
    visitor.context.on("request", lambda request: asked.append(request.url))
    page = visitor.open("/api/docs/")
    calls = page.locator(".opblock")
    calls.first.wait_for()
    assert page.locator(".opblock-summary-path", has_text=re.compile(r"/orders/check$")).count() == 1
    assert calls.count() >= 60
    order = page.locator("#operations-orders-orders_create, .opblock-post", has_text="/api/v1/orders").first
    order.locator(".opblock-summary").click()
    order.get_by_text("client_order_id").first.wait_for()
    assert any(url.endswith("/api/schema/") for url in asked)
    shot(page, "api-docs")
    visitor.need_quiet()
