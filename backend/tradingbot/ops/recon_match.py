"""The match passes: which execution of ours is which of the broker's, strongest evidence first.

Invariants: every row is matched at most once, by the first pass that fits; no pass looks at the order of the rows; a
row that no pass matches is left over, never guessed. Exact matches stay frames: nothing here loops over rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from backend.tradingbot.ops.recon_frames import NUMBER
from backend.tradingbot.ops.recon_kinds import MatchPass, Tolerances

ROW = "row"  # the position of an execution in its own frame, the only name that is surely unique
_TERMS = ("symbol", "side", "qty", "price")


@dataclass(frozen=True)
class Matched:
    """``pairs``: (ours, theirs, match_pass) by row number; a group of partials has a line for each row on either side,
    with null on the other. ``clashes``: the row numbers of pairs that are surely the same execution and differ in what
    it was."""

    pairs: pl.DataFrame
    clashes: pl.DataFrame
    ours_left: pl.DataFrame
    theirs_left: pl.DataFrame

    def counts(self) -> dict[str, int]:
        """How many executions of ours each pass matched."""
        mine = self.pairs.filter(pl.col("ours").is_not_null())
        found = dict(mine.group_by("match_pass").agg(pl.len()).iter_rows())
        return {str(name): int(found.get(str(name), 0)) for name in MatchPass if found.get(str(name), 0)}


class _Left(NamedTuple):
    ours: pl.DataFrame
    theirs: pl.DataFrame


_PAIRS = {"ours": pl.UInt32, "theirs": pl.UInt32, "match_pass": pl.String}


def numbered(executions: pl.DataFrame) -> pl.DataFrame:
    return executions.with_row_index(ROW)


def match(ours: pl.DataFrame, theirs: pl.DataFrame, tolerances: Tolerances) -> Matched:
    """Match two numbered frames of executions. Each execution id stands at most once on a side: take duplicates out
    before (``recon_executions.without_duplicates``)."""
    joined = _by_execution_id(ours, theirs)
    bad = _differs(ours, theirs, joined, tolerances)
    clashes = joined.filter(bad).select(ROW, f"{ROW}_theirs")
    found = [_pairs(joined.filter(~bad), MatchPass.EXECUTION_ID)]
    left = _Left(
        ours.join(joined, left_on=ROW, right_on="row", how="anti"),
        theirs.join(joined, left_on=ROW, right_on="row_theirs", how="anti"),
    )
    for pairs, taken in _later_passes(left, tolerances):
        found.append(pairs)
        left = taken
    return Matched(pl.concat(found), clashes, left.ours, left.theirs)


def _later_passes(left: _Left, tolerances: Tolerances) -> Iterator[tuple[pl.DataFrame, _Left]]:
    steps = (
        ("order_id", MatchPass.ORDER_AND_TERMS, MatchPass.ORDER_TOTAL),
        ("client_order_id", MatchPass.CLIENT_ORDER_AND_TERMS, MatchPass.CLIENT_ORDER_TOTAL),
    )
    for key, on_terms, on_total in steps:
        for name, step in ((on_terms, _by_terms), (on_total, _by_total)):
            if not left.ours.height or not left.theirs.height:
                return
            pairs = step(left, key, tolerances).with_columns(pl.lit(str(name)).alias("match_pass"))
            pairs = pairs.select(pl.col(column).cast(kind) for column, kind in _PAIRS.items())
            left = _without(left, pairs)
            yield pairs, left


def _by_execution_id(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """Pairs by position (``here``, ``there``) with their row numbers; the terms stay where they are, since a day of a
    million of them side by side is what would take the most memory of a run."""
    named = [
        side.select(ROW, "execution_id", pl.int_range(pl.len()).alias(place)).drop_nulls("execution_id")
        for side, place in ((ours, "here"), (theirs, "there"))
    ]
    return named[0].join(named[1], on="execution_id", suffix="_theirs").drop("execution_id")


def _differs(ours: pl.DataFrame, theirs: pl.DataFrame, joined: pl.DataFrame, tolerances: Tolerances) -> pl.Series:
    """Which of the pairs differ in what the execution was, one column after the other; what is told on one side
    alone differs."""
    here, there = joined["here"], joined["there"]
    apart = (ours["price"].gather(here) - theirs["price"].gather(there)).abs()
    over = (pl.col("apart") > pl.lit(tolerances.price, dtype=NUMBER)).fill_null(True)
    differs = apart.to_frame("apart").select(over).to_series()
    for name in ("symbol", "side", "qty", "trade_date", "multiplier"):
        differs = differs | ours[name].gather(here).ne_missing(theirs[name].gather(there))
    return differs


def _pairs(joined: pl.DataFrame, name: MatchPass) -> pl.DataFrame:
    return joined.select(
        pl.col(ROW).cast(pl.UInt32).alias("ours"),
        pl.col(f"{ROW}_theirs").cast(pl.UInt32).alias("theirs"),
        pl.lit(str(name)).alias("match_pass"),
    )


def _by_terms(left: _Left, key: str, tolerances: Tolerances) -> pl.DataFrame:
    """The same order, terms and day, at the same time within the tolerance; twins by their rank in time."""
    keys = [key, *_TERMS, "trade_date"]
    ours, theirs = (_ranked(side, keys) for side in left)
    joined = ours.join(theirs, on=[*keys, "rank"], suffix="_theirs")
    apart = (pl.col("occurred_at") - pl.col("occurred_at_theirs")).abs()
    return joined.filter(apart <= pl.lit(tolerances.time)).select(
        pl.col(ROW).alias("ours"), pl.col(f"{ROW}_theirs").alias("theirs")
    )


def _ranked(side: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    known = side.filter(pl.col(keys[0]).is_not_null())
    ordered = known.sort("occurred_at", "execution_id", nulls_last=True)
    return ordered.select(*keys, ROW, "occurred_at", pl.int_range(pl.len()).over(keys).alias("rank"))


def _by_total(left: _Left, key: str, tolerances: Tolerances) -> pl.DataFrame:
    """What is left of one order on either side adds up to the same quantity, at the same average price within the
    tolerance, in one symbol and on one side."""
    ours, theirs = (_totals(side, key) for side in left)
    joined = ours.join(theirs, on=[key, "symbol", "side", "trade_date"], suffix="_theirs")
    ticks = pl.lit(tolerances.average_price_ticks, dtype=NUMBER)
    average, other = pl.col("value") / pl.col("qty"), pl.col("value_theirs") / pl.col("qty_theirs")
    tick = pl.when(other >= 1).then(pl.lit("0.01").cast(NUMBER)).otherwise(pl.lit("0.0001").cast(NUMBER))
    same = (pl.col("qty") == pl.col("qty_theirs")) & ((average - other).abs() <= ticks * tick)
    whole = joined.filter(same).select(key)
    lines = [
        side.join(whole, on=key, how="semi").select(
            pl.col(ROW).alias(name), pl.lit(None, dtype=pl.UInt32).alias(other_name)
        )
        for side, name, other_name in ((left.ours, "ours", "theirs"), (left.theirs, "theirs", "ours"))
    ]
    return pl.concat(lines, how="diagonal")


def _totals(side: pl.DataFrame, key: str) -> pl.DataFrame:
    """One line an order, and only for orders that stayed in one symbol, on one side, on one day."""
    groups = (
        side.filter(pl.col(key).is_not_null())
        .group_by(key)
        .agg(
            pl.col("symbol").n_unique().alias("symbols"),
            pl.col("side").n_unique().alias("sides"),
            pl.col("trade_date").n_unique().alias("dates"),
            pl.col("symbol", "side", "trade_date").first(),
            pl.col("qty").sum(),
            (pl.col("qty") * pl.col("price")).sum().alias("value"),
        )
    )
    return groups.filter((pl.col("symbols") == 1) & (pl.col("sides") == 1) & (pl.col("dates") == 1))


def _without(left: _Left, pairs: pl.DataFrame) -> _Left:
    return _Left(
        left.ours.join(pairs.select(pl.col("ours").drop_nulls()), left_on=ROW, right_on="ours", how="anti"),
        left.theirs.join(pairs.select(pl.col("theirs").drop_nulls()), left_on=ROW, right_on="theirs", how="anti"),
    )
