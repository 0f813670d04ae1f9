"""Every record says by which build, dependencies and settings it was made, and people can read what that was."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
import requests
import structlog
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from pydantic import SecretStr

from backend.settings import LOGGING, TRADINGBOT
from backend.settings.config import Config
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.data.calendar import ROUND_THE_CLOCK, session_date
from backend.tradingbot.infra import build_info
from backend.tradingbot.infra.build_info import build_facts, build_stamp
from backend.tradingbot.models import (
    Account,
    BreakerEvent,
    BuildStamp,
    Execution,
    JournalEntry,
    ModeChange,
    Order,
    ReconRun,
)
from backend.tradingbot.services import builds, journal, promotion_bars, recon
from backend.tradingbot.services.fills import poll_account
from tests.integration.conftest import Broker, Gateway
from tests.integration.test_modes import meet, set_mode

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def on_file() -> None:
    """The tables were emptied after the test before, which no process of the product ever sees."""
    builds.note_build(connection)


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("build_info", *arguments, stdout=out)
    return out.getvalue()


def test_an_order_its_execution_its_journal_and_a_breakers_event_bear_the_stamp(
    gateway: Gateway, broker: Broker
) -> None:
    gateway.tick()
    answer = gateway.order("one")
    assert answer.json()["build_stamp"] == build_stamp()
    poll_account(Account.objects.get(code="main"), clock=FixedClock(datetime.now(UTC)))
    assert gateway.call("POST", "breakers/firm/trip", {"reason": "look"}, gateway.risk).status_code == 200
    for model in (Order, Execution, JournalEntry, BreakerEvent):
        assert set(model.objects.values_list("build_stamp", flat=True)) == {build_stamp()}, model
    assert journal.verify("account:main").intact and journal.verify("firm").intact


@pytest.fixture
def tuesday(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The build that runs from here on, by id and stamp: none that a column's default or an earlier test could know."""
    before = (build_info.build_id(), build_stamp())
    monkeypatch.setenv(build_info.SHA_VARIABLE, "build-of-tuesday")
    builds.note_build(connection)
    running = (build_info.build_id(), build_stamp())
    assert running[0] == "build-of-tuesday" and not set(running) & set(before)
    return running


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the product's loggers write meanwhile, in the form of its log files."""
    written, formatter = io.StringIO(), LOGGING["formatters"]["structured"]
    handler = logging.StreamHandler(written)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=formatter["foreign_pre_chain"], processors=formatter["processors"]
        )
    )
    logger = logging.getLogger("backend.tradingbot")
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)


def a_day_of_everything(gateway: Gateway) -> Iterator[requests.Response]:
    """Each kind of record, made by the service that makes it in the product."""
    now = FixedClock(datetime.now(UTC))
    yield gateway.tick()
    yield gateway.order("one")
    poll_account(Account.objects.get(code="main"), clock=now)
    yield gateway.call("POST", "strategies/mean/builds", {"build_id": "v2"})
    headers = {"Authorization": f"Bearer {gateway.trader}", "X-Strategy-Build": "v2"}
    yield requests.post(f"{gateway.url}/api/v1/orders", json=gateway.body("simulated"), headers=headers, timeout=30)
    assert meet("100.00") == 1
    body = gateway.body("asked")
    yield gateway.call("POST", "orders/check", body)
    yield gateway.call("POST", "strategies/mean/demote", {"to": "shadow", "reason": "look"}, gateway.risk)
    yield gateway.call("POST", "breakers/firm/trip", {"reason": "look"}, gateway.risk)
    yield gateway.order("denied")
    asked = {**vars(promotion_bars.bar_in_force("default", "live")), "min_days": 30, "reason": "longer"}
    asked |= {"profile": "default", "to_mode": "live"}
    yield gateway.call("POST", "promotion-profiles", asked, gateway.risk)
    today = session_date(now.now(), ROUND_THE_CLOCK)
    recon.run_session(Account.objects.get(code="main"), today, actor="test", clock=FixedClock(now.now() + DAY))


