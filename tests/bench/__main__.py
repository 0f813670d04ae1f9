"""Run the benchmarks and keep one JSON line a figure.

A benchmark is a function ``bench_*`` in a module ``bench_*.py`` of this folder that yields ``Figure``s. Figures are
medians of several passes; on a busy machine compare ratios within one run, not runs with each other.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from backend.tradingbot.infra.build_info import build_id
from tests.bench.measuring import Figure

HERE = Path(__file__).parent


def benchmarks(only: str) -> Iterator[tuple[str, object]]:
    for path in sorted(HERE.glob("bench_*.py")):
        module = importlib.import_module(f"tests.bench.{path.stem}")
        for name in sorted(vars(module)):
            if name.startswith("bench_") and only in f"{path.stem}.{name}":
                yield f"{path.stem.removeprefix('bench_')}.{name.removeprefix('bench_')}", getattr(module, name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Run the benchmarks.")
    parser.add_argument("--only", default="", help="Those whose name contains this.")
    only = parser.parse_args().only
    target = Path(os.environ.get("STATE_DIR", ".state")) / "bench.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    about = {"build_id": build_id(), "python": platform.python_version(), "cores": os.cpu_count()}
    with target.open("a") as kept:
        for name, run in benchmarks(only):
            for figure in run():  # type: ignore[operator]
                assert isinstance(figure, Figure)
                line = {"bench": name, **figure.as_dict(), "at": datetime.now(UTC).isoformat(), **about}
                kept.write(json.dumps(line) + "\n")
                kept.flush()
                print(f"{name:<40} {figure.name:<52} {figure.value:>12,.2f} {figure.unit}", flush=True)
    print(f"kept in {target}")


if __name__ == "__main__":
    main()
