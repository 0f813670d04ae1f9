"""The kill switch: halt a scope, cancel what is open in it, optionally flatten it, and repeat until nothing is open.

Invariants: the halt and the run are committed before anything else is done; a run ends only when neither the books nor
the broker show anything open, so an order in doubt keeps it going; a scope has one run at a time; nothing here re-arms.
"""

from __future__ import annotations

import secrets

import structlog
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Count

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, NotFoundError, TradingbotError
from backend.tradingbot.models import KillSwitchOrder, KillSwitchRun, TradingState
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.services import cancel_pass, flatten, journal, mass_cancel
from backend.tradingbot.services.locks import advisory_lock, lock_chain
from backend.tradingbot.services.trading_states import change_state
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

RUN_LOCK = 7_306
REASON_FOLLOWS = "kill switch"  # what stands for a reason that was not given yet
PASS_SECONDS = 30.0


def pull(scope: str, *, flattening: bool, reason: str, actor: str, clock: Clock) -> KillSwitchRun:
    """Halt ``scope`` and begin a run, or find the one that is going: a later pull may add the flattening to it."""
    with transaction.atomic(durable=True):
        change_state(scope, Trading.HALTED, actor=actor, reason=reason, clock=clock)
        chain, now, kind = lock_chain(scope), clock.now(), ""
        run = KillSwitchRun.objects.select_for_update().filter(scope=scope, finished_at__isnull=True).first()
        if run is None:
            kind = "kill_switch_pulled"
            run = KillSwitchRun(token=secrets.token_hex(6), scope=scope, flatten=flattening, started_at=now)
            run.reason, run.actor = reason, actor
        elif flattening and not run.flatten:
            kind = "kill_switch_flatten_added"
            run.flatten = True
        if kind:
            run.save()
            data = {"run": run.token, "flatten": run.flatten, "reason": reason}
            journal.append(chain, kind=kind, actor=actor, subject=scope, data=data, at=now)
            log.critical(kind, scope=scope, run=run.token, actor=actor)
    return run


def stop(token: str, *, reason: str, actor: str, clock: Clock) -> KillSwitchRun:
    """End a run before nothing is open, and take its working slices back. The scope stays halted."""
    scope = find(token).scope
    with transaction.atomic(durable=True):
        chain, now = lock_chain(scope), clock.now()
        run = KillSwitchRun.objects.select_for_update().get(token=token)
        if run.finished_at is not None:
            raise ConflictError(f"the run {token} is {run.stage}", code="kill_switch_ended", remedy="it needs no stop")
        run.stage, run.finished_at = "stopped", now
        run.save()
        data = {"run": token, "reason": reason, "open_orders": run.open_orders}
        journal.append(chain, kind="kill_switch_stopped", actor=actor, subject=scope, data=data, at=now)
    flatten.withdraw(run, actor=actor, clock=clock)
    return run


def explain(token: str, *, reason: str, actor: str, clock: Clock) -> KillSwitchRun:
    """The reason that was not given when the switch was pulled. One that was given stays: ConflictError."""
    scope = find(token).scope
    with transaction.atomic(durable=True):
        chain, now = lock_chain(scope), clock.now()
        run = KillSwitchRun.objects.select_for_update().get(token=token)
        if run.reason != REASON_FOLLOWS:
            raise ConflictError(f"the run {token} has its reason", code="reason_given", remedy="it is kept as it is")
        run.reason = reason
        run.save(update_fields=["reason"])
        TradingState.objects.filter(scope=scope, reason=REASON_FOLLOWS).update(reason=reason)
        data = {"run": token, "reason": reason}
        journal.append(chain, kind="kill_switch_explained", actor=actor, subject=scope, data=data, at=now)
    return run


def find(token: str) -> KillSwitchRun:
    run = KillSwitchRun.objects.filter(token=token).first()
    if run is None:
        raise NotFoundError(f"there is no run {token}", code="run_not_found", remedy="see GET kill-switch")
    return run


def advance_all(*, clock: Clock) -> None:
    """One pass of every run that is going. One that fails keeps no other waiting; its error is raised at the end."""
    with Turns() as turns:
        for token in KillSwitchRun.objects.filter(finished_at__isnull=True).values_list("token", flat=True):
            with turns.each("kill_switch_pass_failed", run=token):
                advance(token, clock=clock)


def advance(token: str, *, clock: Clock, seconds: float = PASS_SECONDS, settling: bool = True) -> KillSwitchRun:
    """One pass: cancel what is open, read what became of it, flatten what is free, and end when nothing is left.

    Does nothing while another process is at the same run. What fails is kept as the run's ``problem``, and the next
    pass tries again. ``settling`` False leaves the reading to the next pass.
    """
    run = find(token)
    with advisory_lock(RUN_LOCK, run.pk) as held:
        if not held:
            return run
        run.refresh_from_db()
        if run.finished_at is not None:
            return run
        run.problem = ""
        try:
            strangers = cancel_pass.cancel_open(run, mass_cancel.deadline(seconds), clock=clock)
            if settling:
                cancel_pass.settle(run, clock=clock)
            run.open_orders = len(cancel_pass.still_open(run)) + strangers
            run.open_positions = flatten.step(run, clock=clock) if run.flatten else None
        except TradingbotError as error:
            run.problem = error.message[:300]
            log.error("kill_switch_pass_failed", run=token, problem=error.message)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # the halt stands, and whoever pulled it is told so; the next pass tries again
            run.problem = f"the pass failed ({type(error).__name__}), see the log by trace_id"
            log.exception("kill_switch_pass_failed", run=token)
        return _save_pass(run, clock)


def _save_pass(run: KillSwitchRun, clock: Clock) -> KillSwitchRun:
    """How far the run is now; it ends only on a pass that asked everything and found nothing."""
    nothing_left = not run.problem and run.open_orders == 0 and not run.open_positions
    with transaction.atomic(durable=True):
        chain, now = lock_chain(run.scope), clock.now()
        current = KillSwitchRun.objects.select_for_update().get(pk=run.pk)
        for name in ("open_orders", "open_positions", "external_orders", "positions", "problem"):
            setattr(current, name, getattr(run, name))
        current.passes += 1
        current.last_pass_at = now
        if current.finished_at is None:
            current.stage = "flattening" if current.flatten and current.open_orders == 0 else "cancelling"
            if nothing_left and current.flatten == run.flatten:  # a pull may have added the flattening meanwhile
                current.stage, current.finished_at = "done", now
                data = {"run": run.token, "passes": current.passes, "orders": _counted(run)}
                journal.append(chain, kind="kill_switch_done", actor=run.actor, subject=run.scope, data=data, at=now)
        current.save()
    return current


def _counted(run: KillSwitchRun) -> dict[str, int]:
    """How many of its orders stand in each state."""
    rows = KillSwitchOrder.objects.filter(run=run).order_by("order__status").values_list("order__status")
    return dict(rows.annotate(Count("id")))
