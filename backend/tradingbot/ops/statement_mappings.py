"""How one broker's CSV is read: a saved, versioned mapping from its columns and words to ours.

Invariants: a mapping is checked when it is made, so that no file is read by one that makes no sense; it never changes,
a new version takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.ops.recon_frames import SCHEMAS
from backend.tradingbot.ops.recon_kinds import ActivityKind

TABLES = ("executions", "positions", "activities", "cash")
UNUSABLE = ('"', "\n", "\r", "\x00")
NEEDED = {
    "executions": ("symbol", "qty", "price", "occurred_at"), "positions": ("symbol", "qty"),
    "activities": ("activity_id", "kind", "amount", "date"), "cash": ("amount",),
}  # fmt: skip


@dataclass(frozen=True)
class CsvMapping:
    """How to read one broker's CSV. ``columns`` maps our field to the file's header.

    ``side_words`` maps the file's words to buy and sell; without a side column the sign of the quantity is the side.
    ``kind_words`` does so for activities. ``date_format`` and ``time_format`` are strptime patterns; empty is ISO.
    ``trailer`` is the first cell of a last line whose second cell counts the rows and whose third, if any, totals them.
    """

    name: str
    version: int
    table: str
    columns: Mapping[str, str]
    delimiter: str = ","
    encoding: str = "utf-8"
    decimal_mark: str = "."
    thousands_mark: str = ""
    time_zone: str = "America/New_York"
    date_format: str = ""
    time_format: str = ""
    side_words: Mapping[str, str] = field(
        default_factory=lambda: {"BUY": "buy", "SELL": "sell", "B": "buy", "S": "sell"}
    )
    kind_words: Mapping[str, str] = field(default_factory=dict)
    account_column: str = ""
    trailer: str = ""

    def __post_init__(self) -> None:
        errors = FieldErrors()
        known = ("amount",) if self.table == "cash" else tuple(SCHEMAS.get(self.table, ()))
        if self.table not in TABLES:
            errors.add("table", self.table, "is not a table", "use " + ", ".join(TABLES))
        for name in [*NEEDED.get(self.table, ())]:
            if name not in self.columns:
                errors.add(f"columns.{name}", None, "is missing", "name the column of the file that holds it")
        for name in self.columns:
            if name not in known:
                errors.add(f"columns.{name}", name, "is not a field", "use " + ", ".join(known))
        odd = len(self.delimiter) != 1 or not (self.delimiter.isascii() and self.delimiter not in UNUSABLE)
        if odd or self.decimal_mark not in (".", ",") or self.thousands_mark == self.decimal_mark:
            errors.add(
                "delimiter", self.delimiter, "or the marks make no sense", "one ASCII character; decimal_mark . or ,"
            )
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            errors.add("time_zone", self.time_zone, "is not a time zone", "for example America/New_York")
        if set(self.side_words.values()) - {"buy", "sell"}:
            errors.add("side_words", dict(self.side_words), "must give buy or sell", 'for example {"BOT": "buy"}')
        if set(self.kind_words.values()) - {str(kind) for kind in ActivityKind}:
            errors.add("kind_words", dict(self.kind_words), "must give kinds", "use " + ", ".join(ActivityKind))
        if errors:
            raise InvalidInputError(errors.errors, code="invalid_mapping")
