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
from backend.tradingbot.infra import library_metrics  # noqa: F401  its import registers what is counted
from backend.tradingbot.selectors.metrics import SECTIONS
from tests.integration.conftest import Gateway

ROOT = Path(__file__).resolve().parents[2]
OPS, MONITORING = ROOT / "ops", ROOT / "docs/monitoring.md"
NAME = re.compile(r"\b((?:tradingbot|django)_[a-z0-9_]+)(\{[^}]*\})?")
LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
BY = re.compile(r"\bby\s*\(([^)]*)\)")
SHOWN = re.compile(r"\$labels\.(\w+)|\{\{\s*(\w+)\s*\}\}")
OF_EVERY_SAMPLE = {"job", "instance"}
SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_info")


def texts() -> list[tuple[str, str]]:
    """Each expression of an alert or a dashboard, and what is written about its result."""
    rules = [rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    boards = [json.loads(path.read_text()) for path in sorted((OPS / "grafana/dashboards").glob("*.json"))]
    targets = [target for board in boards for panel in board["panels"] for target in panel["targets"]]
    alerts = [(rule["expr"], rule.get("annotations", {}).get("summary", "")) for rule in rules]
    return alerts + [(target["expr"], target["legendFormat"]) for target in targets]


def expressions() -> list[str]:
    return [expression for expression, _ in texts()]


def listed(found: list[str]) -> set[str]:
    return {name.strip() for names in found for name in names.split(",") if name.strip()}


def unknown_labels(expression: str, shown: str, told: dict[str, set[str]]) -> set[str]:
    """What ``expression`` groups by and no metric of it has as a label, or ``shown`` names and the result lacks."""
    bases = {base(name, told) for name, _ in NAME.findall(expression)}
    there = set().union(OF_EVERY_SAMPLE, *(told.get(name, set()) for name in bases))
    kept = listed(BY.findall(expression)) or there
    named = {one or other for one, other in SHOWN.findall(shown)} - {"else", "end"}
    return (listed(GROUPING.findall(expression)) - there) | (named - kept)


def base(name: str, told: dict[str, set[str]]) -> str:
    return next((name.removesuffix(end) for end in SUFFIXES if name.removesuffix(end) in told), name)


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


def gauges() -> dict[str, set[str]]:
    """The label names of every figure of the state."""
    now = FixedClock(datetime.now(UTC)).now()
    told = {"tradingbot_scrape_failed": {"section"}}
    for section in SECTIONS:
        for family in section(now):
            assert isinstance(family, Metric)
            told[family.name] = set(getattr(family, "_labelnames", ())).union(*(s.labels for s in family.samples))
    return told


@pytest.mark.django_db(transaction=True)
def test_every_metric_has_its_row_with_its_labels_in_the_monitoring_page(gateway: Gateway) -> None:
    rows = re.findall(r"^\| `(tradingbot_\w+)` \| ([^|]*) \|", MONITORING.read_text(), re.MULTILINE)
    told = {
        name: labels - {"le"} for name, labels in {**counted(), **gauges()}.items() if name.startswith("tradingbot_")
    }
    assert len(rows) == len({name for name, _ in rows})
    written = {base(name, told): set(re.findall(r"`([^`]+)`", labels)) for name, labels in rows}
    assert written == told


@pytest.mark.django_db(transaction=True)
def test_every_metric_of_the_alerts_and_dashboards_is_told_with_its_labels(gateway: Gateway) -> None:
    told = counted() | gauges()
    missing: list[tuple[str, list[str]]] = []
    for expression, shown in texts():
        for name, labels in NAME.findall(expression):
            unknown = set(LABEL.findall(labels)) - told.get(base(name, told), set())
            if base(name, told) not in told or unknown:
                missing.append((name, sorted(unknown)))
        if unknown := unknown_labels(expression, shown, told):
            missing.append((expression, sorted(unknown)))
    assert missing == []


@pytest.mark.parametrize(
    ("expression", "shown", "wrong"),
    [
        ("max by (scope) (tradingbot_x{scope!='a'})", "{{ $labels.scope }}", set()),
        ("max by (scope, cause) (tradingbot_x)", "{{scope}}", {"cause"}),
        ("max by (scope) (tradingbot_x)", "{{ $labels.scope }} {{ $labels.reason }}", {"reason"}),
        ("tradingbot_x / on (scop) tradingbot_x", "", {"scop"}),
        ("tradingbot_x", "{{instance}} {{reason}} {{check}}", {"check"}),
    ],
)
def test_a_label_that_no_metric_has_is_found_wherever_it_stands(expression: str, shown: str, wrong: set[str]) -> None:
    assert unknown_labels(expression, shown, {"tradingbot_x": {"scope", "reason"}}) == wrong
