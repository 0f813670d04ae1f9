"""Alertmanager's configuration is held to a schema that refuses what it does not know, and to itself.

Alertmanager's own check (amtool) is not everywhere, so `make check` asks ops/lint/alertmanager.schema.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ops/alertmanager.yml").read_text()
CONFIG = yaml.safe_load(TEXT)
SCHEMA = json.loads((ROOT / "ops/lint/alertmanager.schema.json").read_text())
ENDS = "      - url_file: /run/secrets/alert_webhook\n        send_resolved: true\n"


def refusals(text: str) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(yaml.safe_load(text))]


def test_the_configuration_as_it_stands_is_taken() -> None:
    assert refusals(TEXT) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("group_interval: 10s", "group_interval: soon"),
        ("group_interval: 10s", "group_interval: 0s"),
        ("group_interval: 10s", "group_interval: 10"),
        ("group_interval: 10s", "group_intervall: 10s"),
        ("group_interval: 10s", "group_interval: 10s1h"),
        ("repeat_interval: 24h", 'repeat_interval: ""'),
        ("  receiver: desk\n  group_by", "  group_by"),
        ("  receiver: desk\n  group_by", "  receiver: desk\n  matchers: ['a=\"b\"']\n  group_by"),
        ("send_resolved: true", "send_resolvd: true"),
        ("send_resolved: true", 'send_resolved: "yes"'),
        ("url_file: /run/secrets/alert_webhook", "url: https://example.com/hook"),
        ("url_file: /run/secrets/alert_webhook", "url_file: alert_webhook"),
        ("webhook_configs:", "webhook_config:"),
        (f"webhook_configs:\n{ENDS}", "webhook_configs: []\n"),
        ("  - name: desk\n", "  - title: desk\n"),
        ('severity="page"', "severity=page"),
        ("    - matchers: [severity", "    - match: [severity"),
        ("receivers:", "recievers:"),
        ("source_matchers:", "source_match:"),
        ("inhibit_rules:", "inhibit_rule:"),
        ("equal: [scope, measure, side]", "equal: scope"),
    ],
)
def test_a_planted_fault_is_refused(right: str, wrong: str) -> None:
    assert right in TEXT
    assert refusals(TEXT.replace(right, wrong)) != []


@pytest.mark.parametrize(
    ("right", "wrong", "code"),
    [("", "", 0), ("group_interval: 10s", "group_interval: soon", 1), ("send_resolved", "send_resolvd", 1)],
)
def test_the_command_of_make_check_goes_red_on_it(right: str, wrong: str, code: int, tmp_path: Path) -> None:
    command = "$(VENV)/bin/check-jsonschema --schemafile ops/lint/alertmanager.schema.json ops/alertmanager.yml"
    assert f"\t{command}\n" in (ROOT / "Makefile").read_text()
    planted = tmp_path / "alertmanager.yml"
    planted.write_text(TEXT.replace(right, wrong))
    words = command.replace("$(VENV)/bin", str(Path(sys.executable).parent)).split()[:-1]
    done = subprocess.run([*words, planted], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr


def routes(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield route
    for below in route.get("routes", []):
        yield from routes(below)


def astray(config: dict[str, Any]) -> list[str]:
    """What a schema cannot see: receivers named twice, nowhere or for nothing, and patterns that do not compile."""
    names = [receiver["name"] for receiver in config["receivers"]]
    asked = {route["receiver"] for route in routes(config["route"]) if "receiver" in route}
    found = [f"{name} is no receiver" for name in sorted(asked - set(names))]
    found += [f"{name} stands there twice" for name in sorted(set(names)) if names.count(name) > 1]
    found += [f"nothing goes to {name}" for name in sorted(set(names) - asked)]
    matchers = [one for route in routes(config["route"]) for one in route.get("matchers", [])]
    for rule in config.get("inhibit_rules", []):
        matchers += rule["source_matchers"] + rule["target_matchers"]
    for pattern in re.findall(r'[=!]~"([^"]*)"', "\n".join(matchers)):
        try:
            re.compile(pattern)
        except re.error as error:
            found.append(f"{pattern}: {error}")
    return found


def test_every_route_ends_at_a_receiver_and_every_receiver_has_a_route() -> None:
    assert astray(CONFIG) == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("receiver: on-call", "receiver: oncall", ["oncall is no receiver", "nothing goes to on-call"]),
        ("receiver: desk", "receiver: dask", ["dask is no receiver", "nothing goes to desk"]),
        ("- name: desk", "- name: on-call", ["desk is no receiver", "on-call stands there twice"]),
        ('=~"ErrorBudgetBurnsSlowly|', '=~"(ErrorBudgetBurnsSlowly|', ["missing ), unterminated subpattern"]),
    ],
)
def test_a_route_that_ends_nowhere_is_found(right: str, wrong: str, told: list[str]) -> None:
    assert right in TEXT
    found = astray(yaml.safe_load(TEXT.replace(right, wrong)))
    assert len(found) == len(told) and all(word in line for word, line in zip(told, found, strict=True))
