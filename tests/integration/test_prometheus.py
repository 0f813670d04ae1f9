"""A real Prometheus, with the configuration of `make up PROMETHEUS=1`, scrapes a gateway and evaluates every rule.

Only the intervals are shortened to a second, so that nobody waits half a minute for the slowest group of rules.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from ops import monitoring
from ops.servers import free_port
from tests.integration.conftest import Gateway

PROGRAM = monitoring.program()
PATIENCE = 60.0
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(PROGRAM is None, reason="prometheus is not installed, see ops/apt.txt"),
]


def every_second(path: Path, **replaced: str) -> None:
    text = path.read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(re.sub(r"interval: \d+s", "interval: 1s", text))


class Prometheus:
    """Its HTTP API, asked until it says what is waited for."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.url, self.process = f"http://127.0.0.1:{port}/api/v1", process

    def ask(self, path: str, **query: str) -> Any:
        """What it answers; None while it does not listen yet or has no answer."""
        try:
            answer = requests.get(f"{self.url}/{path}", params=query, timeout=5)
        except requests.ConnectionError:
            return None
        return answer.json()["data"] if answer.status_code == 200 else None

    def wait_for(self, path: str, good: Callable[[Any], bool], **query: str) -> Any:
        until = time.monotonic() + PATIENCE
        while not ((data := self.ask(path, **query)) and good(data)):
            assert self.process.poll() is None, f"prometheus ended: {self.process.communicate()[0]}"
            assert time.monotonic() < until, f"{path} still says {data}"
            time.sleep(0.05)
        return data


@pytest.fixture
def prometheus(gateway: Gateway, settings: Any, tmp_path: Path) -> Iterator[Prometheus]:
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"metrics_public": True})
    port = free_port()
    command = monitoring.command(tmp_path, int(gateway.url.rsplit(":", 1)[1]), port, str(PROGRAM))
    rules = tmp_path / "alerts.yml"
    rules.write_text((monitoring.ROOT / "ops" / "alerts.yml").read_text())
    every_second(rules)
    every_second(tmp_path / "prometheus/prometheus.yml", **{str(monitoring.ROOT / "ops" / "alerts.yml"): str(rules)})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield Prometheus(port, process)
        process.terminate()


def test_it_scrapes_the_gateway_evaluates_every_rule_and_an_open_breaker_fires(
    prometheus: Prometheus, gateway: Gateway
) -> None:
    why = {"reason": "prometheus is to see it"}
    assert gateway.call("POST", "breakers/account:main/trip", why, gateway.risk).status_code == 200

    def all_up(data: Any) -> bool:
        return [target["health"] for target in data["activeTargets"]] == ["up"]

    def all_evaluated(data: Any) -> bool:
        health = [rule["health"] for group in data["groups"] for rule in group["rules"]]
        return bool(health) and "unknown" not in health

    target = prometheus.wait_for("targets", all_up)["activeTargets"][0]
    assert target["lastError"] == ""
    groups = prometheus.wait_for("rules", all_evaluated)["groups"]
    written = yaml.safe_load((monitoring.ROOT / "ops" / "alerts.yml").read_text())["groups"]
    assert {group["name"] for group in groups} == {group["name"] for group in written}
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in written)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}

    query = 'max by (scope, reason) (tradingbot_breaker_open{scope="account:main"} == 1)'
    opened = prometheus.wait_for("query", lambda data: bool(data["result"]), query=query)["result"]
    assert [sample["metric"] for sample in opened] == [{"scope": "account:main", "reason": "manual"}]
    alerts = prometheus.wait_for("alerts", lambda data: "CircuitBreakerOpen" in names(data))["alerts"]
    told = next(alert for alert in alerts if alert["labels"]["alertname"] == "CircuitBreakerOpen")
    assert told["annotations"]["summary"] == "Trading is stopped for account:main: manual"
    assert told["annotations"]["runbook"] == "ops/runbooks/circuit-breaker-open.md"


def names(data: Any) -> list[str]:
    return [alert["labels"]["alertname"] for alert in data["alerts"] if alert["state"] == "firing"]
