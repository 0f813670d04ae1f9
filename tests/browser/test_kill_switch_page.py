"""The kill switch from any page: what it will do in view, one click, the result of every order."""

from __future__ import annotations

from decimal import Decimal

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import JournalEntry, KillSwitchRun, Order, Position, TradingState
from backend.tradingbot.services import kill_switch
from tests.browser.browsing import PHONE
from tests.browser.shots import shot
from tests.integration.test_flattening import hold

RESTING = {"type": "limit", "limit_price": "90.00", "qty": "1"}


def until(run, reached, passes=40):
    """Pass after pass, as beat does."""
    for _ in range(passes):
        kill_switch.advance(run.token, clock=SYSTEM_CLOCK)
        if reached():
            return
    raise AssertionError(f"not reached in {passes} passes")


def advance_until_done(passes=40):
    for _ in range(passes):
        kill_switch.advance_all(clock=SYSTEM_CLOCK)
        if not KillSwitchRun.objects.filter(finished_at=None).exists():
            return


def test_it_is_on_every_page_and_cancels_what_is_open_with_one_click(sign_in, house, broker):
    house.order("a", **RESTING).raise_for_status()
    house.order("b", **RESTING).raise_for_status()
    visitor = sign_in("risk")
    page = visitor.open("/admin/tradingbot/order/")
    page.locator("#kill-link").click()
    preview = page.locator("#kill-preview")
    assert "cancels 2 open orders" in preview.inner_text()
    assert f"{house.prefix}-a" in preview.inner_text()
    page.locator("#kill-scope").select_option("strategy:mean")
    page.locator("#kill-preview", has_text="every new order of strategy:mean").wait_for()
    shot(page, "kill-switch")
    visitor.need_accessible()
    page.get_by_role("button", name="Halt and cancel", exact=False).first.click()
    page.locator("#cr-run").wait_for()
    assert TradingState.objects.get(scope="strategy:mean").state == "halted"
    assert "no reason given yet" in page.locator("#cr-run").inner_text()
    advance_until_done()
    page.locator("#cr-run", has_text="done: nothing is open").wait_for(timeout=8_000)
    results = page.locator("#cr-results").inner_text()
    assert results.count("canceled") == 2
    shot(page, "kill-switch-run")
    visitor.need_accessible()
    page.get_by_role("link", name="Give the reason").click()
    page.locator("input[name=reason]").fill("the model went mad")
    page.get_by_role("button", name="Keep the reason").click()
    page.locator("#cr-run", has_text="the model went mad").wait_for()
    kinds = JournalEntry.objects.filter(subject="strategy:mean", kind__startswith="kill_switch").order_by("seq")
    assert list(kinds.values_list("kind", "actor")) == [
        ("kill_switch_pulled", "admin:risk-person"),
        ("kill_switch_done", "admin:risk-person"),
        ("kill_switch_explained", "admin:risk-person"),
    ]
    assert {
        order["status"] for order in broker.ledger()["orders"] if order["client_order_id"].startswith(house.prefix)
    } == {"canceled"}
    assert house.order("c", **RESTING).status_code == 422


def test_flattening_needs_the_scope_typed_and_a_reason_and_is_followed_until_flat(sign_in, house, broker, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"flatten_slice_value": Decimal(600)})
    hold(house, broker, "bought")
    house.order("rest", **RESTING).raise_for_status()
    visitor = sign_in("risk", viewport=PHONE)
    page = visitor.open("/admin/tradingbot/killswitchrun/pull/?scope=account:main")
    visitor.need_no_sideways_scroll()
    visitor.expect(422)
    page.locator("#kill-typed").fill("account:other")
    page.get_by_role("button", name="flatten").click()
    fault = page.get_by_role("alert", name="").filter(has_text="Nothing was done")
    fault.wait_for()
    assert "does not say account:main" in fault.inner_text()
    assert "flatten reason" in fault.inner_text()
    assert not KillSwitchRun.objects.exists()
    shot(page, "kill-switch-phone")
    page.locator("#kill-typed").fill("account:main")
    page.locator("#kill-flatten-reason").fill("out of it all")
    page.get_by_role("button", name="flatten").click()
    page.locator("#cr-run", has_text="with flattening").wait_for()
    run = KillSwitchRun.objects.get()
    assert run.reason == "out of it all"
    shown, results = page.locator("#cr-run"), page.locator("#cr-results")
    until(run, lambda: Order.objects.filter(strategy__code="flatten").exists())
    page.locator("#cr-run", has_text="1 position not flat").wait_for()
    page.locator("#cr-results", has_text="main AAPL").wait_for()
    assert "left, last" in results.inner_text()
    shot(page, "kill-switch-flattening-phone")
    until(run, lambda: KillSwitchRun.objects.get().finished_at is not None)
    page.locator("#cr-run", has_text="done: nothing is open").wait_for()
    assert "0 positions not flat" in shown.inner_text()
    assert "The scope stays halted until a person re-activates it." in shown.inner_text()
    told = [line.inner_text().split() for line in results.locator("tbody tr").all()]
    flatten = [words for words in told if "flatten" in words]
    assert [words[-2:] for words in flatten] == [["filled", "6"], ["filled", "4"]]
    assert [words[-2:] for words in told if "cancel" in words] == [["canceled", "0"]]
    assert "Positions to be flattened" not in results.inner_text()
    assert Position.objects.get().qty == 0
    visitor.need_no_sideways_scroll()
    visitor.need_accessible()
    shot(page, "kill-switch-flat-phone")


def test_who_may_not_trip_neither_sees_it_nor_gets_there(sign_in, house):
    visitor = sign_in("viewer")
    page = visitor.open("/admin/")
    assert page.locator("#kill-link").count() == 0
    visitor.open("/admin/tradingbot/killswitchrun/pull/", status=403)
    visitor.open("/admin/tradingbot/killswitchrun/preview/?scope=firm", status=403)


def test_a_scope_that_does_not_exist_is_refused(sign_in, house):
    visitor = sign_in("risk")
    page = visitor.open("/admin/tradingbot/killswitchrun/pull/?scope=account:nobody")
    assert "there is no such scope" in page.locator("#kill-preview").inner_text()
    visitor.expect(422)
    page.get_by_role("button", name="Halt and cancel", exact=False).first.click()
    page.get_by_text("there is no account:nobody").wait_for()
    assert not KillSwitchRun.objects.exists()


def test_on_an_empty_installation_there_is_nothing_to_stop(sign_in, visit):
    page = sign_in("risk").open("/admin/tradingbot/killswitchrun/pull/")
    assert "there is nothing to stop" in page.locator("#kill-preview").inner_text()
    assert "no such scope" not in page.locator("#kill-preview").inner_text()
