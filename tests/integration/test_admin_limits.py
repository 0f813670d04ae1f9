"""Limits and disabled patterns in the admin: acts with a reason, by those who may, by two people where it loosens."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from backend.tradingbot.models import DisabledPattern, LimitVersion
from backend.tradingbot.selectors.limit_sets import direction
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


def test_a_limits_page_tells_every_version_with_what_it_changed(client, row):
    sign_in(client, "ann", "set_limit")
    act(client, row, "new_value", value="50", reason="a calmer day")
    act(client, row, "new_value", value="60000", reason="more again")
    page = client.get(reverse("admin:tradingbot_limitversion_change", args=[row.pk]))
    told = [
        (line["before"], line["value"], line["change"], line["since"] == "the start")
        for line in page.context["history"]
    ]
    assert told == [
        ("50", "60,000", "would loosen", False),
        (told[2][1], "50", "tightened", False),
        ("-", told[2][1], "-", True),
    ]
    assert "a calmer day" in page.text and "1, this one" in page.text


def test_what_changed_between_two_moments_is_shown_with_who_and_which_way(client, row):
    sign_in(client, "ann", "set_limit")
    act(client, row, "new_value", value="50", reason="a calmer day")
    address = reverse("admin:tradingbot_limitversion_differences")
    page = client.get(address, {"since": "2020-01-01 00:00"})
    lines = {(line["scope"], line["kind"].name): line for line in page.context["differences"]}
    assert lines and all((line["before"], line["percent"]) == ("no limit", "-") for line in lines.values())
    assert lines["account:main", "order_qty_max"]["direction"] == "looser"  # required: without it no order passes
    since = LimitVersion.objects.order_by("set_at").first().set_at
    between = since + (newest().set_at - since) / 2
    page = client.get(address, {"since": between.isoformat()})
    (line,) = page.context["differences"]
    told = (line["kind"].name, line["after"], line["direction"], line["version"].set_by)
    assert told == ("order_qty_max", "50", "tighter", "admin:ann")
    assert "1 limit differs" in page.text and "a calmer day" in page.text
    before = client.get(address, {"since": "2020-01-01", "until": "2020-01-02"})
    assert before.context["differences"] == [] and "No limit in force differs" in before.text
    assert client.get(address, {"since": "tomorrow"}).status_code == 422
    assert client.get(address, {"since": "2030-01-01", "until": "2029-01-01"}).status_code == 422
    client.force_login(User.objects.create_user("eve", is_staff=True))
    assert client.get(address).status_code == 403


@pytest.mark.parametrize(
    ("kind", "scope", "before", "after", "required", "expected"),
    [
        ("order_qty_max", "firm", 10, 5, False, "tighter"),
        ("order_qty_max", "firm", 5, 10, False, "looser"),
        ("order_qty_max", "firm", 5, 5, False, "the same"),
        ("duplicate_window_seconds", "firm", 5, 10, False, "tighter"),
        ("order_qty_max", "firm", None, 1, False, "tighter"),
        ("order_qty_max", "firm", 1, None, False, "looser"),
        ("order_qty_max", "account:main", 1, None, True, "tighter"),
        ("order_qty_max", "account:main", None, 1, True, "looser"),
        ("position_short_max", "account:main", None, 1, False, "looser"),  # without it nothing is sold short
    ],
)
def test_which_way_a_limit_went_depends_on_its_kind_and_on_what_its_absence_means(
    kind, scope, before, after, required, expected
):
    assert direction(kind, scope, before, after, required) == expected


def test_a_second_person_is_shown_the_value_in_force_and_not_one_that_was_refused(client, row):
    sign_in(client, "ann", "set_limit")
    act(client, row, "new_value", value="50", reason="less")
    act(client, row, "new_value", value="60000", reason="much more")
    act(client, row, "new_value", value="70", reason="a little more, after all")
    page = client.get(reverse("admin:tradingbot_limitversion_approve", args=[newest().pk]))
    facts = dict(page.context["facts"])
    assert (facts["Before"], facts["Value"]) == ("50", "70")
    listed = client.get(reverse("admin:tradingbot_limitversion_changelist")).context["cl"].result_list
    (one,) = [each for each in listed if each.pk == newest().pk]
    assert one.followed == 50


def compare(client, **asked):
    page = client.get(reverse("admin:tradingbot_limitversion_compare"), asked)
    shown = page.context.get("changes") or []
    return page, {kind.name: tuple(line.values()) for kind, line in shown}


def test_two_profiles_are_laid_side_by_side_with_percent_and_direction(client, row):
    sign_in(client, "ann")
    page, lines = compare(client, first="profile:default", second="profile:small_pilot")
    assert page.status_code == 200
    assert lines["order_qty_max"] == ("10,000", "100", "-99.0 %", "tighter")
    assert lines["duplicate_window_seconds"] == ("5", "60", "+1,100.0 %", "tighter")
    assert lines["repeat_window_seconds"] == ("300", "600", "+100.0 %", "tighter")
    assert lines["stress_loss_max"] == ("no limit", "4,000", "-", "tighter")
    _, back = compare(client, first="profile:small_pilot", second="profile:default")
    assert back["order_qty_max"] == ("100", "10,000", "+9,900.0 %", "looser")
    assert back["stress_loss_max"] == ("4,000", "no limit", "-", "looser")
    assert back.keys() == lines.keys()
    page, same = compare(client, first="profile:default", second="profile:default")
    assert same == {} and "Every limit is the same" in page.text


def test_a_scope_is_laid_beside_itself_at_another_moment_and_beside_its_profile(client, row):
    sign_in(client, "ann", "set_limit")
    between = datetime.now(UTC)
    act(client, row, "new_value", value="50", reason="a calmer day")
    act(client, row, "new_value", value="60000", reason="waits, so it is nowhere in force")
    scope = "account:main"
    page, lines = compare(client, first=scope, first_at=between.isoformat(), second=scope)
    assert lines == {"order_qty_max": (f"{row.value:,.0f}", "50", page.context["changes"][0][1]["percent"], "tighter")}
    _, lines = compare(client, first=scope, second="profile:default")
    assert lines["order_qty_max"][::3] == ("50", "looser")
    LimitVersion.objects.create(
        scope=scope, kind="gross_exposure_max", version=2, value=None, effective_from=datetime.now(UTC),
        state="in_force", loosens=False, set_by="x", reason="none: nothing may trade", set_at=datetime.now(UTC),
        build_id="b",
    )  # fmt: skip
    _, lines = compare(client, first=scope, first_at=between.isoformat(), second=scope)
    assert lines["gross_exposure_max"][1:] == ("no limit", "-", "tighter")  # required: without it no order passes


@pytest.mark.parametrize(
    "asked",
    [
        {"first": "account:none", "second": "profile:default"},
        {"first": "profile:default", "first_at": "2026-01-05 10:00", "second": "profile:default"},
        {"first": "profile:default", "second": "account:main", "second_at": "tomorrow"},
    ],
)
def test_what_cannot_be_compared_is_a_422_that_says_so(client, row, asked):
    sign_in(client, "ann")
    page, lines = compare(client, **asked)
    assert (page.status_code, lines) == (422, {})
    client.force_login(User.objects.create_user("eve", is_staff=True))
    assert compare(client, first="profile:default", second="profile:small_pilot")[0].status_code == 403


def test_a_version_is_held_against_the_value_that_it_followed_not_against_a_refused_one(client, row):
    sign_in(client, "ann", "set_limit")
    act(client, row, "new_value", value="50", reason="less")
    act(client, row, "new_value", value="60000", reason="much more")
    act(client, row, "new_value", value="40", reason="less again")
    page = client.get(reverse("admin:tradingbot_limitversion_change", args=[row.pk]))
    told = [(line["before"], line["value"], line["percent"], line["row"].state) for line in page.context["history"]]
    assert told[0] == ("50", "40", "-20.0 %", "in_force")
    assert told[1] == ("50", "60,000", "+119,900.0 %", "refused")
    assert "tightened, -20.0 %" in page.text


def test_of_the_versions_of_one_limit_only_one_says_that_it_is_in_force(client, row):
    sign_in(client, "ann", "set_limit")
    act(client, row, "new_value", value="50", reason="less")
    act(client, row, "new_value", value="60000", reason="much more")  # waits for a second person
    act(client, row, "new_value", value="40", reason="less again")
    page = client.get(reverse("admin:tradingbot_limitversion_change", args=[row.pk]))
    told = [re.sub("<[^>]*>", "", line["state"]).strip() for line in page.context["history"]]
    assert told == ["in force", "refused", "replaced", "replaced"]
    lines = client.get(reverse("admin:tradingbot_limitversion_changelist"), {"kind__exact": row.kind}).text
    assert sorted(re.findall(r">\s*(in force|replaced)\s*<", lines)) == ["in force", "replaced", "replaced"]


def test_a_version_of_tomorrow_is_planned_and_replaces_nothing_yet(client, row):
    LimitVersion.objects.create(
        scope=row.scope,
        kind=row.kind,
        version=2,
        value=5,
        effective_from=datetime.now(UTC) + timedelta(days=1),
        state="in_force",
        loosens=False,
        set_by="x",
        reason="from tomorrow on",
        set_at=datetime.now(UTC),
        build_id="b",
    )
    sign_in(client, "ann")
    page = client.get(reverse("admin:tradingbot_limitversion_change", args=[row.pk]))
    told = [re.sub("<[^>]*>", "", line["state"]).strip() for line in page.context["history"]]
    assert told == ["planned", "in force"]
