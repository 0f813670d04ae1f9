"""Prometheus beside `make up`: its configuration is the deployment's, on this machine's addresses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ops import monitoring


def test_it_scrapes_this_stack_alone_by_the_deployments_rules_and_intervals() -> None:
    here = yaml.safe_load(monitoring.configuration(8123))
    there = yaml.safe_load((monitoring.ROOT / "ops/prometheus.yml").read_text())
    assert here["global"] == there["global"]
    assert here["rule_files"] == [str(monitoring.ROOT / "ops" / "alerts.yml")]
    assert here["scrape_configs"] == [{"job_name": "tradingbot", "static_configs": [{"targets": ["127.0.0.1:8123"]}]}]
    assert "alerting" not in here


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed, see ops/apt.txt")
def test_prometheus_would_take_it(tmp_path: Path) -> None:
    argv = monitoring.command(tmp_path, 8123, 9123, "/usr/bin/prometheus")
    config = argv[1].removeprefix("--config.file=")
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--web.listen-address=127.0.0.1:9123" in argv


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"PROMETHEUS": "1", "METRICS_PUBLIC": "0"}, "PROMETHEUS=1 scrapes without a key: leave METRICS_PUBLIC at 1"),
        ({"PROMETHEUS_PORT": "http"}, "PROMETHEUS_PORT must be a number from 1 to 65535, not 'http'"),
        ({"PROMETHEUS": "1"}, None),
        ({}, None),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(environment: dict[str, str], problem: str | None) -> None:
    assert monitoring.fault(environment) == problem
