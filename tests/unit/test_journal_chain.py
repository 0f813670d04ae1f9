"""The journal's chain: any change, removal or reordering is found, at the entry where it happened."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backend.tradingbot.ops.journal import GENESIS, ChainReport, Entry, entry_hash, verify_chain

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
Chain = list[tuple[Entry, str]]


def entry(seq: int) -> Entry:
    at = START + timedelta(seconds=seq)
    return Entry("orders", seq, at, "order.accepted", "trader", f"order-{seq}", "a" * 32, "build-1", {"qty": str(seq)})


def sealed(entries: list[Entry]) -> Chain:
    previous, chain = GENESIS, []
    for one in entries:
        previous = entry_hash(previous, one)
        chain.append((one, previous))
    return chain


@pytest.fixture
def chain() -> Chain:
    return sealed([entry(seq) for seq in range(1, 6)])


def test_an_untouched_chain_holds_to_its_head(chain: Chain) -> None:
    report = verify_chain(chain)
    assert report == ChainReport(5, chain[-1][1])
    assert report.intact is True


def test_an_empty_chain_holds_and_its_head_is_the_genesis() -> None:
    assert verify_chain([]) == ChainReport(0, "0" * 64)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize(
    "change",
    [
        {"chain": "breakers"},
        {"at": START},
        {"kind": "order.denied"},
        {"actor": "nobody"},
        {"subject": "order-99"},
        {"trace_id": "b" * 32},
        {"build_id": "build-2"},
        {"data": {"qty": "99"}},
        {"data": {}},
    ],
)
def test_a_changed_field_is_found_at_its_entry(chain: Chain, place: int, change: dict[str, Any]) -> None:
    chain[place] = (replace(chain[place][0], **change), chain[place][1])
    head = chain[place - 1][1] if place else GENESIS
    report = verify_chain(chain)
    assert report == ChainReport(place, head, place + 1, f"entry {place + 1} does not match its hash")
    assert report.intact is False


@pytest.mark.parametrize("place", range(4))
def test_a_change_with_its_own_hash_made_anew_is_found_at_the_next_entry(chain: Chain, place: int) -> None:
    forged = replace(chain[place][0], actor="nobody")
    chain[place] = (forged, entry_hash(chain[place - 1][1] if place else GENESIS, forged))
    report = verify_chain(chain)
    assert (report.entries, report.broken_at) == (place + 1, place + 2)


@pytest.mark.parametrize("place", range(4))
def test_a_removed_entry_is_missed_at_its_place(chain: Chain, place: int) -> None:
    head = chain[place - 1][1] if place else GENESIS
    del chain[place]
    expected = ChainReport(place, head, place + 1, f"entry {place + 1} is missing; found {place + 2}")
    assert verify_chain(chain) == expected


@pytest.mark.parametrize("place", range(4))
def test_a_removed_entry_is_found_also_when_the_rest_was_renumbered(chain: Chain, place: int) -> None:
    del chain[place]
    renumbered = [(replace(one, seq=seq), stored) for seq, (one, stored) in enumerate(chain, start=1)]
    assert verify_chain(renumbered).broken_at == place + 1


@pytest.mark.parametrize("place", range(4))
def test_two_swapped_entries_are_found_at_the_first_of_them(chain: Chain, place: int) -> None:
    chain[place], chain[place + 1] = chain[place + 1], chain[place]
    assert verify_chain(chain).broken_at == place + 1
    renumbered = [(replace(one, seq=seq), stored) for seq, (one, stored) in enumerate(chain, start=1)]
    assert verify_chain(renumbered).broken_at == place + 1


def test_an_entry_that_stands_twice_is_found_at_the_second(chain: Chain) -> None:
    chain.insert(3, chain[2])
    assert verify_chain(chain) == ChainReport(3, chain[2][1], 4, "entry 4 is missing; found 3")


def test_a_cut_end_holds_but_has_another_head_than_the_anchor(chain: Chain) -> None:
    anchor = verify_chain(chain)
    cut = verify_chain(chain[:-1])
    assert cut == ChainReport(4, chain[3][1])
    assert (cut.entries, cut.head) != (anchor.entries, anchor.head)


def test_a_build_stamp_is_part_of_the_hash_and_an_entry_without_one_keeps_the_hash_it_had() -> None:
    old = entry(1)
    assert entry_hash(GENESIS, old) == "13aff9d04fa98fc9de83c846eab6b0c11ae7676cca004ccb306f469ec56dc477"
    stamped = replace(old, build_stamp="0123456789abcdef")
    assert len({entry_hash(GENESIS, one) for one in (old, stamped, replace(old, build_stamp="0123456789abcdee"))}) == 3
    chain = sealed([stamped])
    assert verify_chain([(old, chain[0][1])]).broken_at == 1  # a stamp cannot be taken away either
