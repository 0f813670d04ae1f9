"""The map of controls is complete: each gate has its row and its section, and each row's test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from backend.tradingbot.risk.gates import GATES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "controls.md").read_text()
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|\n").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\|[^|]+\|[^|]+\| `[a-z_]+` \|", line)
]


def test_every_gate_has_exactly_one_row_and_one_section_and_no_row_is_of_no_gate() -> None:
    assert sorted(row[2] for row in ROWS) == sorted(GATES)
    sections = re.findall(r"^## ([a-z_]+)$", PAGE, re.MULTILINE)
    assert sorted(sections) == sorted(GATES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2])
def test_a_row_says_everything_and_its_test_is_there(row: list[str]) -> None:
    assert len(row) == 5 and all(row), row
    file, _, name = row[4].partition("::")
    tree = ast.parse((ROOT / file).read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in tests
