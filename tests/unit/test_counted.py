"""What all processes counted, added up: the same as prometheus_client's own collector says of the same files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from backend.tradingbot.infra.counted import counted

BOUNDS = ("0.005", "0.1", "10.0", "+Inf")
NAMES = st.sampled_from(["orders", "order_seconds", "z"])
VALUES = st.integers(0, 10**12).map(lambda quarters: quarters / 4)  # whose sums are exact in any order
LABELS = st.dictionaries(st.sampled_from(["gate", "zone", "a"]), st.text(max_size=6), max_size=2)
PROCESS = st.fixed_dictionaries({"counter": st.lists(st.tuples(NAMES, LABELS, VALUES)), "histogram": st.lists(
    st.tuples(NAMES, LABELS, st.lists(VALUES, min_size=len(BOUNDS), max_size=len(BOUNDS)), VALUES))})  # fmt: skip


def write(folder: Path, process: int, kind: str, values: dict[str, float]) -> None:
    file = MmapedDict(str(folder / f"{kind}_{process}.db"))
    for key, value in values.items():
        file.write_value(key, value, 0.0)
    file.close()


def told(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = list(text_string_to_metric_families(text.decode()))
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "a series was told twice"
    return found | {("# " + family.name, ((family.type, family.documentation),)): 0.0 for family in families}


def by_the_library(folder: Path) -> bytes:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return generate_latest(registry)


@given(processes=st.lists(PROCESS, max_size=3))
def test_it_is_what_the_library_says(processes, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("counted")
    for number, process in enumerate(processes):
        counters = {mmap_key(f"c_{n}", f"c_{n}_total", tuple(d), tuple(d.values()), "A \\ b\nc"): v
                    for n, d, v in process["counter"]}  # fmt: skip
        write(folder, number, "counter", counters)
        histograms = {}
        for name, labels, buckets, total in process["histogram"]:
            names, texts = (*labels, "le"), tuple(labels.values())
            for bound, value in zip(BOUNDS, buckets, strict=True):
                histograms[mmap_key(f"h_{name}", f"h_{name}_bucket", names, (*texts, bound), "Help.")] = value
            histograms[mmap_key(f"h_{name}", f"h_{name}_sum", tuple(labels), texts, "Help.")] = total
        write(folder, number, "histogram", histograms)
    assert told(counted(folder)) == told(by_the_library(folder))


def test_two_builds_that_explain_a_series_differently_make_it_once(tmp_path: Path) -> None:
    for process, text in enumerate(("Old.", "New.")):
        write(tmp_path, process, "counter", {json.dumps(["c", "c_total", {}, text]): 2.0})
    assert told(counted(tmp_path))["c_total", ()] == 4.0


def test_buckets_are_in_order_before_the_count_and_each_holds_the_lower_ones(tmp_path: Path) -> None:
    values = {mmap_key("h", "h_bucket", ("le",), (bound,), "Help."): 1.0 for bound in reversed(BOUNDS)}
    write(tmp_path, 1, "histogram", values | {mmap_key("h", "h_sum", (), (), "Help."): 2.5})
    assert counted(tmp_path).decode().splitlines()[2:] == [
        'h_bucket{le="0.005"} 1.0', 'h_bucket{le="0.1"} 2.0', 'h_bucket{le="10.0"} 3.0', 'h_bucket{le="+Inf"} 4.0',
        "h_sum 2.5", "h_count 4.0",
    ]  # fmt: skip


def test_a_kind_that_is_not_added_up_here_is_told_by_the_library(tmp_path: Path) -> None:
    write(tmp_path, 7, "gauge_all", {mmap_key("g", "g", (), (), "Help."): 3.0})
    write(tmp_path, 7, "counter", {mmap_key("c", "c_total", (), (), "Help."): 1.0})
    assert told(counted(tmp_path)) == told(by_the_library(tmp_path))
    assert told(counted(tmp_path))["g", (("pid", "7"),)] == 3.0


def test_a_file_that_is_made_and_not_yet_filled_is_an_error_and_none_is_nothing(tmp_path: Path) -> None:
    assert counted(tmp_path) == b""
    (tmp_path / "counter_1.db").touch()
    with pytest.raises(struct.error):
        counted(tmp_path)
