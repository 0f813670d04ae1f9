"""Limits by people: tightening acts at once, loosening waits for a second person, and all of it is on the record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError, NotAllowedError
from backend.tradingbot.models import JournalEntry, LimitVersion
from backend.tradingbot.risk.limit_profiles import DEFAULT
from backend.tradingbot.selectors.limits import limits_in_force
from backend.tradingbot.services import journal
from backend.tradingbot.services.accounts import change_account, create_account
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.limits import decide_limit, set_limit

pytestmark = pytest.mark.django_db(transaction=True)
SCOPE, KIND = "account:one", "order_qty_max"


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 1, 5, 15, 0, tzinfo=UTC))


@pytest.fixture
def account(clock):
    return create_account(code="one", cash=Decimal(1_000), broker_account="PA-ONE", symbols=["AAPL"], clock=clock)


def put(value, clock, scope=SCOPE, kind=KIND, actor="ann", reason="because", **more):
    exact = None if value is None else Decimal(value)
    return set_limit(scope, kind, exact, actor=actor, reason=reason, clock=clock, **more)


def in_force(clock, scope=SCOPE, kind=KIND):
    found = {(row.scope, row.kind): row.value for row in limits_in_force([scope], clock.now())}
    return found.get((scope, kind))


def test_a_new_account_starts_with_the_limits_of_its_profile(account, clock):
    rows = limits_in_force([SCOPE], clock.now())
    assert {row.kind: row.value for row in rows} == dict(DEFAULT.values)
    assert {(row.version, row.state, row.reason) for row in rows} == {(1, "in_force", "profile default")}


def test_an_account_may_start_with_limits_of_its_own(clock):
    own = {"order_qty_max": Decimal(3), "order_notional_max": None, "position_short_max": Decimal(7)}
    create_account(code="one", cash=None, broker_account="PA", limits=own, profile="small_pilot", clock=clock)
    assert (in_force(clock), in_force(clock, kind="order_notional_max")) == (3, None)
    assert in_force(clock, kind="position_short_max") == 7
    assert in_force(clock, kind="stress_loss_max") == 4000


def test_tightening_acts_at_once_and_loosening_waits(account, clock):
    assert put("500", clock).state == "in_force"
    assert in_force(clock) == 500
    row = put("501", clock)
    assert (row.state, row.loosens, row.version, row.previous.version) == ("waiting", True, 3, 2)
    assert in_force(clock) == 500


def test_a_second_person_brings_a_loosening_into_force_and_the_first_may_not(account, clock):
    row = put("20000", clock, actor="ann")
    with pytest.raises(NotAllowedError) as refused:
        decide_limit(row.pk, approve=True, actor="ann", reason="me too", clock=clock)
    assert refused.value.code == "maker_is_checker"
    done = decide_limit(row.pk, approve=True, actor="bob", reason="seen", clock=clock)
    assert (done.state, done.decided_by, in_force(clock)) == ("in_force", "bob", 20_000)
    with pytest.raises(ConflictError) as again:
        decide_limit(row.pk, approve=True, actor="bob", reason="seen", clock=clock)
    assert again.value.code == "limit_not_waiting"


def test_a_refused_or_withdrawn_loosening_never_comes_into_force(account, clock):
    one, other = put("20000", clock), put("30000", clock, kind="order_notional_max")
    assert decide_limit(one.pk, approve=False, actor="bob", reason="no", clock=clock).state == "refused"
    with pytest.raises(ConflictError):
        decide_limit(one.pk, approve=True, actor="bob", reason="yes", clock=clock)
    assert other.state == "in_force"  # 30,000 is below the profile's 250,000
    third = put("40000", clock)
    assert decide_limit(third.pk, approve=False, actor="ann", reason="mine", clock=clock).decided_by != "ann"


def test_a_later_version_overtakes_a_loosening_that_waits(account, clock):
    waiting = put("20000", clock)
    put("100", clock)
    waiting.refresh_from_db()
    assert (waiting.state, waiting.decision_reason) == ("refused", "followed by version 3")
    with pytest.raises(ConflictError):
        decide_limit(waiting.pk, approve=True, actor="bob", reason="late", clock=clock)
    assert in_force(clock) == 100


def test_the_database_keeps_maker_and_checker_apart_and_versions_unchanged(account, clock):
    row = put("20000", clock)
    with pytest.raises(IntegrityError), transaction.atomic():
        LimitVersion.objects.filter(pk=row.pk).update(state="in_force", decided_by=row.set_by)
    for statement in ("UPDATE tradingbot_limitversion SET value = 1", "DELETE FROM tradingbot_limitversion"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


def test_one_person_alone_may_loosen_within_the_setting_and_not_creep(account, clock, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"loosening_alone_pct": 10.0})
    assert put("11000", clock).state == "in_force"
    assert put("11001", clock).state == "waiting"  # against the 10,000 of this day, not against the 11,000
    clock.advance(86_401)
    assert put("12100", clock).state == "in_force"
    assert put("12100.1", clock).state == "waiting"


def test_tightening_and_loosening_again_does_not_make_room_for_one_person(account, clock, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"loosening_alone_pct": 10.0})
    put("1000", clock)
    assert put("10000", clock).state == "waiting"
    assert put("1100", clock).state == "in_force"


def test_a_limit_may_start_later_and_the_newest_word_wins(account, clock):
    later = clock.now() + timedelta(hours=2)
    assert put("500", clock, effective_from=later).state == "in_force"
    assert in_force(clock) == 10_000
    clock.advance(7_200)
    assert in_force(clock) == 500
    with pytest.raises(InvalidInputError, match="past"):
        put("400", clock, effective_from=clock.now() - timedelta(hours=1))


def test_undoing_a_tightening_that_has_not_begun_is_a_loosening(account, clock):
    put("500", clock, effective_from=clock.now() + timedelta(hours=2))
    assert put("10000", clock).state == "waiting"


def test_taking_a_required_limit_away_stops_trading_and_setting_it_again_needs_two(account, clock):
    assert put(None, clock).state == "in_force"
    assert in_force(clock) is None
    assert put("1", clock).state == "waiting"


def test_a_limit_above_the_account_is_set_at_once_and_lifted_by_two(account, clock):
    assert put("1000", clock, scope="firm", kind="gross_exposure_max").state == "in_force"
    assert put(None, clock, scope="firm", kind="gross_exposure_max").state == "waiting"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "mystery"}, "kind"),
        ({"scope": "desk:x"}, "scope"),
        ({"reason": " "}, "reason"),
        ({"value": "-1"}, "value"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field_and_writes_nothing(account, clock, change, field):
    before = LimitVersion.objects.count()
    with pytest.raises(InvalidInputError) as refused:
        put(change.pop("value", "1"), clock, **change)
    assert refused.value.errors[0].field == field
    assert LimitVersion.objects.count() == before


def test_the_same_value_again_is_no_new_version(account, clock):
    with pytest.raises(ConflictError) as refused:
        put("10000", clock)
    assert refused.value.code == "limit_unchanged"


def test_every_step_is_in_the_firms_journal(account, clock):
    row = put("20000", clock, reason="more room")
    decide_limit(row.pk, approve=True, actor="bob", reason="agreed", clock=clock)
    entries = JournalEntry.objects.filter(subject=f"limit:{SCOPE}").order_by("seq")
    told = [(e.kind, e.actor, e.data["before"], e.data["after"], e.data["reason"]) for e in entries]
    assert told == [
        ("limit_set", "ann", "10000", "20000", "more room"),
        ("limit_approved", "bob", "10000", "20000", "agreed"),
    ]
    assert journal.verify("firm").intact


def test_a_profile_may_be_changed_and_asks_for_its_limits_at_once(account, clock):
    change_account("one", {"profile": "small_pilot"}, actor="ann", reason="pilot", clock=clock)
    with pytest.raises(InvalidInputError, match="profile"):
        change_account("one", {"profile": "reckless"}, actor="ann", reason="pilot", clock=clock)


def test_limits_over_rest(gateway):
    ask = {"scope": "account:main", "kind": "order_qty_max", "value": "50", "reason": "less"}
    assert gateway.call("POST", "limits", ask).json()["code"] == "role_not_allowed"
    tightened = gateway.call("POST", "limits", ask, token=gateway.risk)
    assert (tightened.status_code, tightened.json()["state"], tightened.json()["before"]) == (201, "in_force", "10000")
    loosened = gateway.call("POST", "limits", {**ask, "value": "60"}, token=gateway.risk)
    assert (loosened.status_code, loosened.json()["state"]) == (202, "waiting")
    path = f"limits/{loosened.json()['id']}/approve"
    own = gateway.call("POST", path, {"reason": "ok"}, token=gateway.risk)
    assert (own.status_code, own.json()["code"]) == (403, "maker_is_checker")
    _, second = create_key(name="second", role="risk")
    approved = gateway.call("POST", path, {"reason": "ok"}, token=second)
    assert (approved.status_code, approved.json()["decided_by"]) == (200, "key:second")

    listed = gateway.call("GET", "limits?scope=account:main").json()
    now = {row["kind"]: row["value"] for row in listed["limits"]}
    assert (now["order_qty_max"], listed["waiting"]) == ("60", [])
    assert set(listed["profiles"]) == {"default", "small_pilot"}
    history = gateway.call("GET", "limits/history?scope=account:main&kind=order_qty_max").json()["versions"]
    assert [(row["before"], row["value"]) for row in history] == [("50", "60"), ("10000", "50"), (None, "10000")]
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat().replace("+00:00", "Z")
    differences = gateway.call("GET", f"limits/differences?since={since}").json()["changes"]
    assert {"scope": "account:main", "kind": "order_qty_max", "before": None, "after": "60"} in differences


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"value": 5}, "value"),
        ({"value": "NaN"}, "value"),
        ({"kind": None}, "scope"),
        ({"odd": 1}, "odd"),
        ({"effective_from": "soon"}, "effective_from"),
        ({"reason": ""}, "reason"),
    ],
)
def test_a_limit_over_rest_that_makes_no_sense_names_its_field(gateway, change, field):
    ask = {"scope": "account:main", "kind": "order_qty_max", "value": "50", "reason": "less", **change}
    answer = gateway.call("POST", "limits", ask, token=gateway.risk)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_a_limit_acts_on_the_very_next_order(gateway, broker):
    gateway.tick()
    assert gateway.order("a").status_code == 201
    ask = {"scope": "strategy:mean/symbol:AAPL", "kind": "order_qty_max", "value": "4", "reason": "less"}
    assert gateway.call("POST", "limits", ask, token=gateway.risk).status_code == 201
    denied = gateway.order("b")
    assert (denied.status_code, denied.json()["code"]) == (422, "order_denied")
    assert "order_qty_max of strategy:mean/symbol:AAPL" in denied.json()["detail"]
    assert gateway.order("c", qty="4").status_code == 201
