"""Reconciliation as properties: the order of rows does not matter, the same twice is the same, and what the breaks say
is missing is exactly what makes both books agree."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.tradingbot.ops.recon_engine import Day, reconcile_day
from backend.tradingbot.ops.recon_frames import Books, frame

D = Decimal
DAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)
NOON = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)
CHANGES = st.sampled_from(
    ["same"] * 6
    + ["lost", "only_theirs", "qty", "price", "side", "symbol", "date", "twice", "renamed", "nameless", "split", "bust"]
)


@st.composite
def days(draw):
    """Our executions, and the broker's: the same, but for a change here and there."""
    ours, theirs = [], []
    for number in range(draw(st.integers(0, 12))):
        row = {
            "execution_id": f"e{number}", "order_id": f"b{number // 2}", "client_order_id": f"c{number // 2}",
            "symbol": draw(st.sampled_from(["AAPL", "MSFT"])), "side": draw(st.sampled_from(["buy", "sell"])),
            "qty": D(draw(st.integers(1, 5)) * 10), "price": D(draw(st.integers(9_990, 10_010))) / 100,
            "occurred_at": NOON + timedelta(seconds=draw(st.integers(0, 30))), "trade_date": DAY,
        }  # fmt: skip
        change = draw(CHANGES)
        if change != "only_theirs":
            ours.append(row)
        theirs += changed(row, change)
    return ours, theirs


def changed(row, change):
    other = {
        "qty": {"qty": row["qty"] + 1}, "price": {"price": row["price"] + D("0.01")},
        "side": {"side": "sell" if row["side"] == "buy" else "buy"}, "symbol": {"symbol": "IBM"},
        "date": {"trade_date": NEXT}, "renamed": {"execution_id": f"{row['execution_id']}-x"},
        "nameless": {"execution_id": None},
    }  # fmt: skip
    if change == "lost":
        return []
    if change == "twice":
        return [row, {**row, "execution_id": f"{row['execution_id']}-y"}]
    if change == "split":
        half = row["qty"] / 2
        return [{**row, "qty": half, "execution_id": f"{row['execution_id']}-{n}"} for n in (1, 2)]
    if change == "bust":
        name = row["execution_id"]
        return [row, {**row, "execution_id": f"{name}-b", "kind": "bust", "refers_to": name}]
    return [{**row, **other.get(change, {})}]


def books(rows):
    held: dict[str, Decimal] = {}
    cash = D(0)
    back = {row["refers_to"] for row in rows if row.get("kind") == "bust"}
    for row in rows:
        if row.get("kind") != "bust" and row["execution_id"] not in back or row["execution_id"] is None:
            signed = row["qty"] if row["side"] == "buy" else -row["qty"]
            held[row["symbol"]] = held.get(row["symbol"], D(0)) + signed
            cash -= signed * row["price"]
    positions = [{"symbol": symbol, "qty": qty} for symbol, qty in sorted(held.items()) if qty]
    return Books(frame("executions", rows), positions=frame("positions", positions), cash=cash), held


def told(result):
    return [(each.key, each.digest, each.effects, each.cash_effect, each.explanation) for each in result.breaks]


@given(days(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_rows_changes_nothing_and_the_same_again_is_the_same(day, shuffler):
    ours, theirs = day
    first = reconcile_day(books(ours)[0], books(theirs)[0], Day(DAY))
    assert told(reconcile_day(books(ours)[0], books(theirs)[0], Day(DAY))) == told(first)
    mixed = [list(ours), list(theirs)]
    for rows in mixed:
        shuffler.shuffle(rows)
    again = reconcile_day(books(mixed[0])[0], books(mixed[1])[0], Day(DAY))
    assert (told(again), again.counts) == (told(first), first.counts)


@given(days())
@settings(max_examples=50, deadline=None)
def test_ours_and_what_the_breaks_say_is_missing_are_theirs_to_the_share_and_to_the_cent(day):
    (ours, held), (theirs, other) = books(day[0]), books(day[1])
    result = reconcile_day(ours, theirs, Day(DAY))
    assert result.complete
    for each in result.breaks:
        for symbol, qty in each.effects:
            held[symbol] = held.get(symbol, D(0)) + qty
    assert {s: q for s, q in held.items() if q} == {s: q for s, q in other.items() if q}
    missing = theirs.cash - ours.cash - sum((each.cash_effect for each in result.breaks), D(0))
    assert abs(missing) <= D("0.01")


@given(days())
@settings(max_examples=40, deadline=None)
def test_equal_sides_have_no_break(day):
    rows = [row for row in day[1] if row.get("kind") != "bust"]
    known = {row["execution_id"]: row for row in rows if row["execution_id"]}
    side = [*known.values(), *(row for row in rows if row["execution_id"] is None)]
    assert told(reconcile_day(books(side)[0], books(side)[0], Day(DAY))) == []


@given(days())
@settings(max_examples=50, deadline=None)
def test_what_is_carried_into_an_empty_session_is_found_again_under_the_same_name_with_the_same_evidence(day):
    (ours, _), (theirs, _) = books(day[0]), books(day[1])
    first = reconcile_day(ours, theirs, Day(DAY))
    carried = [each for each in first.breaks if each.is_carried]
    retaken = {
        row["execution_id"]
        for each in carried
        if each.kind == "bust_or_correction"
        for row in (*each.carry_ours, *each.carry_theirs)
    }
    following = Day(
        NEXT,
        carried_ours=frame("executions", [dict(row) for each in carried for row in _plain(each.carry_ours)]),
        carried_theirs=frame("executions", [dict(row) for each in carried for row in _plain(each.carry_theirs)]),
        standing=tuple(each for each in first.breaks if not each.is_carried and " " not in each.subject),
        taken_back=frozenset(retaken),
    )
    empty_ours = Books(frame("executions"), positions=ours.positions, cash=ours.cash)
    empty_theirs = Books(frame("executions"), positions=theirs.positions, cash=theirs.cash)
    again = reconcile_day(empty_ours, empty_theirs, following)
    assert {(each.key, each.digest) for each in again.breaks} == {(each.key, each.digest) for each in first.breaks}


def _plain(rows):
    return [{name: value for name, value in row.items() if name != "row"} for row in rows]
