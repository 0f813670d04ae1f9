"""The door: signing in by the form, and what the browser is told when that fails."""

from __future__ import annotations

from tests.browser.people import PASSWORD, user_of


def test_a_person_signs_in_and_reaches_the_page_that_was_asked_for(visit):
    user_of("viewer")
    visitor = visit()
    page = visitor.open("/admin/tradingbot/order/")
    assert "/admin/login/" in page.url
    visitor.need_accessible()
    page.get_by_label("Username").fill("viewer-person")
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/tradingbot/order/")


def test_a_wrong_password_is_refused_in_words(visit):
    user_of("viewer")
    visitor = visit()
    page = visitor.open("/admin/")
    page.get_by_label("Username").fill("viewer-person")
    page.locator("input[name=password]").fill("not it")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("Please enter the correct").wait_for()
    assert "/admin/login/" in page.url
