"""Every alert has a severity, a summary, a runbook that exists in full, and a firing and a quiet case."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

OPS = Path(__file__).resolve().parents[2] / "ops"
RULES = [
    rule
    for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_help_stands(rule: dict) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert len(rule["annotations"]["summary"]) >= 20
    runbook = OPS.parent / rule["annotations"]["runbook"]
    text = runbook.read_text()
    for heading in ("## Meaning", "## Look here", "## Do this", "## Who"):
        assert heading in text, f"{runbook.name} lacks {heading}"
    assert rule["alert"] in text, f"{runbook.name} does not name {rule['alert']}"


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    tests = yaml.safe_load((OPS / "alerts_test.yml").read_text())["tests"]
    seen = {(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test.get("alert_rule_test", [])}
    assert seen == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed, see ops/apt.txt")
def test_promtool_goes_red_when_an_alert_no_longer_fires(tmp_path: Path) -> None:
    rules = (OPS / "alerts.yml").read_text().replace("tradingbot_breaker_open) == 1", "tradingbot_breaker_open) == 2")
    (tmp_path / "alerts.yml").write_text(rules)
    shutil.copy(OPS / "alerts_test.yml", tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "CircuitBreakerOpen fires" in done.stdout + done.stderr
