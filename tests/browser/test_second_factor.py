"""The second factor in a real browser: set up with the code, asked for at the next sign-in; and the lock."""

from __future__ import annotations

from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from backend.tradingbot.models import Notification
from tests.browser.people import PASSWORD, user_of


def sign_in_by_form(page, name: str, password: str) -> None:
    page.get_by_label("Username").fill(name)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Log in").click()


def code_of(drift: int = 0) -> str:
    return f"{totp(TOTPDevice.objects.get().bin_key, drift=drift):06d}"


def test_it_is_set_up_and_asked_for_at_the_next_sign_in(visit, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"require_totp": True})
    user_of("risk")
    visitor = visit()
    page = visitor.open("/admin/")
    sign_in_by_form(page, "risk-person", PASSWORD)
    page.get_by_text("Scan this").wait_for()
    visitor.need_accessible()
    visitor.need_no_sideways_scroll()
    page.locator("#id_code").fill(code_of())
    page.get_by_role("button", name="Set it up").click()
    page.locator("#backup-codes li").nth(9).wait_for()
    backup = page.locator("#backup-codes li").first.inner_text()
    visitor.need_accessible()
    page.get_by_role("link", name="I have kept them").click()
    page.wait_for_url("**/admin/")
    visitor.context.clear_cookies()
    page = visitor.open("/admin/tradingbot/order/")
    sign_in_by_form(page, "risk-person", PASSWORD)
    page.get_by_text("a backup code").wait_for()
    visitor.need_accessible()
    page.locator("#id_code").fill(backup)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/admin/tradingbot/order/")


def test_who_failed_five_times_is_told_until_when(visit):
    user_of("viewer")
    visitor = visit()
    visitor.expect(429)
    page = visitor.open("/admin/")
    for _ in range(5):
        sign_in_by_form(page, "viewer-person", "not it")
        page.wait_for_load_state()
    page.get_by_role("alert").get_by_text("UTC").wait_for()
    visitor.need_accessible()


def test_a_notification_is_acknowledged_with_a_note(sign_in, house):
    house.call("POST", "breakers/account:main/trip", {"reason": "look"}, house.risk).raise_for_status()
    visitor = sign_in("risk")
    page = visitor.open("/admin/tradingbot/notification/")
    visitor.need_accessible()
    page.get_by_role("link", name="TRIPPED account:main: look").first.click()
    page.get_by_text("Who may lift it").first.wait_for()
    visitor.need_accessible()
    page.get_by_role("link", name="Acknowledge").click()
    page.get_by_label("Reason").fill("looking into it")
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("Acknowledged: it is not sent again.").wait_for()
    assert Notification.objects.get(kind="trip").acknowledged_by == "admin:risk-person"
