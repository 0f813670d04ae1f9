"""What the documents tell people to type is typed here, against a stack of its own.

In docs/api-guide.md a line ``# -> text`` says what the command before it prints; the guide must print exactly that.
Links between documents must lead somewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.bench.stack_load import RunningStack, stack
from tests.integration.test_metric_names import LABEL, NAME, SUFFIXES, counted, expressions

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("ops/runbooks/*.md")])


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningStack]:
    with stack(FEED="") as started:
        yield started


def typed(script: str, running: RunningStack) -> str:
    """What a shell prints for the script; it must not fail on the way."""
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "STATE_DIR": str(running.state)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_api_guide_prints_what_it_says(running: RunningStack) -> None:
    script = "".join(blocks("docs/api-guide.md", "sh"))
    program = running.state / "guide.py"
    program.write_text("".join(blocks("docs/api-guide.md", "python")))
    script += f"set -a; . '{running.state}/demo.env'; ID=$ID python3 '{program}'\n# -> None\n"
    expected = re.findall(r"^# -> (.*)$", script, re.M)
    assert len(expected) >= 12
    assert typed(script, running).splitlines() == expected


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_walk_of_the_readme_goes_as_it_says(running: RunningStack) -> None:
    walk = next(block for block in blocks("README.md", "sh") if "ID=walk-" in block)
    said = typed(walk.replace(". .state/demo.env", f". '{running.state}/demo.env'"), running)
    assert re.findall(r"^\d{3}$", said, re.M) == ["201", "200", "422", "409", "200"]
    assert '"status": "filled"' in said
    assert "Idempotent-Replayed: true" in said
    assert "CIRCUIT_OPEN account:demo: look" in said


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_running_stack_tells_what_alerts_and_dashboards_ask_with_their_labels(running: RunningStack) -> None:
    text = requests.get(f"{running.url}/metrics", timeout=30).text
    told: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            told.setdefault(line.split()[2], set())
        elif line and not line.startswith("#"):
            name, _, labels = line.partition("{")
            told.setdefault(name.split(" ")[0], set()).update(re.findall(r'(\w+)="', labels))
    # What happens to an order and to a task has happened by now; what has not happened yet has no labels to show.
    asked = [(name, labels) for expression in expressions() for name, labels in NAME.findall(expression)]
    happened = re.compile(r"tradingbot_(orders|denials|gate_seconds|order_seconds|broker_calls|tasks?_)")
    missing = [name for name, _ in asked if name not in told and (happened.match(name) or not counted_by_event(name))]
    assert sorted(set(missing)) == []
    wrong = [(name, labels) for name, labels in asked if told.get(name) and set(LABEL.findall(labels)) - told[name]]
    assert wrong == []


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_what_the_runbooks_tell_people_to_look_at_can_be_looked_at(running: RunningStack) -> None:
    """Each line under "Look here" ends with 0 and prints something, with the words that their README gives."""
    words = blocks("ops/runbooks/README.md", "bash")[1]
    here = f"manage() {{ '{sys.executable}' '{ROOT}/manage.py' \"$@\"; }}\nsql() {{ echo \"$1\"; }}\n"
    begin = words.replace("${STATE_DIR:-.state}", str(running.state)) + here
    failed, seen = [], 0
    for runbook in sorted((ROOT / "ops/runbooks").glob("*.md")):
        look = runbook.read_text().partition("## Look here")[2].partition("## Do this")[0]
        lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", look, re.M | re.S) for line in block.splitlines()]
        script = "".join(f'{{ {line.split("  #")[0]}\n}} > line; echo "$? $(wc -c < line)"\n' for line in lines)
        done = subprocess.run(
            ["bash", "-uc", f"{begin}\nset -o pipefail\n{script}"],
            cwd=running.state,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        ends = done.stdout.splitlines()
        assert len(ends) == len(lines), done.stderr
        seen += len(lines)
        bad = [line for line, end in zip(lines, ends, strict=True) if not re.fullmatch(r"0 [1-9]\d*|0 0", end)]
        quiet = [line for line, end in zip(lines, ends, strict=True) if end == "0 0" and "||" not in line]
        failed += [(runbook.name, line, done.stderr[-300:]) for line in [*bad, *quiet]]
    assert failed == []
    assert seen >= 40


def counted_by_event(name: str) -> bool:
    """A counter or histogram with labels: nothing is told of it before the first event."""
    base = next((name.removesuffix(end) for end in SUFFIXES if name.removesuffix(end) in counted()), name)
    return len(counted().get(base, {"le"})) > 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_the_documents_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_setting_is_in_the_readme_and_every_setting_there_exists() -> None:
    from backend.settings.config import Config

    rows = re.findall(r"^\| (`[A-Z][A-Z0-9_`, ]+`) \|", (ROOT / "README.md").read_text(), re.M)
    told = {name for row in rows for name in re.findall(r"[A-Z][A-Z0-9_]+", row)}
    settings = {name.upper() for name in Config.model_fields}
    assert settings - told == set()
    # what ops/stack.py reads itself
    assert told - settings <= {"FEED", "FEED_SECONDS", "PORT", "PROMETHEUS", "PROMETHEUS_PORT"}
