"""What all processes of a machine counted, in Prometheus' text format, from the files that prometheus_client keeps.

The library's own collector says the same (``tests/unit/test_counted.py`` compares the two) at five times the cost: it
parses every key anew for each scrape, on the processors that orders need (ADR 0003). Here a process parses a key once.
Counters and histograms are added up here; whatever else there may be is left to the library.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from math import inf
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

COUNTER, HISTOGRAM = "counter", "histogram"
MOST_KEYS = 50_000


class Series(NamedTuple):
    """One series. They sort as the text has them: by family, by labels, from the lowest bucket up, then the sum."""

    family: str
    labels: str
    bound: float
    name: str


Row = tuple[Series, float]


def counted(folder: Path) -> bytes:
    """The text of all files in ``folder``; ``struct.error`` when one was made and is not yet filled."""
    by_key: dict[str, dict[str, float]] = {COUNTER: defaultdict(float), HISTOGRAM: defaultdict(float)}
    others = []
    for path in map(str, folder.glob("*.db")):
        values = by_key.get(Path(path).name.partition("_")[0])
        if values is None:
            others.append(path)
            continue
        for key, value, _, _ in MmapedDict.read_all_values_from_file(path):
            values[key] += value
    text = "".join(line for kind, values in by_key.items() for line in _lines(kind, values))
    return text.encode() + (_by_the_library(others) if others else b"")


def _lines(kind: str, by_key: dict[str, float]) -> Iterator[str]:
    values: dict[Series, float] = defaultdict(float)
    texts: dict[str, str] = {}
    for key, value in by_key.items():
        series, told = _parsed(key)
        values[series] += value  # two builds may explain one series differently
        texts[series.family] = told
    for family, rows in groupby(sorted(values.items()), lambda row: row[0].family):
        name = f"{family}_total" if kind == COUNTER else family
        yield f"# HELP {name} {texts[family]}\n# TYPE {name} {kind}\n"
        yield from (_histogram if kind == HISTOGRAM else _counter)(rows)


def _counter(rows: Iterable[Row]) -> Iterator[str]:
    return (_line(series.name, series.labels, value) for series, value in rows)


def _histogram(rows: Iterable[Row]) -> Iterator[str]:
    """The files hold what fell into each bucket; the text tells what fell into it or a lower one, and the count."""
    for labels, members in groupby(rows, lambda row: row[0].labels):
        total = 0.0
        for series, value in members:
            if series.name.endswith("_sum"):
                yield _line(series.name, labels, value)
                continue
            total += value
            bound = f'le="{floatToGoString(series.bound)}"'
            yield _line(series.name, f"{labels},{bound}" if labels else bound, total)
        yield _line(f"{series.family}_count", labels, total)


def _line(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {floatToGoString(value)}\n" if labels else f"{name} {floatToGoString(value)}\n"


@lru_cache(maxsize=MOST_KEYS)
def _parsed(key: str) -> tuple[Series, str]:
    """The series of a key in the files, and its family's explanation."""
    family, name, labels, told = json.loads(key)
    bound = float(labels.pop("le", inf))
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels.items()))
    return Series(family, pairs, bound, name), told.replace("\\", r"\\").replace("\n", r"\n")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Others(Collector):
    def __init__(self, files: list[str]) -> None:
        self._files = files

    def collect(self) -> Iterable[Metric]:
        yield from MultiProcessCollector.merge(self._files)


def _by_the_library(files: list[str]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Others(files))
    return generate_latest(registry)
