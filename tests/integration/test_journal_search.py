"""Searching the journal: what narrows, what bounds the look, and what the page says of the chains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.models import JournalEntry
from backend.tradingbot.selectors import journal_search
from backend.tradingbot.selectors.journal_search import Wanted, search
from backend.tradingbot.services import breakers, journal_proof
from backend.tradingbot.services.accounts import create_account

pytestmark = pytest.mark.django_db
PAGE = "/admin/tradingbot/journalentry/search/"


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 3, 2, 15, 0, tzinfo=UTC))


@pytest.fixture
def told(clock):
    """Trips and resets of two accounts, a minute apart."""
    for code in ("main", "other"):
        create_account(code=code, cash=Decimal(1000), broker_account=f"search-{code}", symbols=["AAPL"], clock=clock)
    clock.advance(60)
    for person, scope in [("admin:ann", "account:main"), ("key:bot", "account:other")]:
        breakers.trip(scope, actor=person, reason="look", clock=clock)
        clock.advance(60)
        breakers.reset(scope, actor=person, reason="fine", force=True, clock=clock)
        clock.advance(60)


def kinds(**wanted):
    return [(entry.kind, entry.subject) for entry in search(Wanted(**wanted)).entries]


def test_each_field_narrows_and_all_of_them_together(told, clock):
    start = clock.now() - timedelta(minutes=4)
    assert kinds(subject="account:main", since=start) == [
        ("breaker_reset", "account:main"), ("breaker_trip", "account:main"),
    ]  # fmt: skip
    assert kinds(actor="key:bot") == [("breaker_reset", "account:other"), ("breaker_trip", "account:other")]
    assert kinds(kind="breaker_trip", actor="admin:ann") == [("breaker_trip", "account:main")]
    assert kinds(chain="account:main", kind="breaker_trip") == []
    assert kinds(kind="breaker_trip", since=start + timedelta(minutes=2)) == [("breaker_trip", "account:other")]
    assert kinds(kind="breaker_trip", until=start + timedelta(minutes=2)) == [("breaker_trip", "account:main")]


def test_more_than_a_page_leads_on_without_a_gap(told, monkeypatch):
    monkeypatch.setattr(journal_search, "MOST", 3)
    first = search(Wanted(chain="firm"))
    rest = search(Wanted(chain="firm", before=first.entries[-1].pk))
    seen = [entry.seq for entry in [*first.entries, *rest.entries]]
    assert (first.more, len(first.entries)) == (True, 3)
    newest = JournalEntry.objects.filter(chain="firm").order_by("-seq").values_list("seq", flat=True)
    assert seen == list(newest[: len(seen)])


def test_a_look_that_takes_too_long_is_given_up_and_says_so(told, monkeypatch, admin_client):
    monkeypatch.setattr(journal_search, "SECONDS", 0.001)
    monkeypatch.setattr(journal_search.JournalEntry.objects, "filter", lambda **_: Slow())
    assert search(Wanted(kind="x")).gave_up is True
    assert "given up" in admin_client.get(PAGE, {"kind": "x"}).content.decode()


class Slow:
    def order_by(self, *_):
        return self

    def __getitem__(self, _):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(1)")


def test_the_page_shows_entries_the_verdicts_and_the_anchors(told, clock, admin_client):
    journal_proof.prove(clock=clock)
    page = admin_client.get(PAGE, {"chain": "firm", "kind": "breaker_trip"}).content.decode()
    assert page.count("breaker_trip</td>") == 2
    assert "No anchor was written yet." in page
    assert "never proved" in page  # a proof without the anchors clears no chain
    assert [status.chain for status in journal_search.chain_statuses("firm")] == ["firm"]


def test_an_account_may_be_named_by_its_code_and_nonsense_is_said_at_its_field(told, admin_client):
    assert "account:main" in admin_client.get(PAGE, {"chain": "main"}).content.decode()
    answer = admin_client.get(PAGE, {"since": "2026-03-02 15:00", "until": "2026-03-01 15:00"})
    assert (answer.status_code, "must be after" in answer.content.decode()) == (422, True)
    assert admin_client.get(PAGE, {"since": "yesterday"}).status_code == 422


def test_the_page_asks_a_bounded_number_of_questions(told, admin_client, django_assert_max_num_queries):
    with django_assert_max_num_queries(14):
        admin_client.get(PAGE, {"chain": "firm"})
