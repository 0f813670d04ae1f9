"""Two people, each at a browser of their own, resolve a break; the day's report and its signature follow."""

from __future__ import annotations

import pytest

from backend.tradingbot.selectors.blocks import open_blocks
from tests.browser.browsing import PHONE
from tests.integration.recon_house import MONDAY, House


@pytest.fixture
def wired() -> House:
    """A day whose books differ by a wire of 250 dollars that nothing tells of."""
    house = House(policy={"second_signer": True})
    house.trade(MONDAY)
    house.their_cash -= 250
    house.close(MONDAY)
    return house


def act(page, name, button, reason):
    """Follow the act's link at the top of the page, say why, and send it."""
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name=button, exact=True).click()


def test_a_break_is_resolved_by_two_people_and_the_account_is_free(sign_in, wired):
    ann, ben = sign_in("risk", "ann"), sign_in("risk", "ben", viewport=PHONE)
    page = ann.open("/admin/tradingbot/break/")
    page.get_by_role("link", name="2026-01-05").first.click()
    page.get_by_role("heading", name="Side by side").wait_for()
    ann.need_accessible()
    act(page, "Write off", "Write off", "a wire fee, as agreed with the custodian")
    page.get_by_text("so a second person has to close it").wait_for()
    ann.expect(422)
    act(page, "Close", "Close", "I agree with myself")
    page.get_by_text("has resolved it and cannot close it").wait_for()
    assert open_blocks(wired.account, wired.clock.now())

    other = ben.open("/admin/tradingbot/break/?standing=second")
    ben.need_no_sideways_scroll()
    other.get_by_role("link", name="2026-01-05").first.click()
    other.get_by_text("It waits for a second person").wait_for()
    ben.need_accessible()
    ben.need_no_sideways_scroll()
    act(other, "Close", "Close", "seen the custodian's letter")
    other.get_by_text("Closed by admin:ben").wait_for()
    assert open_blocks(wired.account, wired.clock.now()) == []


def test_the_report_of_a_day_is_read_in_the_dark_and_on_a_phone_and_signed_by_two(sign_in, wired):
    ann, ben = sign_in("risk", "ann"), sign_in("risk", "ben", viewport=PHONE)
    ann.dark()
    for visitor in (ann, ben):
        page = visitor.open("/admin/tradingbot/reconrun/")
        page.get_by_role("link", name="2026-01-05").first.click()
        page.get_by_text("The next session is blocked").wait_for()
        page.get_by_role("img", name="P&L waterfall").wait_for()
        visitor.need_accessible()
        visitor.need_no_sideways_scroll()
    page = ann.page
    with page.expect_download() as kept:
        page.get_by_role("link", name="Download the report").click()
    assert kept.value.suggested_filename == "recon-main-2026-01-05.html"
    for visitor, answer in ((ann, "Signed; a second person has to sign."), (ben, "It is affirmed.")):
        visitor.page.get_by_role("link", name="The figures to sign").click()
        visitor.page.get_by_role("link", name="Sign", exact=True).click()
        visitor.need_accessible()
        visitor.page.get_by_role("button", name="Sign these figures").click()
        visitor.page.get_by_text(answer).wait_for()
