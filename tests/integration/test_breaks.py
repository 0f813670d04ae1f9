"""A break stands once, is journalled, and takes new figures instead of being opened again."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.models import Break, JournalEntry
from backend.tradingbot.services import journal
from backend.tradingbot.services.accounts import create_account
from backend.tradingbot.services.breaks import open_break
from backend.tradingbot.services.locks import locked_risk

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock():
    create_account(code="main", cash=Decimal(1_000), broker_account="PA-1")
    return FixedClock()


def found(clock, **changes):
    asked = {"kind": "qty", "subject": "order-1", "severity": "warning", "cause": "gateway", "symbol": "AAPL"}
    with locked_risk("account:main") as row:
        return open_break(row, **{**asked, "difference": {"qty": "1"}, **changes}, clock=clock)


def test_a_difference_opens_one_break_however_often_it_is_seen(clock):
    first = found(clock)
    clock.advance(60)
    assert found(clock).pk == first.pk
    assert Break.objects.count() == 1
    assert [entry.kind for entry in JournalEntry.objects.filter(subject="order-1")] == ["break_opened"]
    assert journal.verify("account:main").intact


def test_other_figures_change_the_standing_break_and_its_severity_only_rises(clock):
    first = found(clock, severity="critical")
    clock.advance(60)
    again = found(clock, severity="warning", difference={"qty": "3"})
    assert (again.pk, again.severity, again.difference) == (first.pk, "critical", {"qty": "3"})
    assert (again.opened_at, again.updated_at) == (first.opened_at, clock.now())
    kinds = [entry.kind for entry in JournalEntry.objects.filter(subject="order-1").order_by("seq")]
    assert kinds == ["break_opened", "break_changed"]


def test_the_database_itself_refuses_a_second_standing_break(clock):
    first = found(clock)
    first.pk = None
    with pytest.raises(IntegrityError, match="break_stands_once"), transaction.atomic():
        first.save(force_insert=True)


def test_a_closed_break_leaves_room_for_a_new_one(clock):
    first = found(clock)
    now = clock.now()
    Break.objects.filter(pk=first.pk).update(status="closed", resolved_at=now, resolved_by="ann", resolution="seen")
    assert found(clock).pk != first.pk


def test_a_break_is_not_resolved_without_a_name_and_a_reason(clock):
    first = found(clock)
    with pytest.raises(IntegrityError, match="break_resolved_by_someone"), transaction.atomic():
        Break.objects.filter(pk=first.pk).update(status="explained")


def test_the_firm_has_no_breaks(clock):
    with pytest.raises(ValueError, match="firm has none"), locked_risk("firm") as row:
        open_break(row, kind="qty", subject="x", severity="warning", cause="gateway", clock=clock)