def test_every_record_bears_the_stamp_of_the_build_whose_service_made_it(
    tuesday: tuple[str, str], gateway: Gateway, broker: Broker, lines: io.StringIO
) -> None:
    for answer in a_day_of_everything(gateway):
        assert (answer.headers["X-Build-Id"], answer.headers["X-Build-Stamp"]) == tuesday, answer.text
        order = answer.json().get("order", answer.json())
        if "client_order_id" in order:  # a decision is part of its order
            assert (order["build_id"], order["build_stamp"]) == tuesday and order["decision"]["checks"]
    stamped = [model for model in apps.get_models() if any(f.name == "build_stamp" for f in model._meta.fields)]
    assert {model.__name__ for model in stamped} >= {
        "BreakerEvent", "Execution", "JournalEntry", "ModeChange", "Order", "PromotionBar", "ReconRun",
        "ShadowExecution",
    }  # fmt: skip
    for model in stamped:
        name = "gateway_build_id" if model is ModeChange else "build_id"
        assert set(model._default_manager.values_list(name, "build_stamp")) == {tuesday}, model
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {"order_transition"} <= {line["event"] for line in told}
    assert {(line["build_id"], line["build_stamp"]) for line in told} == {tuesday}
    metrics = gateway.call("GET", "../../metrics", token=gateway.risk).text
    line = next(text for text in metrics.splitlines() if text.startswith("tradingbot_build_info"))
    assert f'build_id="{tuesday[0]}"' in line and f'build_stamp="{tuesday[1]}"' in line
    for scope in ("account:main", "firm"):
        assert journal.verify(scope).intact


