"""The next session is disabled in one place, so that every block has its reason, its journal entry and its way out."""

from __future__ import annotations

import re
from pathlib import Path

BACKEND = Path(__file__).resolve().parents[2] / "backend" / "tradingbot"
MAKES_A_BLOCK = re.compile(
    r"\bReconciliationBlock\(|\bReconciliationBlock\.objects\.(create|bulk_create|get_or_create)"
)


def test_only_recon_blocks_places_a_block():
    found = {
        str(path.relative_to(BACKEND))
        for path in BACKEND.rglob("*.py")
        if "migrations" not in path.parts
        for line in path.read_text().splitlines()
        if MAKES_A_BLOCK.search(line) and not line.startswith("class ")
    }
    assert found == {"services/recon_blocks.py"}
