"""Every metric that an alert or a dashboard names is told by the running gateway, with the labels they use."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.infra import metrics  # noqa: F401  its import registers what is counted
from backend.tradingbot.selectors.metrics import SECTIONS
from tests.integration.conftest import Gateway

OPS = Path(__file__).resolve().parents[2] / "ops"
NAME = re.compile(r"\b((?:tradingbot|django)_[a-z0-9_]+)(\{[^}]*\})?")
LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_info")


def expressions() -> list[str]:
    rules = [rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    boards = [json.loads(path.read_text()) for path in sorted((OPS / "grafana/dashboards").glob("*.json"))]
    targets = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in rules] + targets


def counted() -> dict[str, set[str]]:
    """The label names of every counter and histogram, whether anything was counted yet or not."""
    found: dict[str, set[str]] = {}
    for collector in list(REGISTRY._collector_to_names):
        name = getattr(collector, "_name", None)
        if name:
            found[name] = set(getattr(collector, "_labelnames", ())) | {"le"}
    return found


def test_what_every_web_server_tells_alike_is_counted_once() -> None:
    """Three web servers tell each break three times: a state is their ``max`` (or ``min``) before anything else."""
    told_once = re.compile(r"(?:max|min)(?: by \([a-z, ]+\) )?\((?:increase\()?$")
    wrong = [
        (expression, name)
        for expression in expressions()
        for name, start in [(found[1], found.start()) for found in NAME.finditer(expression)]
        if not name.endswith(SUFFIXES)
        and not told_once.search(expression[:start])
        and "absent(" not in expression[:start]
    ]
    assert wrong == []


@pytest.mark.django_db(transaction=True)
def test_every_metric_of_the_alerts_and_dashboards_is_told_with_its_labels(gateway: Gateway) -> None:
    told = counted()
    now = FixedClock(datetime.now(UTC)).now()
    for section in SECTIONS:
        for family in section(now):
            assert isinstance(family, Metric)
            told[family.name] = set(getattr(family, "_labelnames", ()))
    told["tradingbot_scrape_failed"] = {"section"}
    missing = []
    for expression in expressions():
        for name, labels in NAME.findall(expression):
            base = next((name.removesuffix(end) for end in SUFFIXES if name.removesuffix(end) in told), name)
            unknown = set(LABEL.findall(labels)) - told.get(base, set())
            if base not in told or unknown:
                missing.append((name, sorted(unknown)))
    assert missing == []
