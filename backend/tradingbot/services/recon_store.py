"""What a comparison came to is stored here: adopted activities, breaks, the run's figures, the block, the affirmation.

Invariants: one transaction under the account's lock, which starts over when an entry was booked in between, so that
cash, entries and closing figures are of one moment; a run that was complete keeps its figures until newer ones are.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import polars as pl
import structlog
from django.db import transaction
from django.db.models import Max

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import next_session, session_date
from backend.tradingbot.infra import failpoints
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import Account, BookEntry, CashFlow, Match, ReconRun, RiskRow
from backend.tradingbot.ops.recon_breaks import Activity, FoundBreak
from backend.tradingbot.ops.recon_close import ClosedDay, closing_json
from backend.tradingbot.ops.recon_engine import DayResult
from backend.tradingbot.ops.recon_kinds import BreakKind, MatchPass
from backend.tradingbot.services import journal
from backend.tradingbot.services.affirmations import offer
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.recon_blocks import settle_blocks
from backend.tradingbot.services.recon_day import Compared
from backend.tradingbot.services.recon_policies import Policy, shown_tolerances
from backend.tradingbot.services.recon_results import store_breaks

log = structlog.get_logger(__name__)

MATCHES = 5_000  # more matches than these of one run are told by their count alone


class BooksMovedError(Exception):
    """An entry was booked while the day was compared: compare it again."""


def store_result(run: ReconRun, compared: Compared, policy: Policy, *, clock: Clock, interim: bool = False) -> ReconRun:
    """Everything that ``compared`` came to, in one transaction. Raises BooksMovedError when it is out of date.

    An ``interim`` result has every figure and closes nothing: the session is still to be reconciled after its end.
    """
    account, closed, seen = run.account, compared.closed, compared.ledger.seen
    with transaction.atomic(durable=True):
        row, now = lock_risk(account_scope(account.code)), clock.now()
        if _newest(BookEntry, account) != seen["entries"] or _newest(CashFlow, account) != seen["flows"]:
            raise BooksMovedError  # what the poll took up meanwhile must not be adopted a second time
        was_completed = run.state == "completed"
        for each in compared.result.adopted:
            _adopt(row, run, each, now)
        counts = store_breaks(
            row, compared.breaks, run.session, complete=closed is not None, severities=policy.severities, now=now
        )
        if closed is not None:
            _store_closing(run, compared, closed, policy, now)
            if interim:
                run.state = "interim"
            else:
                _advance(row, account, run.session)
        else:
            run.state = "completed" if was_completed else "incomplete"
            run.failure = "; ".join(str(each.theirs.get("problem", "")) for each in compared.breaks)[:500]
        run.save()
        run.statements.set(compared.statements)
        blocked = settle_blocks(row, run.session, actor="reconciliation", now=now)
        if closed is not None and not interim:
            offer(run, closed.closing, policy, now=now)
        data = {"session": str(run.session), "state": run.state, "breaks": counts, "blocked": blocked}
        data |= {"digest": run.result_digest, "statements": [each.sha256 for each in compared.statements]}
        journal.append(row, kind="reconciled", actor=run.started_by, subject=row.scope, data=data, at=now)
        failpoints.hit("recon.before_commit", account.code)
    log.info("reconciled", account=account.code, session=str(run.session), state=run.state, breaks=counts,
             blocked=blocked, matched=sum(compared.result.counts.values()))  # fmt: skip
    return run


def _newest(model: type[BookEntry] | type[CashFlow], account: Account) -> int:
    return model.objects.filter(account=account).aggregate(newest=Max("id"))["newest"] or 0


def _adopt(row: RiskRow, run: ReconRun, activity: Activity, now: datetime) -> None:
    """Take an expected activity into our books: its entry, and its cash."""
    BookEntry.objects.create(
        account=run.account, session=run.session, kind=activity.kind, activity_id=activity.activity_id,
        symbol=activity.symbol[:32], qty=activity.qty, amount=activity.amount,
        description=activity.description, made_by="reconciliation", at=now, build_id=build_id(),
    )  # fmt: skip
    if row.cash is not None:
        row.cash += activity.amount


def _store_closing(run: ReconRun, compared: Compared, closed: ClosedDay, policy: Policy, now: datetime) -> None:
    seen = {**compared.ledger.seen, "entries": _newest(BookEntry, run.account)}
    run.state, run.completed_at, run.failure = "completed", now, ""
    run.cut, run.watermarks = compared.cut, seen
    run.opening, run.closing = closing_json(compared.opening), closing_json(closed.closing)
    run.counts = _counts(compared.result)
    run.proofs = {
        "ours": [proof.as_dict() for proof in closed.ours],
        "theirs": [proof.as_dict() for proof in closed.theirs],
        "equity": closed.equity.as_dict() if closed.equity else None,
        "unexplained": plain(closed.unexplained),
    }
    run.pnl = pnl_json(closed)
    run.tolerances = shown_tolerances(policy.tolerances)
    run.severities = {"version": policy.severities.version, "warnings": sorted(policy.severities.warnings)}
    found = [[*each.key, each.digest] for each in compared.breaks]
    # What is adopted by the first run is booked in the next: that is the same result.
    counts = {name: count for name, count in run.counts.items() if name != "adopted"}
    run.result_digest = digest({"breaks": found, "proofs": run.proofs, "closing": run.closing, "counts": counts})
    _store_matches(run, compared.result, policy)


def _counts(result: DayResult) -> dict[str, Any]:
    ours = 0 if result.ours is None else result.ours.height
    theirs = 0 if result.theirs is None else result.theirs.height
    return {"ours": ours, "theirs": theirs, "matched": dict(result.counts), "adopted": len(result.adopted)}


def pnl_json(closed: ClosedDay) -> dict[str, Any]:
    """The attribution as the run keeps it: a line a strategy and symbol, and the lines of the whole account."""
    pnl = closed.pnl
    lines = [
        {
            "strategy": line.strategy, "symbol": line.symbol, "realized_fifo": plain(line.realized_fifo),
            "realized_average": plain(line.realized_average), "unrealized": plain(line.unrealized),
            "unrealized_change": plain(line.unrealized_change), "dividends": plain(line.dividends),
            "fees": plain(line.fees), "total": plain(line.total),
        }
        for line in pnl.lines
    ]  # fmt: skip
    whole = pnl.equity_lines()
    return {
        "lines": lines,
        "options": list(closed.options),
        "account": None if whole is None else {name: plain(value) for name, value in whole.items()},
        "unmarked": list(pnl.unmarked),
    }


def _store_matches(run: ReconRun, result: DayResult, policy: Policy) -> None:
    """Matches that needed more than the same id, with the tolerances they were made under; the old ones give way."""
    Match.objects.filter(run=run).exclude(match_pass=MatchPass.FORCED).delete()
    if result.matched is None or result.ours is None or result.theirs is None:
        return
    pairs = result.matched.pairs.filter(pl.col("match_pass") != str(MatchPass.EXECUTION_ID)).head(2 * MATCHES)
    if not pairs.height:
        return
    ours = result.ours.select(pl.col("row").alias("ours"), name_of("mine"), pl.col("order_id").alias("order"))
    theirs = result.theirs.select(
        pl.col("row").alias("theirs"), name_of("other"), pl.col("order_id").alias("other_order")
    )
    told = pairs.join(ours, on="ours", how="left").join(theirs, on="theirs", how="left")
    groups = told.with_columns(pl.coalesce("order", "other_order", pl.col("ours").cast(pl.String)).alias("key"))
    pair = pl.col("ours").is_not_null() & pl.col("theirs").is_not_null()
    groups = groups.with_columns(pl.when(pair).then("ours").otherwise(None).alias("pair"))
    rows = groups.group_by("match_pass", "key", "pair").agg(pl.col("mine").drop_nulls(), pl.col("other").drop_nulls())
    Match.objects.bulk_create(
        [
            Match(run=run, match_pass=name, tolerances=policy.tolerances.version[:60], ours=sorted(mine),
                  theirs=sorted(other), made_by="reconciliation")
            for name, _, _, mine, other in rows.sort("match_pass", "key", "pair").iter_rows()
        ],
        batch_size=1_000,
    )  # fmt: skip


def name_of(alias: str) -> pl.Expr:
    """How an execution is called on a match: by its id, else by its line."""
    return pl.coalesce("execution_id", pl.format("line {}", pl.col("row"))).alias(alias)


def _advance(row: RiskRow, account: Account, session: date) -> None:
    """Sessions are closed in their order: the newest that has all before it."""
    through = row.reconciled_through
    first = session_date(account.created_at, account.session_calendar)
    follows = session == first if through is None else next_session(through, account.session_calendar).date == session
    if follows:
        row.reconciled_through = session


def store_failure(run: ReconRun, error: TradingbotError, policy: Policy, *, clock: Clock) -> ReconRun:
    """A session whose statement could not be had, or compared: a break, a block, and the reason on the run."""
    problem = f"{error.code}: {error.message}"[:500]
    found = FoundBreak(
        BreakKind.STALE_OR_INCOMPLETE_SOURCE, f"statement {run.session} source", theirs={"problem": problem},
        explanation="no complete statement could be had; it is asked for again, or upload it",
    )  # fmt: skip
    with transaction.atomic(durable=True):
        row, now = lock_risk(account_scope(run.account.code)), clock.now()
        counts = store_breaks(row, [found], run.session, complete=False, severities=policy.severities, now=now)
        if run.state != "completed":
            run.state = "failed"
        run.failure = problem
        run.save(update_fields=["state", "failure"])
        settle_blocks(row, run.session, actor="reconciliation", now=now)
        row.save()
    log.warning("recon_failed", account=run.account.code, session=str(run.session), problem=problem, breaks=counts)
    return run
