"""The broker's statement of a session, asked of its interface and kept as it answered.

Invariants: no transaction is open while it is asked; positions and cash are read before and after everything else and
have to agree, so that nothing moved in between; a failed question raises, it is never an empty answer; what came is
stored byte for byte before it is compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
from django.conf import settings

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.data.calendar import NEW_YORK
from backend.tradingbot.models import Account, Statement, StatementActivity, StatementExecution
from backend.tradingbot.ops import statements as reading
from backend.tradingbot.ops.statement_cut import taken_back
from backend.tradingbot.ops.statements import Received
from backend.tradingbot.services.statements import end_of, expected_of, store

TRIES = 4
LATE_REPORTS = timedelta(days=5)
LATE_ACTIVITIES = timedelta(days=14)


def pull_statement(account: Account, session: date, opening_cut: datetime, *, actor: str, clock: Clock) -> Statement:
    """Ask the broker for everything of ``session`` since ``opening_cut`` and store it.

    Raises BrokerQueryError when it cannot be asked, StatementError when it answers for another account.
    """
    client = execution_client(settings.TRADINGBOT)
    cut = min(end_of(session, account.session_calendar), clock.now())
    body = _ask(account, client, opening_cut, cut, clock)
    content = json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False).encode()
    name = f"{settings.TRADINGBOT.broker}-{account.code}-{session}.json"
    received = Received(name, content, content, hashlib.sha256(content).hexdigest())
    found = reading.read_statement(received, replace(expected_of(account, session), any_date=True), "alpaca_json")
    cut = min(cut, found.as_of)
    books = taken_back(found.books, cut, session)
    fresh = replace(
        books,
        executions=_not_told_before(account, session, books.executions, opening_cut),
        activities=_fresh_activities(account, session, books.activities),
    )
    found = reading.check_controls(replace(found, books=fresh, as_of=cut), ())
    return store(account, received, found, actor=actor, clock=clock, source="broker")[0]


def _ask(account: Account, client: AlpacaClient, opening_cut: datetime, cut: datetime, clock: Clock) -> dict[str, Any]:
    """Everything in one piece: what was read first must still be so at the end."""
    since = min(opening_cut - LATE_REPORTS, opening_cut)
    for _ in range(TRIES):
        before = _standing(client)
        as_of = clock.now()
        fills = client.fills(since=since)
        others = client.other_activities(opening_cut - LATE_ACTIVITIES)
        orders = client.list_orders("all", after=opening_cut - LATE_REPORTS)
        orders = [order for order in orders if order.submitted_at is None or order.submitted_at <= cut]
        same = _comparable(_standing(client)) == _comparable(before)
        if same:
            break
    return {
        "account": before["account"],
        "positions": before["positions"],
        "orders": [order.raw for order in orders],
        "activities": [fill.raw for fill in fills] + [each.raw for each in others if _is_ours(each.raw, account)],
        "as_of": rfc3339(as_of),
        "complete": same,
    }


def _standing(client: AlpacaClient) -> dict[str, Any]:
    return {"account": client.account().raw, "positions": [position.raw for position in client.positions()]}


def _comparable(standing: dict[str, Any]) -> Any:
    """Quantities and cash; prices move all the time and do not matter here."""
    positions = sorted((row.get("symbol", ""), row.get("qty", "")) for row in standing["positions"])
    return standing["account"].get("cash"), positions


def _is_ours(activity: dict[str, Any], account: Account) -> bool:
    """What happened before the account was set up here is in its opening cash and positions already."""
    created = account.created_at
    moment = activity.get("created_at")
    if isinstance(moment, str):
        return datetime.fromisoformat(moment) > created
    return str(activity.get("date", "9999")) > str(created.astimezone(NEW_YORK).date())


def _not_told_before(
    account: Account, session: date, executions: pl.DataFrame | None, opening_cut: datetime
) -> pl.DataFrame | None:
    """Of what happened before the opening only what no statement of an earlier session told: late reports."""
    if executions is None:
        return None
    early = pl.col("occurred_at") <= opening_cut
    ids = executions.filter(early)["execution_id"].drop_nulls().to_list()
    if not ids:
        return executions
    lines = StatementExecution.objects.filter(statement__in=_earlier(account, session), execution_id__in=ids)
    told = list(lines.values_list("execution_id", flat=True).distinct())
    before_us = pl.col("occurred_at") <= max(account.created_at, opening_cut - LATE_REPORTS)
    return executions.filter(~(early & (pl.col("execution_id").is_in(told) | before_us)))


def _fresh_activities(account: Account, session: date, activities: pl.DataFrame | None) -> pl.DataFrame | None:
    """Without what a statement of an earlier session told."""
    if activities is None or not activities.height:
        return activities
    lines = StatementActivity.objects.filter(statement__in=_earlier(account, session))
    told = list(lines.filter(activity_id__in=activities["activity_id"].to_list()).values_list("activity_id", flat=True))
    return activities.filter(~pl.col("activity_id").is_in(told))


def _earlier(account: Account, session: date) -> list[int]:
    """The statements of the sessions before this one, as far back as anything is asked for."""
    since = session - LATE_ACTIVITIES - LATE_REPORTS
    rows = Statement.objects.filter(account=account, session__lt=session, session__gte=since)
    return list(rows.values_list("pk", flat=True))
