"""What needs two people, by two people in two browsers: a break is explained by one and closed by another."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from backend.tradingbot.models import Account, Break
from tests.browser.shots import shot


def test_a_break_is_resolved_by_one_and_closed_by_another(sign_in, house):
    now = datetime.now(UTC)
    row = Break.objects.create(
        account=Account.objects.get(), kind="cash", severity="warning", subject="cash", value=Decimal("12.50"),
        ours={"cash": "100"}, theirs={"cash": "112.50"}, difference={"cash": "12.50"}, opened_at=now, updated_at=now,
        opened_by="run 1",
    )  # fmt: skip
    address = f"/admin/tradingbot/break/{row.pk}/change/"
    ann = sign_in("risk", "ann")
    page = ann.open(address)
    shot(page, "break")
    ann.need_accessible()
    ann.act("Explain", "Explain", "the dividend of the day")
    page.wait_for_url(f"**{address}")
    row.refresh_from_db()
    assert (row.status, row.resolved_by) == ("explained", "admin:ann")
    ann.open(address)
    ann.expect(422)
    if page.locator("a[href$='/close/']").count():
        ann.act("Close", "Close", "I agree with myself")
    row.refresh_from_db()
    assert row.status == "explained"
    bob = sign_in("risk", "bob")
    page = bob.open(address)
    bob.act("Close", "Close", "seen at the broker")
    page.wait_for_url(f"**{address}")
    row.refresh_from_db()
    assert (row.status, row.closed_by) == ("closed", "admin:bob")
