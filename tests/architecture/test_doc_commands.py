"""Every command that a document tells people to type is taken by the program that it is for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.typed_commands import (
    BLOCK,
    SHELL,
    commands,
    faults,
    lines,
    of_manage,
    subcommands_of,
    unread,
    words,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("ops/runbooks/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_that_its_parser_takes(name: str) -> None:
    text = (ROOT / name).read_text()
    assert faults(text) == []
    assert unread(text) == []


def test_every_block_of_shell_is_one_that_a_shell_reads() -> None:
    for name in NAMES:
        for _, language, block, _ in BLOCK.findall((ROOT / name).read_text()):
            if language in SHELL:
                done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
                assert (done.returncode, done.stderr) == (0, ""), f"{name}: {block}"


def misnamed(readme: str) -> list[str]:
    """What is wrong in the first column of the README's table of commands. A word alone may be the subcommand of the
    command before it, as ``withdraw`` is after ``corporate_action enter``."""
    found: list[str] = []
    table = readme.partition("| Command | Does |\n|---|---|\n")[2].partition("\n\n")[0]
    for row in table.splitlines():
        before = ""
        for code in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
            named = words(code)
            named = [before, *named] if named[0] in subcommands_of(before) else named
            found += of_manage(named, whole=False)
            before = named[0]
    return found if table else ["there is no table of commands"]


def test_the_readmes_table_names_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    assert misnamed(readme) == []
    for right, wrong, told in [
        ("| `feed declare CODE`", "| `feed declair CODE`", "manage.py feed has no subcommand declair"),
        ("`cache_bars`, `check_cache`", "`cache_bars`, `check_cash`", "manage.py has no command check_cash"),
        ("| `check_broker`", "| `check_brokr`", "manage.py has no command check_brokr"),
        ("| Command | Does |", "| Commands |", "there is no table of commands"),
    ]:
        assert right in readme
        assert [one.partition(":")[0] for one in misnamed(readme.replace(right, wrong))] == [told]


@pytest.mark.parametrize(
    ("name", "least"), [("README.md", 30), ("docs/deploy.md", 18), ("docs/breakers.md", 2), ("docs/upgrade.md", 5)]
)
def test_the_commands_of_a_document_are_found(name: str, least: int) -> None:
    assert sum(len(list(commands(line))) for line in lines((ROOT / name).read_text())) >= least


@pytest.mark.parametrize(
    ("name", "right", "wrong", "told"),
    [
        (
            "README.md",
            'make manage CMD="account create main --from-broker',
            'make manage CMD="account create main --frm-broker',
            "manage.py account has no option --frm-broker",
        ),
        ("README.md", "or `--from-broker` |", "or `--frm-broker` |", "no command has the option --frm-broker"),
        ("README.md", "`make sbom`", "`make sbomb`", "make has no target sbomb"),
        ("README.md", "PROMETHEUS=1", "PROMETEUS=1", "make knows no variable PROMETEUS"),
        ("README.md", "--role trader", "--role tradr", "manage.py key does not take create mean-bot --role tradr"),
        ("README.md", "production.integration_example", "production.integration", "Python finds no module"),
        ("docs/breakers.md", "--max-silence", "--max-silnce", "manage.py feed has no option --max-silnce"),
        ("docs/breakers.md", "feed list", "feeds list", "manage.py has no command feeds"),
        ("docs/deploy.md", "--no-deps worker notifier", "--no-deps worker notifer", "has no service notifer"),
        ("docs/deploy.md", "exec web python manage.py account", "exec wb python manage.py account", "no service wb"),
        (
            "docs/deploy.md",
            "manage.py journal verify --anchors",
            "manage.py journal verfy --anchors",
            "subcommand verfy",
        ),
        ("docs/deploy.md", "docker compose run --rm", "docker compose run --rn", "run has no option --rn"),
        ("docs/deploy.md", "docker compose build", "docker compose biuld", "docker compose biuld is not among"),
        ("docs/deploy.md", "--scale web=2", "--scale wed=2", "has no service wed"),
        ("docs/reconciliation.md", "--account A --date D", "--account A --dat D", "manage.py eod_recon has no option"),
        ("ops/runbooks/journal-broken.md", "cp worker:/var", "cp wrker:/var", "has no service wrker"),
        (
            "ops/runbooks/stale-data-feed.md",
            "manage feed list",
            "manage feed lst",
            "manage.py feed has no subcommand lst",
        ),
    ],
)
def test_a_planted_fault_is_told(name: str, right: str, wrong: str, told: str) -> None:
    text = (ROOT / name).read_text()
    assert right in text
    assert any(told in fault for fault in faults(text.replace(right, wrong)))


def test_a_command_in_a_block_that_nobody_reads_is_told() -> None:
    text = (ROOT / "docs/deploy.md").read_text().replace("```sh", "```text", 1)
    assert "docker compose up --detach --build" in unread(text)
