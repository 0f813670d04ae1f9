"""Busts and corrections of executions. Nothing is changed: rows with the quantity negated take back what was booked.

The caller holds the account's risk row and the order. A bust or a correction that comes before its execution is held
until that one is here, so that the order of arrival does not matter.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.brokers.answers import BrokerFillActivity
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.values import plain
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import Execution, HeldReport, Order, Position, RiskRow
from backend.tradingbot.services import breaks, journal
from backend.tradingbot.services.order_life import add_executed, follow_execution, rereserving
from backend.tradingbot.services.positions import move_cash, refold

REVERSAL_OF = "reversal-of-"


def book_report(row: RiskRow, order: Order, report: BrokerFillActivity, *, source: str, clock: Clock) -> None:
    """Take back, and for a correction book anew, the execution that ``report`` is about; hold it when none is here."""
    known = Execution.objects.filter(account=order.account, execution_id=report.corrects).first()
    if known is None:
        HeldReport.objects.create(
            account=order.account, execution_id=report.execution_id, corrects=report.corrects,
            report=_packed(report), received_at=clock.now(),
        )  # fmt: skip
        _tell(row, order, report, "held: the execution it is about is not here yet", clock)
        return
    earlier = Execution.objects.filter(
        account=order.account, corrects=report.corrects, kind__in=["bust", "reversal"]
    ).first()
    if earlier is not None:
        _refuse_second(row, earlier, report, clock)
        return
    _take_back(row, order, known, report, source, clock)
    waiting = HeldReport.objects.filter(account=order.account, corrects=report.execution_id, booked_at=None)
    for held in waiting if report.kind == "correction" else ():
        book_held(row, order, held, clock=clock)


def book_held(row: RiskRow, order: Order, held: HeldReport, *, clock: Clock) -> None:
    """Book what was held, now that the execution it is about is here."""
    held.booked_at = clock.now()
    held.save(update_fields=["booked_at"])
    book_report(row, order, _unpacked(held.report), source="held", clock=clock)


def _take_back(
    row: RiskRow, order: Order, known: Execution, report: BrokerFillActivity, source: str, clock: Clock
) -> None:
    common: dict[str, Any] = {
        "account": order.account, "order": known.order, "broker_order_id": report.broker_order_id,
        "corrects": known.execution_id, "recorded_at": clock.now(), "occurred_at": report.occurred_at,
        "source": source, "build_id": build_id(), "evidence": {"activity_id": report.activity_id},
    }  # fmt: skip
    back = {"symbol": known.symbol, "side": known.side, "qty": -known.qty, "price": known.price}
    if report.kind == "bust":
        rows = [Execution(kind="bust", execution_id=report.execution_id, **common, **back)]
    else:
        anew = {"symbol": report.symbol, "side": report.side, "qty": report.qty, "price": report.price}
        reversal = (REVERSAL_OF + known.execution_id)[:80]
        rows = [
            Execution(kind="reversal", execution_id=reversal, **common, **back),
            Execution(kind="correction", execution_id=report.execution_id, **common, **anew),
        ]
    with rereserving(row, order):
        for execution in rows:
            execution.save(force_insert=True)
            move_cash(row, execution)
            add_executed(order, execution.qty, execution.price)
    for symbol in sorted({execution.symbol for execution in rows}):
        refold(Position.objects.get_or_create(account=order.account, symbol=symbol)[0])
    order.updated_at = clock.now()
    data = {"execution_id": report.execution_id, "corrects": known.execution_id, "taken_back": _figures(known),
            "anew": None if report.kind == "bust" else _figures(rows[-1]),
            "filled_qty": plain(order.filled_qty)}  # fmt: skip
    kind = "execution_busted" if report.kind == "bust" else "execution_corrected"
    journal.append_with_order(row, order, kind=kind, actor="broker", data=data, at=clock.now())
    for execution in rows:
        follow_execution(order, execution, clock)
    _tell(row, order, report, "booked by rows that take the execution back", clock)


def _tell(row: RiskRow, order: Order, report: BrokerFillActivity, explanation: str, clock: Clock) -> None:
    breaks.open_break(
        row, kind="bust_or_correction", subject=report.execution_id, severity="warning", cause="broker", clock=clock,
        symbol=report.symbol, ours={"execution_id": report.corrects, "client_order_id": order.client_order_id},
        theirs={"kind": report.kind, "qty": plain(report.qty), "price": plain(report.price)},
        explanation=explanation,
    )  # fmt: skip


def _refuse_second(row: RiskRow, earlier: Execution, report: BrokerFillActivity, clock: Clock) -> None:
    """One execution is taken back once. What takes it back again contradicts that, and a person has to look."""
    breaks.open_break(
        row, kind="duplicate", subject=report.execution_id, severity="critical", cause="broker", clock=clock,
        symbol=report.symbol, ours={"taken_back_by": earlier.execution_id, "execution_id": report.corrects},
        theirs={"kind": report.kind, "qty": plain(report.qty), "price": plain(report.price)},
        explanation="the execution was taken back before; this report is not booked",
    )  # fmt: skip


def _figures(execution: Execution) -> dict[str, Any]:
    return {"side": execution.side, "qty": plain(abs(execution.qty)), "price": plain(execution.price)}


def _packed(report: BrokerFillActivity) -> dict[str, Any]:
    shown = asdict(report) | {"qty": plain(report.qty), "price": plain(report.price)}
    return shown | {"occurred_at": rfc3339(report.occurred_at), "raw": {}}


def _unpacked(packed: dict[str, Any]) -> BrokerFillActivity:
    numbers = {"qty": Decimal(packed["qty"]), "price": Decimal(packed["price"])}
    return BrokerFillActivity(**packed | numbers | {"occurred_at": datetime.fromisoformat(packed["occurred_at"])})
