"""Limits compared in a browser: in light and dark, on a desk and on a phone, for everybody."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services.limits import set_limit
from tests.browser.browsing import PHONE
from tests.browser.shots import shot


@pytest.mark.parametrize(
    ("name", "dark", "options"),
    [("light", False, {}), ("phone-dark", True, {"viewport": PHONE})],
    ids=["desk", "phone"],
)
def test_two_profiles_and_the_versions_of_a_limit_can_be_read(house, sign_in, name, dark, options):
    made = set_limit(
        "account:main", "order_qty_max", Decimal(50), actor="ann", reason="a calmer day", clock=SYSTEM_CLOCK
    )
    visitor = sign_in("viewer", **options)
    if dark:
        visitor.dark()
    page = visitor.open("/admin/tradingbot/limitversion/compare?first=profile:default&second=profile:small_pilot")
    table = page.get_by_role("region", name="Limits that differ")
    row = " ".join(table.get_by_role("row").filter(has_text="order_qty_max").inner_text().split())
    assert row.startswith("order_qty_max 10,000 100 -99.0 % tighter order_size")
    shot(page, f"limit-compare-{name}")
    visitor.need_accessible()
    page = visitor.open(f"/admin/tradingbot/limitversion/{made.pk}/change/")
    versions = page.get_by_role("region", name="Every version of this limit").inner_text()
    assert "a calmer day" in versions and "tightened, -" in versions
    shot(page, f"limit-history-{name}")
    visitor.need_accessible()
