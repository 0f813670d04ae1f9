"""Limits and disabled patterns in the admin: acts with a reason, by those who may, by two people where it loosens."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from backend.tradingbot.models import DisabledPattern, LimitVersion
from backend.tradingbot.services.accounts import create_account, create_strategy

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def row():
    create_account(code="main", cash=Decimal(10_000), broker_account="PA-1", symbols=["AAPL"])
    return LimitVersion.objects.get(scope="account:main", kind="order_qty_max")


def sign_in(client, name, *permissions):
    user = User.objects.create_user(name, is_staff=True)
    codes = ["view_limitversion", "view_disabledpattern", *permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=codes, content_type__app_label="tradingbot"))
    client.force_login(user)
    return client


def act(client, row, name, **entered):
    model = row._meta.model_name
    return client.post(reverse(f"admin:tradingbot_{model}_{name}", args=[row.pk]), entered)


def newest():
    return LimitVersion.objects.filter(scope="account:main", kind="order_qty_max").order_by("-version").first()


def test_a_person_tightens_and_a_second_one_approves_a_loosening(client, row):
    sign_in(client, "ann", "set_limit")
    assert act(client, row, "new_value", value="50", reason="less").status_code == 302
    assert (newest().value, newest().state, newest().set_by) == (50, "in_force", "admin:ann")
    assert act(client, row, "new_value", value="60", reason="more").status_code == 302
    waiting = newest()
    assert waiting.state == "waiting"
    assert act(client, waiting, "approve", reason="me").status_code == 422
    sign_in(client, "bob", "set_limit")
    assert act(client, waiting, "approve", reason="seen").status_code == 302
    assert (newest().state, newest().decided_by) == ("in_force", "admin:bob")


@pytest.mark.parametrize(
    "entered", [{"value": "much", "reason": "x"}, {"value": "5", "reason": ""}, {"value": "-1", "reason": "x"}]
)
def test_what_makes_no_sense_is_shown_and_changes_nothing(client, row, entered):
    sign_in(client, "ann", "set_limit")
    assert act(client, row, "new_value", **entered).status_code == 422
    assert newest().pk == row.pk


def test_without_the_right_nothing_can_be_set(client, row):
    sign_in(client, "eve")
    assert act(client, row, "new_value", value="5", reason="x").status_code == 403
    assert newest().pk == row.pk


def test_a_disabled_pattern_is_enabled_by_name(client, row):
    from backend.tradingbot.models import Account

    pattern = DisabledPattern.objects.create(
        account=Account.objects.get(), strategy=create_strategy(code="mean"), symbol="AAPL", side="buy", qty=5,
        disabled_at=datetime.now(UTC), why="too often",
    )  # fmt: skip
    sign_in(client, "ann", "enable_pattern")
    assert act(client, pattern, "enable", reason="mended").status_code == 302
    pattern.refresh_from_db()
    assert (pattern.enabled_by, pattern.reason) == ("admin:ann", "mended")
