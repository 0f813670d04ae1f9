"""What is stopped now: every breaker, halt, block, stop of data and missing sign of life that keeps orders back.

Each says why, since when, until when or until what, who may lift it, and what to do next. Invariants: one statement a
kind; what comes in numbers is one line; the most serious come first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Count, Min

from backend.tradingbot.models import (
    Account,
    Breaker,
    DataStop,
    DisabledPattern,
    KillSwitchRun,
    ReconciliationBlock,
    TradingState,
)
from backend.tradingbot.selectors.blocks import blocks_of
from backend.tradingbot.selectors.overview_parts import FeedLine

if TYPE_CHECKING:
    from backend.tradingbot.selectors.overview import AccountLine

MOST = 40
RISK = "the risk role"


@dataclass(frozen=True)
class Stop:
    """``page`` and ``pk`` name the row that the next step is taken at; ``needs`` is the permission for that step."""

    kind: str
    level: str
    icon: str
    word: str
    scope: str
    why: str
    since: datetime | None
    until: datetime | None
    until_what: str
    who: str
    act: str
    page: str
    pk: Any = None
    needs: str = ""


def standing_stops(
    now: datetime,
    longest: timedelta,
    accounts: list[AccountLine],
    calendars: list[tuple[Any, ...]],
    feeds: Iterable[FeedLine],
) -> list[Stop]:
    found = [
        *_kill_switch(),
        *_breakers(now),
        *_states(),
        *_unevaluated(accounts, now, longest),
        *_unknown_equity(accounts),
    ]
    found += [*_silent(feeds), *_blocks(now, calendars), *_data(), *_patterns()]
    return sorted(found, key=lambda stop: stop.level != "danger")[:MOST]


def _kill_switch() -> Iterable[Stop]:
    for run in KillSwitchRun.objects.filter(finished_at=None).order_by("id")[:MOST]:
        left = "not asked yet" if run.open_orders is None else f"{run.open_orders} orders open"
        what = "cancelling and flattening" if run.flatten else "cancelling"
        yield Stop(
            "kill_switch", "danger", "front_hand", f"kill switch: {what}", run.scope, f"{run.reason} ({left})",
            run.started_at, None, "nothing is open any more", RISK, "Watch it", "kill_switch", run.pk,
            "view_killswitchrun",
        )  # fmt: skip


def _breakers(now: datetime) -> Iterable[Stop]:
    rows = Breaker.objects.filter(tripped_at__isnull=False).order_by("-tripped_at")
    second = settings.TRADINGBOT.reset_second_person
    for row in rows.only("id", "scope", "reason", "tripped_at", "cooldown_sec")[:MOST]:
        assert row.tripped_at is not None
        over = row.tripped_at + timedelta(seconds=row.cooldown_sec)
        yield Stop(
            "breaker", "danger", "electric_bolt", "breaker open", row.scope, row.reason, row.tripped_at,
            over if over > now else None, "a person resets it", RISK + (" and a second person" if second else ""),
            "Reset", "breaker_reset", row.pk, "reset_breaker",
        )  # fmt: skip


def _states() -> Iterable[Stop]:
    for row in TradingState.objects.exclude(state="active").order_by("-state", "-changed_at")[:MOST]:
        halted = row.state == "halted"
        why = f"{row.reason} ({row.actor})" if row.actor else row.reason
        yield Stop(
            "trading_state", "danger" if halted else "warning", "block" if halted else "trending_down",
            "halted" if halted else "reduces only", row.scope, why,
            row.changed_at, None, "a person re-activates it", RISK, "Re-activate", "activate", row.pk, "reset_breaker",
        )  # fmt: skip


def _named(codes: list[str]) -> str:
    shown = ", ".join(codes[:5])
    return shown if len(codes) <= 5 else f"{shown} and {len(codes) - 5} more"


def _unevaluated(accounts: list[AccountLine], now: datetime, longest: timedelta) -> Iterable[Stop]:
    """Ticks mark the accounts too, but only the worker marks the firm: without it the accounts alone look well."""
    late = [(line.code, line.evaluated_at) for line in accounts if line.unevaluated]
    firm = Breaker.objects.filter(scope="firm").values_list("evaluated_at", flat=True).first()
    if accounts and (firm is None or abs(now - firm) > longest):
        late.insert(0, ("firm", firm))
    if late:
        since = min((at for _, at in late if at), default=None)
        yield Stop(
            "unevaluated", "danger", "heart_broken", "not evaluated", _named([name for name, _ in late]),
            "the breaker was not evaluated of late, so new risk is denied", since, None,
            "the worker marks the account again", "whoever runs the worker and beat", "See the breakers", "breakers",
            needs="view_breaker",
        )  # fmt: skip


def _unknown_equity(accounts: list[AccountLine]) -> Iterable[Stop]:
    unknown = [line for line in accounts if line.equity is None and not line.unevaluated]
    if unknown:
        yield Stop(
            "equity", "danger", "help", "equity unknown", _named([line.code for line in unknown]),
            "a held symbol has no fresh mark, or the cash is not known: new risk is denied", None, None,
            "a fresh tick of every held symbol", "the feed", "See the accounts", "riskrows", needs="view_riskrow",
        )  # fmt: skip


def _silent(feeds: Iterable[FeedLine]) -> Iterable[Stop]:
    for feed in feeds:
        if feed.silent:
            yield Stop(
                "feed", "danger", "sensors_off", "feed silent", f"feed:{feed.code}",
                f"no tick of its {feed.symbols} symbols for longer than {feed.limit} s", feed.last_seen, None,
                "its next good tick", "the feed", "See the feed", "feed", feed.pk, "view_feed",
            )  # fmt: skip


def _blocks(now: datetime, calendars: list[tuple[Any, ...]]) -> Iterable[Stop]:
    """Blocks by the end of the day, and days that ended and were never reconciled."""
    stored: dict[int, list[Any]] = {}
    placed: dict[int, tuple[datetime, int]] = {}
    rows = ReconciliationBlock.objects.filter(lifted_at=None).order_by("id")
    for pk, account, reason, session, waived, at in rows.values_list(
        "pk", "account_id", "reason", "session", "waived_until", "placed_at"
    )[:2_000]:
        stored.setdefault(account, []).append([reason, session, waived is not None and waived > now])
        placed.setdefault(account, (at, pk))
    whys: dict[str, list[tuple[str, datetime | None, int | None]]] = {}
    for pk, code, calendar, created_at, through in calendars:
        account = Account(pk=pk, code=code, session_calendar=calendar, created_at=created_at)
        for block in blocks_of(account, stored.get(pk, []), _as_date(through), now):
            whys.setdefault(block.reason, []).append((code, *placed.get(pk, (None, None))))
    for why, ones in whys.items():
        since = min((at for _, at, _ in ones if at is not None), default=None)
        yield Stop(
            "block", "danger", "event_busy", "not reconciled", _named([code for code, _, _ in ones]), why, since, None,
            "the day is reconciled, or a named person waives it", RISK, "See the breaks", "breaks", ones[0][2],
            "view_break",
        )  # fmt: skip


def _as_date(value: Any) -> date | None:
    return value


def _data() -> Iterable[Stop]:
    rows = DataStop.objects.filter(released_at=None).order_by()
    sums = {"n": Count("symbol", distinct=True), "oldest": Min("since"), "one": Min("symbol")}
    for row in rows.values("check_name").annotate(**sums).order_by("-n")[:MOST]:
        scope = row["one"] if row["n"] == 1 else f"{row['n']} symbols ({row['one']} ...)"
        yield Stop(
            "data", "warning", "sensors_off", "market data stopped", scope, f"the check {row['check_name']} refused it",
            row["oldest"], None, "a clean tick or check, or a person releases it", RISK, "See the symbols", "datastops",
            needs="view_datastop",
        )  # fmt: skip


def _patterns() -> Iterable[Stop]:
    rows = DisabledPattern.objects.filter(enabled_at=None).select_related("account", "strategy")
    for row in rows.order_by("-id")[:10]:
        yield Stop(
            "pattern", "warning", "repeat", "order repeated too often", f"strategy:{row.strategy.code}",
            f"{row} in {row.account.code}: {row.why}", row.disabled_at, None, "a named person enables it", RISK,
            "See the pattern", "pattern", row.pk, "view_disabledpattern",
        )  # fmt: skip
