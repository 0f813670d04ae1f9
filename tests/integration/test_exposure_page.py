"""The exposure page as the server answers it: who may see it, what it says without the store, and how figures read."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from backend.tradingbot.admin.exposure import amount, use
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import Account

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def address(gateway):
    gateway.tick()
    assert gateway.order("rest", type="limit", limit_price="90.00").status_code == 201
    return reverse("admin:tradingbot_account_exposure", args=[Account.objects.get().pk])


def signed_in(client, *rights):
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client.force_login(user)
    return client


def test_the_accounts_row_links_to_it_and_who_may_see_accounts_may_see_it(client, address):
    signed_in(client, "view_account")
    assert f'href="{address}"' in client.get(reverse("admin:tradingbot_account_changelist")).text
    page = client.get(address).text
    assert "Used of the account&#x27;s limits" in page or "Used of the account's limits" in page
    assert page.count("<progress") >= 7
    assert client.get(address.replace(str(Account.objects.get().pk), "999999")).status_code == 404
    assert client.get(address.replace(str(Account.objects.get().pk), "x")).status_code == 404


def test_without_the_right_to_see_accounts_it_is_refused(client, address):
    assert signed_in(client, "view_order").get(address).status_code == 403


def test_without_the_store_it_shows_the_exposure_and_says_what_it_cannot_tell(client, address, monkeypatch):
    def silent(*about):
        raise UnavailableError("the market data store does not answer")

    monkeypatch.setattr(HotState, "counted", silent)
    page = signed_in(client, "view_account").get(address)
    assert page.status_code == 200
    assert "cannot be told: the market data store does not answer" in page.text
    assert "Gross value" in page.text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"value": "80", "limit": "100", "used": "0.8"}, ("80", "100", "80.0 %, near the limit", "0.8", "near")),
        ({"value": "79", "limit": "100", "used": "0.79"}, ("79", "100", "79.0 %", "0.79", "fine")),
        ({"value": "101", "limit": "100", "used": "1.01"}, ("101", "100", "101.0 %, over the limit", "1", "over")),
        ({"value": "1", "limit": "0", "used": None}, ("1", "0", "over", "1", "over")),
        ({"value": "5", "limit": None, "used": None}, ("5", "no limit", "", None, "free")),
        ({"value": "9", "low": "-9", "high": "4", "limit": "10", "used": "0.9"},
         ("-9 to 4", "10", "90.0 %, near the limit", "0.9", "near")),
    ],
)  # fmt: skip
def test_a_figure_stands_beside_its_limit_and_a_word_beside_the_colour(said, shown):
    found = use("x", said)
    assert (found.figure, found.limit, found.used, found.bar, found.state) == shown


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("1234567.891", "1,234,567.89"),
        ("-1000", "-1,000"),
        ("0.00000", "0"),
        ("0.012345", "0.01234"),
        (None, "not known"),
    ],
)
def test_amounts_read_well(text, reads):
    assert amount(text) == reads
