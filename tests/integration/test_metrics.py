"""What the running gateway tells Prometheus: counted by what happened, gauged by what the database says now."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings as django_settings
from django.db import connection, connections
from django.db.models import F, IntegerField
from django.db.models.functions import Cast
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from backend.tradingbot.brokers.alpaca_transport import operation
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.values import Severity
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.infra.metrics import update_prometheus_metrics
from backend.tradingbot.models import (
    Account,
    AccountExposure,
    Breaker,
    Feed,
    NameExposure,
    Order,
    Position,
    SharedHeadroom,
)  # fmt: skip
from backend.tradingbot.risk.circuit_breaker import BAD_EQUITY, DRAWDOWN, ERROR_RATE, REALIZED_LOSS, STALE_DATA
from backend.tradingbot.risk.exposure import DELTA, MEASURES, VEGA
from backend.tradingbot.risk.gates import GATES
from backend.tradingbot.selectors import metrics as selectors
from backend.tradingbot.selectors import metrics_state
from backend.tradingbot.selectors.section import gauge, section
from backend.tradingbot.services.breakers import BAD_STATE
from backend.tradingbot.services.scraping import begin_at_zero
from backend.tradingbot.services.volatility import TRIP_REASON
from ops.servers import free_port
from tests.integration.conftest import Gateway

pytestmark = pytest.mark.django_db(transaction=True)


def scrape(gateway: Gateway) -> dict[str, list[Any]]:
    answer = requests.get(f"{gateway.url}/metrics", headers={"Authorization": f"Bearer {gateway.risk}"}, timeout=10)
    assert answer.status_code == 200
    return {family.name: family.samples for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, list[Any]], family: str, **labels: str) -> float:
    found = [
        sample.value
        for sample in families.get(family, [])
        if labels.items() <= sample.labels.items() and not sample.name.endswith("_created")
    ]
    return sum(found)


def test_an_accepted_and_a_denied_order_are_counted_under_their_outcome_and_gate(gateway: Gateway) -> None:
    before = scrape(gateway)
    gateway.tick()
    assert gateway.order("one").status_code == 201
    assert gateway.order("two", symbol="GME").status_code == 422
    after = scrape(gateway)

    def grown(family: str, **labels: str) -> float:
        return value(after, family, **labels) - value(before, family, **labels)

    assert grown("tradingbot_orders", outcome="accepted", strategy="mean") == 1
    assert grown("tradingbot_orders", outcome="denied") == 1
    refused = {"gate": "restricted_symbol", "code": "symbol_not_allowed", "strategy": "mean", "mode": "live"}
    assert grown("tradingbot_denials", **refused) == 1
    assert grown("tradingbot_broker_calls", operation="POST /orders", outcome="ok") == 1


def test_an_order_in_doubt_is_told_with_its_age(gateway: Gateway) -> None:
    gateway.tick()
    assert gateway.order("lost").status_code == 201
    now = SYSTEM_CLOCK.now()
    Order.objects.update(status="in_doubt", created_at=now - timedelta(seconds=90))
    told = {family.name: [sample.value for sample in family.samples] for family in selectors.orders(now)}
    assert told == {
        "tradingbot_orders_in_doubt": [1],
        "tradingbot_orders_in_doubt_oldest_seconds": [90],
        "tradingbot_orders_open": [1],
    }


def test_an_open_breaker_is_a_series_with_a_bounded_reason(gateway: Gateway) -> None:
    reason = {"reason": "a person's own words"}
    assert gateway.call("POST", "breakers/account:main/trip", reason, gateway.risk).status_code == 200
    families = scrape(gateway)
    assert value(families, "tradingbot_breaker_open", scope="account:main", reason="manual") == 1
    assert value(families, "tradingbot_breaker_open", scope="firm") == 0
    assert value(families, "tradingbot_equity", account="main") >= 0
    assert value(families, "tradingbot_build_info") == 1


@pytest.mark.parametrize(
    "reason",
    [ERROR_RATE, STALE_DATA, BAD_EQUITY, DRAWDOWN, REALIZED_LOSS, BAD_STATE, TRIP_REASON, "over-fill", "contradiction"],
)
def test_what_a_machine_trips_for_is_told_by_its_name_and_not_as_a_persons_doing(reason: str) -> None:
    assert selectors.cause(f"{reason}-0.061") == reason
    assert selectors.cause("because I say so") == "manual"


def test_every_cause_that_a_machine_gives_has_its_word_in_the_runbook() -> None:
    page = (Path(__file__).resolve().parents[2] / "ops/runbooks/circuit-breaker-open.md").read_text()
    table = page[page.index("| Cause |") : page.index("## Do this")]
    assert selectors.cause("fill-of-canceled") == "fill-of-ended"
    assert [word for word in (*selectors.CAUSES.values(), "manual") if f"`{word}`" not in table] == []


def test_a_part_of_the_state_that_cannot_be_told_is_named_and_the_rest_still_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    @section()
    def breaks(now: Any) -> Any:
        raise RuntimeError("no answer")

    monkeypatch.setattr(selectors, "SECTIONS", [selectors.breakers, breaks])
    families = scrape(gateway)
    assert value(families, "tradingbot_scrape_failed", section="breaks") == 1
    assert value(families, "tradingbot_scrape_failed", section="breakers") == 0
    assert "tradingbot_breaker_open" in families


def test_a_question_that_the_database_cannot_answer_costs_its_section_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    @section(rows=lambda: Breaker.objects.annotate(wrong=Cast(F("scope"), IntegerField())).values("wrong"))
    def breaks(now: Any, rows: Any) -> Any:
        yield gauge("never_told", "", [], [([], len(rows))])

    monkeypatch.setattr(selectors, "SECTIONS", [breaks, selectors.breakers, metrics_state.queue])
    families = scrape(gateway)
    failed = {sample.labels["section"]: sample.value for sample in families["tradingbot_scrape_failed"]}
    assert failed == {"breaks": 1, "breakers": 0, "queue": 0}
    assert {"tradingbot_breaker_open", "tradingbot_queue_depth"} <= set(families)
    assert "tradingbot_never_told" not in families


def test_without_a_database_every_part_of_its_state_is_named_and_the_rest_told(settings: Any) -> None:
    dead = connections.create_connection("default")
    dead.settings_dict = {**dead.settings_dict, "HOST": "127.0.0.1", "PORT": str(free_port())}
    mine, connections["default"] = connections["default"], dead
    try:
        told = {family.name: family.samples for family in selectors.StateCollector(SYSTEM_CLOCK).collect()}
    finally:
        connections["default"] = mine
    failed = {sample.labels["section"] for sample in told["tradingbot_scrape_failed"] if sample.value}
    assert failed == {part.name for part in selectors.SECTIONS if part.questions}
    assert {"tradingbot_build", "tradingbot_queue_depth"} <= set(told)


def test_the_whole_state_is_one_statement(gateway: Gateway) -> None:
    """A scrape waits for the database once, whatever else the machine does, and tells of one moment."""
    Account.objects.create(code="other", name="other", broker_account="B-OTHER")
    with CaptureQueriesContext(connection) as asked:
        told = list(selectors.StateCollector(SYSTEM_CLOCK).collect())
    assert len(asked) == 1
    assert len(told) > 30


def test_without_a_key_there_are_no_metrics_unless_they_are_public(gateway: Gateway, settings: Any) -> None:
    assert requests.get(f"{gateway.url}/metrics", timeout=10).status_code == 401
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"metrics_public": True})
    assert requests.get(f"{gateway.url}/metrics", timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/orders", "GET /orders"),
        ("/orders/6f1c-22", "GET /orders/{id}"),
        ("/orders:by_client_order_id?x=1", "GET /orders:by_client_order_id"),
        ("/account/activities/FILL", "GET /account/activities/FILL"),
    ],
)
def test_an_operation_is_named_without_its_ids(path: str, label: str) -> None:
    assert operation("GET", path) == label


def test_the_call_on_every_tick_refuses_a_negative_count() -> None:
    update_prometheus_metrics(staleness_sec=0.5, circuit_open=True)
    with pytest.raises(ValueError, match="ticks must not be negative"):
        update_prometheus_metrics(ticks=-1)


def test_what_alerts_at_its_first_happening_is_told_before_it(gateway: Gateway, settings: Any) -> None:
    """``increase`` sees nothing of a count that is born at 1: the first bad tick would go unheard."""
    hard = {check for check, described in CATALOGUE.items() if described.severity is Severity.HARD}
    told = {s.labels["check"] for s in scrape(gateway)["tradingbot_data_verdicts"] if s.labels["severity"] == "H"}
    assert hard <= told
    secret = SecretStr("https://hooks.example.com/one")
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"notify_webhook_url": secret})
    begin_at_zero()
    rows = scrape(gateway)["tradingbot_notifications"]
    assert [s for s in rows if s.labels == {"channel": "webhook", "outcome": "failed"}]


def test_a_limit_of_zero_that_is_used_is_beyond_its_limit(gateway: Gateway) -> None:
    """A fraction of nothing is no number, and no series is no alert."""
    none = {"scope": "account:main", "kind": "portfolio_delta_max", "value": "0", "reason": "no delta"}
    assert gateway.call("POST", "limits", none, gateway.risk).status_code in (200, 201)
    sums = AccountExposure.objects.get(account__code="main")
    sums.high[DELTA] = Decimal(7)
    sums.save()
    families = scrape(gateway)
    both = {"scope": "account:main", "measure": "delta"}
    assert value(families, "tradingbot_limit_utilisation", **both, side="long") == float("inf")
    assert value(families, "tradingbot_limit_utilisation", **both, side="short") == 0


def test_exposure_is_told_on_every_side_limited_or_not_and_a_symbol_only_where_it_has_a_limit(gateway: Gateway) -> None:
    for scope in ("symbol:AAPL", "symbol:MSFT", "strategy:mean/symbol:AAPL", "strategy:mean"):
        SharedHeadroom.objects.update_or_create(scope=scope, defaults={"reserved": 5})
    capped = {"scope": "symbol:MSFT", "kind": "gross_exposure_max", "value": "10", "reason": "a test"}
    assert gateway.call("POST", "limits", capped, gateway.risk).status_code in (200, 201)
    families = scrape(gateway)
    told = [sample.labels for sample in families["tradingbot_exposure"]]
    assert {label["scope"] for label in told} >= {"account:main", "strategy:mean", "symbol:MSFT"}
    assert not {label["scope"] for label in told} & {"symbol:AAPL", "strategy:mean/symbol:AAPL"}
    sides = {(label["measure"], label["side"]) for label in told if label["scope"] == "account:main"}
    both = {(measure, side) for measure in ("net", "delta", "gamma", "vega", "beta") for side in ("long", "short")}
    assert both | {("theta", "decay"), ("gross", "both")} <= sides
    assert not [
        one for one in families["tradingbot_exposure"] if str(one.value).startswith("-")
    ]  # nothing is 0, not -0
    assert value(families, "tradingbot_limit_utilisation", scope="symbol:MSFT", measure="gross") == 0.5


def test_the_worst_name_is_told_against_the_tightest_limit_for_any_name(gateway: Gateway) -> None:
    """A name can be at its limit while the book is nowhere near its own."""
    for scope, bound in (("account:main", "50"), ("firm", "40")):
        one = {"scope": scope, "kind": "name_vega_max", "value": bound, "reason": "a test"}
        assert gateway.call("POST", "limits", one, gateway.risk).status_code in (200, 201)
    account = Account.objects.get(code="main")
    for symbol, low, high in (("AAPL", -36, 10), ("MSFT", -4, 30), ("SPY", 0, 0)):
        sums = {"low": [Decimal(0)] * len(MEASURES), "high": [Decimal(0)] * len(MEASURES)}
        sums["low"][VEGA], sums["high"][VEGA] = Decimal(low), Decimal(high)
        NameExposure.objects.update_or_create(account=account, symbol=symbol, defaults=sums)
    families = scrape(gateway)
    worst = {"scope": "account:main", "measure": "name_vega"}
    told = {side: value(families, "tradingbot_exposure", **worst, side=side) for side in ("long", "short")}
    assert told == {"long": 30, "short": 36}
    assert value(families, "tradingbot_limit", **worst, side="short") == 40
    assert value(families, "tradingbot_limit_utilisation", **worst, side="short") == 0.9
    assert value(families, "tradingbot_limit_utilisation", **worst, side="long") == 0.75


def test_the_oldest_tick_is_told_by_what_the_symbol_is_to_the_desk(gateway: Gateway) -> None:
    gateway.tick()
    assert gateway.order("open").status_code == 201
    Position.objects.create(account=Account.objects.get(code="main"), symbol="HELD", qty=1)
    now, seen = SYSTEM_CLOCK.now(), {"HELD": 7, "AAPL": 5, "SEEN": 3}
    Feed.objects.create(
        code="us", symbols=[*seen, "NEVER"], max_silence_seconds=30, watched_since=now - timedelta(seconds=100)
    )
    for symbol, seconds in seen.items():
        at = (now - timedelta(seconds=seconds)).isoformat()
        hot_state().store([(symbol, {"price": "1", "bid": "1", "ask": "1", "as_of": at})])
    (family,) = metrics_state.symbols(now)
    told = {sample.labels["group"]: sample.value for sample in family.samples}
    assert told == {"held": 7, "ordered": 5, "watched": 100}  # one that was never heard counts from the watch on


def test_a_breaker_that_was_never_evaluated_is_older_than_any_limit_and_one_switched_off_is_not_told(
    gateway: Gateway,
) -> None:
    Breaker.objects.filter(scope="account:main").update(evaluated_at=None)
    assert value(scrape(gateway), "tradingbot_breaker_evaluated_age_seconds", scope="account:main") == float("inf")
    Account.objects.filter(code="main").update(active=False)
    assert scrape(gateway).get("tradingbot_breaker_evaluated_age_seconds", []) == []  # nor the firm, with nobody in it
    Account.objects.create(code="other", name="other", broker_account="B-OTHER")
    assert value(scrape(gateway), "tradingbot_breaker_evaluated_age_seconds", scope="firm") > 0


def test_the_depth_of_every_queue_is_told(gateway: Gateway) -> None:
    told = {s.labels["queue"] for s in scrape(gateway)["tradingbot_queue_depth"]}
    assert told == {queue.name for queue in django_settings.CELERY_TASK_QUEUES}


def test_a_process_that_just_made_its_file_does_not_break_a_scrape(client, settings, tmp_path, monkeypatch) -> None:
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"metrics_public": True})
    (tmp_path / "counter_1.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("backend.tradingbot.api.metrics.time.sleep", lambda _: (tmp_path / "counter_1.db").unlink())
    assert client.get("/metrics").status_code == 200


def test_every_gate_and_every_stage_of_an_order_is_timed(gateway: Gateway) -> None:
    before = scrape(gateway)
    gateway.tick()
    assert gateway.order("timed").status_code == 201
    after = scrape(gateway)

    def grown(family: str, **labels: str) -> float:
        def count(families: dict[str, list[Any]]) -> float:
            rows = families.get(family, [])
            return sum(r.value for r in rows if r.name.endswith("_count") and labels.items() <= r.labels.items())

        return count(after) - count(before)

    # once for the decision and once more for the last look before the send
    assert {gate: grown("tradingbot_gate_seconds", gate=gate) for gate in GATES} == dict.fromkeys(GATES, 2)
    stages = ("market_data", "decide", "broker", "record", "whole")
    assert {stage: grown("tradingbot_order_seconds", stage=stage) for stage in stages} == dict.fromkeys(stages, 1)


def test_no_label_holds_what_a_caller_can_invent(gateway: Gateway) -> None:
    gateway.tick()
    for name in ("a-name-of-its-own", "another-name"):
        assert gateway.order(name).status_code == 201
        assert gateway.order(f"{name}-x", symbol=f"X{len(name)}").status_code == 422
    told = requests.get(f"{gateway.url}/metrics", headers={"Authorization": f"Bearer {gateway.risk}"}, timeout=10).text
    assert "a-name-of-its-own" not in told
    assert gateway.prefix not in told
    assert "X17" not in told