def test_a_run_that_is_made_again_names_the_build_that_made_it_last(
    gateway: Gateway, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, clock = Account.objects.get(code="main"), FixedClock(datetime.now(UTC) + DAY)
    today = session_date(datetime.now(UTC), ROUND_THE_CLOCK)
    for name in ("build-of-monday", "build-of-tuesday"):
        monkeypatch.setenv(build_info.SHA_VARIABLE, name)
        recon.run_session(account, today, actor="test", clock=clock)
        run = ReconRun.objects.get()
        assert (run.build_id, run.build_stamp) == (name, build_stamp())


def test_a_denial_by_another_build_names_that_build_when_it_is_judged_again(
    gateway: Gateway, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for what was denied and for what was split by its mode, over all that is stored at once."""
    stamps = {}
    for name in ("build-of-monday", "build-of-tuesday"):
        monkeypatch.setenv(build_info.SHA_VARIABLE, name)
        assert gateway.order(f"denied-{name}", symbol="TSLA").status_code == 422
        stamps[name] = build_stamp()
        set_mode("canary", allocation=Decimal("0.5"))
        gateway.tick()
        assert gateway.order(f"split-{name}", qty="4").json()["placed_qty"] == "2"
    monkeypatch.setenv(build_info.SHA_VARIABLE, "build-of-wednesday")
    out = StringIO()
    call_command("replay_decision", "--all", stdout=out)
    told = out.getvalue()
    for name, stamp in stamps.items():
        assert told.count(f"the same as stored by build {name}, stamp {stamp}") == 2
    assert "build-of-wednesday" not in told


def test_the_stamp_stands_for_code_dependencies_and_settings(gateway: Gateway) -> None:
    row = BuildStamp.objects.get(pk=build_stamp())
    facts = build_facts()
    assert {name: getattr(row, name) for name in facts} == facts
    assert facts["config_hash"] != "unknown" and len(facts["lock_hash"]) == 64
    assert row.settings["mark_seconds"] == "5.0"
    for change in ({"build_id": "forged"}, {"settings": {}}):
        with pytest.raises(DatabaseError, match="Cannot update or delete"), transaction.atomic():
            BuildStamp.objects.filter(pk=row.pk).update(**change)


def test_no_secret_is_part_of_what_is_hashed_or_kept() -> None:
    secrets = {name for name, field in Config.model_fields.items() if field.annotation is SecretStr}
    assert {"secret_key", "database_url", "redis_url", "alpaca_api_key", "alpaca_secret_key", "mail_url"} <= secrets
    for name in Config.model_fields:
        if any(word in name for word in ("secret", "password", "token", "api_key")):
            assert name in secrets, f"{name} must be a SecretStr, or it is kept with the build"
    told = TRADINGBOT.model_copy(update={name: SecretStr("hunter2") for name in secrets}).public()
    assert "hunter2" not in json.dumps(told) and not secrets & set(told)


def test_the_row_is_written_once_and_a_database_that_has_no_table_yet_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builds.note_build(connection)
    assert BuildStamp.objects.filter(pk=build_stamp()).count() == 1
    monkeypatch.setattr(builds, "_noted", set())
    monkeypatch.setattr(builds, "IS_MIGRATED", builds.IS_MIGRATED.replace("tradingbot_buildstamp", "not_there"))
    builds.note_build_on_connect(connection)
    assert builds._noted == set()
    monkeypatch.undo()
    monkeypatch.setattr(builds, "_noted", set())
    builds.note_build_on_connect(connection)
    assert builds._noted == {(connection.settings_dict["NAME"], build_stamp())}


def test_every_answer_and_the_build_page_say_it(gateway: Gateway) -> None:
    answer = gateway.call("GET", "build")
    facts = answer.json()
    assert facts["build_stamp"] == build_stamp() == answer.headers["X-Build-Stamp"]
    assert answer.headers["X-Build-Id"] == facts["build_id"] == build_info.build_id()
    assert {"build_timestamp", "dirty", "lock_hash", "config_hash", "python_version"} <= set(facts)
    refused = requests.get(f"{gateway.url}/api/v1/orders", timeout=10)
    assert (refused.status_code, refused.headers["X-Build-Stamp"]) == (401, build_stamp())
    headers = {"Authorization": f"Bearer {gateway.risk}"}
    line = next(
        text
        for text in requests.get(f"{gateway.url}/metrics", headers=headers, timeout=10).text.splitlines()
        if text.startswith("tradingbot_build_info")
    )
    for part in (f'build_stamp="{build_stamp()}"', f'config_sha256="{facts["config_hash"][:16]}"', 'dirty="'):
        assert part in line


def test_a_log_line_bears_the_stamp() -> None:
    formatter = LOGGING["formatters"]["structured"]
    made = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=formatter["foreign_pre_chain"], processors=formatter["processors"]
    )
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "hello", (), None)
    assert build_stamp() in made.format(record)


def test_build_info_prints_what_runs_and_what_a_stamp_stands_for() -> None:
    facts = build_facts()
    now = said()
    for value in (build_stamp(), facts["build_id"], facts["lock_hash"], facts["config_hash"]):
        assert value in now
    assert facts["config_hash"] in said("--stamp", build_stamp())
    assert "MARK_SECONDS=5.0" in said("--stamp", build_stamp(), "--with-settings")
    assert "DATABASE_URL" not in said("--with-settings")
    assert build_stamp() in said("--history")
    with pytest.raises(CommandError, match="no build with the stamp 00"):
        said("--stamp", "00")


def test_an_order_decided_by_an_earlier_build_is_judged_again_and_names_that_build(
    gateway: Gateway, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.tick()
    with monkeypatch.context() as earlier:
        earlier.setenv(build_info.SHA_VARIABLE, "build-of-monday")
        gateway.order("one")
        stamp = build_stamp()
    assert (build_info.build_id(), build_stamp()) != ("build-of-monday", stamp)
    out = StringIO()
    call_command("replay_decision", f"{gateway.prefix}-one", stdout=out)
    assert f"allowed, the same as stored by build build-of-monday, stamp {stamp}" in out.getvalue()
    Order.objects.update(snapshot={"of": "another shape"})
    with pytest.raises(CommandError, match="1 decision"):
        call_command("replay_decision", f"{gateway.prefix}-one", stdout=out)
    assert "stored by build build-of-monday, cannot be judged by this one" in out.getvalue()


def test_an_orders_page_shows_build_config_and_lock_hash(gateway: Gateway, broker: Broker) -> None:
    gateway.tick()
    gateway.order("one")
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    page = client.get(f"/admin/tradingbot/order/{Order.objects.get().pk}/change/").content.decode()
    facts: dict[str, Any] = build_facts()
    for value in (facts["build_id"], facts["lock_hash"], facts["config_hash"], build_stamp()):
        assert value in page
    listed = client.get("/admin/tradingbot/buildstamp/").content.decode()
    assert build_stamp() in listed
    shown = client.get(f"/admin/tradingbot/buildstamp/{build_stamp()}/change/").content.decode()
    assert facts["config_hash"] in shown and "mark_seconds" in shown
