"""Every alert has a severity, a summary, a runbook that exists in full, and a firing and a quiet case."""

from __future__ import annotations

import re
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


ALERTMANAGER = yaml.safe_load((OPS / "alertmanager.yml").read_text())


def matched(matchers: list[str]) -> set[str]:
    """The alerts that all matchers on ``alertname`` let through."""
    names = {rule["alert"] for rule in RULES}
    for matcher in matchers:
        found = re.fullmatch(r'alertname(=~|!=|=)"([^"]+)"', matcher)
        assert found, f"{matcher}: only alertname is asked"
        kind, text = found.groups()
        wanted = set(text.split("|"))
        assert wanted <= names, f"{matcher} names {sorted(wanted - names)}, which no rule has"
        names &= names - wanted if kind == "!=" else wanted
    return names


def test_what_one_alert_mutes_is_named_and_is_never_a_stop_of_trading() -> None:
    """A muted alert is one that nobody hears: only what follows from the source alone may be, or is the same thing."""
    same_thing = {
        "RiskLimitBreached": {"RiskLimitApproaching"},
        "CriticalBreak": {"ReconciliationBreaks"},
        "ErrorBudgetBurnsFast": {"ErrorBudgetBurnsSlowly", "ErrorBudgetLeaks"},
        "ErrorBudgetBurnsSlowly": {"ErrorBudgetLeaks"},
    }
    budget = {rule["alert"] for rule in RULES if rule["alert"].startswith("ErrorBudget")}
    follows = {"WebServerDown", "ProcessSilent", "StateNotReadable"} | budget
    for rule in ALERTMANAGER["inhibit_rules"]:
        (source,) = matched(rule["source_matchers"])
        muted = matched(rule["target_matchers"])
        assert muted == (follows if source == "GatewayDown" else same_thing[source])
        assert rule.get("equal") or source == "GatewayDown" or source in budget, f"{source} mutes other scopes too"


def test_a_page_goes_to_whoever_is_on_call_at_once() -> None:
    (route,) = ALERTMANAGER["route"]["routes"]
    assert (route["matchers"], route["receiver"], route["group_wait"]) == (['severity="page"'], "on-call", "0s")
    assert {receiver["name"] for receiver in ALERTMANAGER["receivers"]} == {
        "on-call",
        ALERTMANAGER["route"]["receiver"],
    }


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    tests = yaml.safe_load((OPS / "alerts_test.yml").read_text())["tests"]
    seen = {(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test.get("alert_rule_test", [])}
    assert seen == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed, see ops/apt.txt")
def test_promtool_goes_red_when_an_alert_no_longer_fires(tmp_path: Path) -> None:
    written = yaml.safe_load((OPS / "alerts_test.yml").read_text())
    written["tests"] = [test for test in written["tests"] if test["name"].startswith("CircuitBreakerOpen ")]
    (tmp_path / "alerts_test.yml").write_text(yaml.safe_dump(written))  # `make check` runs the cases of all alerts

    def promtool(rules: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "alerts.yml").write_text(rules)
        asked = ["promtool", "test", "rules", "alerts_test.yml"]
        return subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)

    rules = (OPS / "alerts.yml").read_text()
    sound, planted = promtool(rules), promtool(rules.replace("breaker_open) == 1", "breaker_open) == 2"))
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert planted.returncode == 1
    assert "CircuitBreakerOpen fires" in planted.stdout + planted.stderr
