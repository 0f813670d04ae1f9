"""When a key was last used is known within seconds, without a write to the database for any request."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIRequestFactory

from backend.tradingbot.api.authentication import ApiKeyAuthentication
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import ApiKey
from backend.tradingbot.services import key_use
from backend.tradingbot.services.keys import create_key

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_noted():
    hot_state().take_key_uses()
    key_use.NOTED.forget()
    yield
    key_use.NOTED.forget()


@pytest.fixture
def key():
    return create_key(name="bot", role="risk")[0]


def test_a_use_is_written_by_the_flush_and_never_goes_back(key):
    clock = FixedClock()
    key_use.note(key, clock=clock)
    assert ApiKey.objects.get().last_used_at is None
    assert (key_use.flush(), key_use.flush()) == (1, 0)
    assert ApiKey.objects.get().last_used_at == clock.now()
    hot_state().note_key_use(key.pk, (clock.now() - timedelta(hours=1)).isoformat())
    assert key_use.flush() == 0
    assert ApiKey.objects.get().last_used_at == clock.now()


def test_a_process_notes_a_key_once_in_ten_seconds(key):
    clock = FixedClock()
    for _ in range(5):
        key_use.note(key, clock=clock)
        clock.advance(4)
    first = clock.now() - timedelta(seconds=20)
    assert hot_state().take_key_uses() == {key.pk: (first + timedelta(seconds=12)).isoformat()}


def test_a_request_makes_one_read_and_no_write():
    _, token = create_key(name="desk", role="risk")
    request = APIRequestFactory().get("/", headers={"Authorization": f"Bearer {token}"})
    with CaptureQueriesContext(
        connection,
    ) as seen:
        ApiKeyAuthentication().authenticate(request)
    assert [query["sql"].split()[0] for query in seen.captured_queries] == ["SELECT"]
    assert len(hot_state().take_key_uses()) == 1


def test_a_store_that_is_down_refuses_nobody_and_is_not_asked_again_at_once(key, settings, monkeypatch):
    asked = []

    class Down:
        def note_key_use(self, *_):
            asked.append(1)
            raise key_use.UnavailableError("down", code="x", remedy="y")

    monkeypatch.setattr(key_use, "hot_state", Down)
    clock = FixedClock()
    for _ in range(7):
        key_use.note(key, clock=clock)
        clock.advance(11)
    assert len(asked) == 2
