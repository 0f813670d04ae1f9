"""Each role sees its own: the pages of the side bar, the kill switch, the acts; the rest answers 403."""

from __future__ import annotations

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Breaker
from backend.tradingbot.services import breakers
from tests.browser.browsing import PHONE
from tests.browser.people import ROLES

KILL = "/admin/tradingbot/killswitchrun/pull/"
KEYS = "/admin/tradingbot/apikey/"
PEOPLE = "/admin/auth/user/"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_only_its_own(sign_in, house, role):
    breakers.trip("account:main", actor="test", reason="look", clock=SYSTEM_CLOCK)
    visitor = sign_in(role)
    page = visitor.open("/admin/")
    risk, admin = role == "risk", role == "admin"
    assert page.locator("#kill-link").count() == risk
    assert page.locator(f"a[href='{KEYS}']").count() >= admin
    assert (page.locator(f"a[href='{PEOPLE}']").count() > 0) is admin
    assert page.locator("#cr-stops .stop", has_text="breaker open").get_by_role("link").count() == risk
    for path, allowed in ((KILL, risk), (KEYS, admin), (PEOPLE, admin)):
        visitor.open(path, status=200 if allowed else 403)
    row = Breaker.objects.get(scope="account:main")
    page = visitor.open(f"/admin/tradingbot/breaker/{row.pk}/change/")
    acts = page.locator("a[href$='/reset/'], a[href$='/trip/']").count()
    assert (acts > 0) is risk


PAGES = ("order", "execution", "position", "breaker", "tradingstate", "limitversion", "journalentry", "break", "feed",
         "strategy", "account", "killswitchrun", "notification", "datastop")  # fmt: skip


@pytest.mark.parametrize("look", [{"viewport": PHONE}, {"color_scheme": "dark"}], ids=["phone", "dark"])
def test_the_lists_fit_a_phone_and_the_dark_without_a_serious_fault(sign_in, house, look):
    house.order("big", qty="5000")
    visitor = sign_in("risk", **look)
    for model in PAGES:
        visitor.open(f"/admin/tradingbot/{model}/")
        visitor.need_accessible()
        visitor.need_no_sideways_scroll()
