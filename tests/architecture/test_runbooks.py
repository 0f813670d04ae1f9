"""What a runbook tells people to type, open and look for exists: command, address, page, button, metric, setting.

The lines under "Look here" are typed against a running stack in tests/integration/test_doc_snippets.py. Those under "Do
this" change things, so they are held here to the URLs and the side bar, and in test_doc_commands.py to the parsers.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.urls import resolve

from backend.settings.admin_pages import UNFOLD
from backend.settings.config import Config
from backend.tradingbot.infra import metrics  # noqa: F401  its import registers what is counted

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "ops/runbooks/README.md"
RUNBOOKS = sorted(path for path in (ROOT / "ops/runbooks").glob("*.md") if path != SHARED)
SOURCE = "".join(path.read_text() for path in (ROOT / "backend").rglob("*.py"))
TEMPLATES = "".join(path.read_text() for path in (ROOT / "backend").rglob("*.html"))
CODE = re.compile(r"```(\w+)\n(.*?)```|`([^`]+)`", re.S)
SERVICES = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
FOREIGN = {"DNS", "TLS", "API", "ID", "PID", "NAME", "SRE", "SHA"}


def typed(text: str) -> list[str]:
    """Every line of a block of shell, and every piece of code in the text, with its line breaks taken out."""
    found = []
    for language, block, inline in CODE.findall(text):
        if language == "sh":
            found += [line for line in block.splitlines() if line.strip()]
        elif not language:
            found.append(" ".join(inline.split()))
    return found


def commands(text: str, word: str) -> list[list[str]]:
    """The arguments of each ``word ...`` that is typed, up to a pipe or a comment."""
    lines = [re.split(r"\s(?:\|\|?|#)\s", line)[0] for line in typed(text)]
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{word} ")]


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
class TestRunbook:
    def test_every_call_is_an_address_with_that_method(self, runbook: Path) -> None:
        for line in (line for line in typed(runbook.read_text()) if line.startswith("curl ")):
            found = re.search(r"\$(U|H)(/[^\s\"'`;?]*)", line)
            assert found, line
            path = ("/api/v1" if found[1] == "U" else "") + found[2]
            view: Any = resolve(path).func
            method = re.search(r"-X (\w+)", line)
            wanted = method[1] if method else "POST" if " -d " in line else "GET"
            allowed = getattr(getattr(view, "view_class", None) or getattr(view, "cls", None), wanted.lower(), None)
            assert allowed or found[1] == "H", f"{wanted} {path}"

    def test_every_metric_is_told(self, runbook: Path) -> None:
        told = set(re.findall(r'"((?:tradingbot_)?[a-z_]+)"', SOURCE))
        for name in re.findall(r"\b(tradingbot_[a-z_]+|django_http_[a-z_]+)", runbook.read_text()):
            base = re.sub(r"_(total|count|sum|bucket)$", "", name)
            known = {base, base.removeprefix("tradingbot_")} & told or name.startswith("django_http_responses_total_by")
            beginning = name.endswith("_") and any(f"tradingbot_{one}".startswith(name) for one in told)
            assert known or beginning, name

    def test_every_page_and_every_button_is_in_the_admin(self, runbook: Path) -> None:
        text = CODE.sub(
            " ", runbook.read_text().replace("**not**", "").replace("**limit**", "").replace("**oldest**", "")
        )
        pages = {item["title"] for group in UNFOLD["SIDEBAR"]["navigation"] for item in group["items"]}
        bold = {" ".join(found.split()) for found in re.findall(r"\*\*([^*]+)\*\*", text)}
        assert bold - pages == set()
        rest = re.sub(r"\*\*[^*]+\*\*", "", text)
        buttons = {" ".join(found.split()) for found in re.findall(r"(?<![*\w])\*([^*]+?)\*", rest)}
        shown = ['"{}"', ">{}"]
        known = {name for name in buttons if any(one.format(name) in SOURCE + TEMPLATES for one in shown)}
        assert buttons - known == set()

    def test_every_setting_and_every_service_exists(self, runbook: Path) -> None:
        text = runbook.read_text()
        settings = {name.upper() for name in Config.model_fields}
        named = {word for code in typed(text) for word in re.findall(r"^[A-Z][A-Z]+(?:_[A-Z]+)*$", code)}
        assert named - settings - FOREIGN == set()
        assert {words[0] for words in commands(text, "logs")} <= SERVICES

    def test_every_line_of_the_log_that_is_searched_for_is_written(self, runbook: Path) -> None:
        text = runbook.read_text()
        searched = re.findall(r"logs \w+ \| grep (?:-E )?'?([a-z_|]+)'?", text)
        assert [name for found in searched for name in found.split("|") if f'"{name}"' not in SOURCE] == []

    def test_every_chapter_of_another_document_that_it_names_is_there(self, runbook: Path) -> None:
        text = " ".join(runbook.read_text().split())
        for target, chapter in re.findall(r'\]\(([^)]+)\)\)?, "([^"]+)"', text):
            assert re.search(rf"^## {re.escape(chapter)}", (runbook.parent / target).read_text(), re.M), chapter


def test_the_words_that_the_runbooks_use_are_given_for_both_places() -> None:
    for block in re.findall(r"```bash\n(.*?)```", SHARED.read_text(), re.S):
        given = set(re.findall(r"^(\w+)\(\)", block, re.M)) | set(re.findall(r"\b([A-Z])=", block))
        assert given == {"H", "U", "V", "R", "J", "manage", "sql", "logs", "metric"}


def test_the_alert_on_the_broker_asks_for_outcomes_that_are_counted() -> None:
    rules = (ROOT / "ops/alerts.yml").read_text()
    asked = re.findall(r'tradingbot_broker_calls_total\{outcome=~"([^"]+)"', rules)
    assert [name for found in asked for name in found.split("|") if f'"{name}"' not in SOURCE] == []
