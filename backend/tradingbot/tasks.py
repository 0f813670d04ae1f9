"""Celery tasks: each takes a lock, calls one service and carries no state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from celery import shared_task
from django.conf import settings
from django.db import connection

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import ConflictError, TradingbotError
from backend.tradingbot.models import Account
from backend.tradingbot.services import (
    anchors,
    bar_cache,
    breaker_resets,
    cancels,
    cash_flows,
    data_checks,
    dead_mans_switch,
    equity_history,
    fills,
    handing_over,
    journal_proof,
    key_use,
    kill_switch,
    marking,
    mode_watch,
    recon,
    recon_intraday,
    recon_summary,
    recovery,
    revaluation,
    shadow,
)
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

POLL_LOCK, RECOVERY_LOCK, MARK_LOCK, CASH_LOCK, REVALUE_LOCK = 7_301, 7_302, 7_303, 7_304, 7_305
ANCHOR_LOCK, PROOF_LOCK, MODES_LOCK = 7_306, 7_307, 7_308
DATA_LOCK, CACHE_LOCK = 7_310, 7_311
NOTIFY_LOCK, HEARTBEAT_LOCK, KEY_USE_LOCK = 7_330, 7_332, 7_333
INTRADAY_LOCK, SUMMARY_LOCK = 7_321, 7_322


@contextmanager
def singleton(key: int) -> Iterator[bool]:
    """A session advisory lock: False when another worker has it. A worker that dies releases it with its connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


@shared_task(name="tradingbot.poll_broker")
def poll_broker() -> None:
    with singleton(POLL_LOCK) as held:
        _do_all([partial(_poll, account) for account in Account.objects.filter(active=True)] if held else [])


def _poll(account: Account) -> None:
    try:
        fills.poll_account(account, clock=SYSTEM_CLOCK)
    except TradingbotError as error:
        log.warning("poll_failed", account=account.code, code=error.code, problem=error.message)


def _do_all(steps: Iterable[Callable[[], object]]) -> None:
    with Turns() as turns:
        for step in steps:
            with turns.each("step_failed"):
                step()


@shared_task(name="tradingbot.recover_orders")
def recover_orders() -> None:
    with singleton(RECOVERY_LOCK) as held:
        if held:
            steps = (recovery.recover, recovery.watch, cancels.send_wished_cancels)
            _do_all([partial(step, clock=SYSTEM_CLOCK) for step in steps])


@shared_task(name="tradingbot.anchor_journal")
def anchor_journal() -> None:
    with singleton(ANCHOR_LOCK) as held:
        if held:
            anchors.anchor_journal(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.verify_journal")
def verify_journal() -> None:
    with singleton(PROOF_LOCK) as held:
        if held:
            broken = journal_proof.prove(clock=SYSTEM_CLOCK, anchors=True).broken
            (log.error if broken else log.info)("journal_verified", broken=broken)


@shared_task(name="tradingbot.mark_accounts")
def mark_accounts() -> None:
    with singleton(MARK_LOCK) as held:
        if held:
            marking.mark_all(clock=SYSTEM_CLOCK)
            equity_history.keep_marks(clock=SYSTEM_CLOCK)
            breaker_resets.expire_due(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.read_cash_flows")
def read_cash_flows() -> None:
    with singleton(CASH_LOCK) as held:
        if held:
            cash_flows.read_all(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.revalue_accounts")
def revalue_accounts() -> None:
    with singleton(REVALUE_LOCK) as held:
        if held:
            revaluation.revalue_accounts(Account.objects.all(), clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.kill_switch")
def advance_kill_switch() -> None:
    kill_switch.advance_all(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.watch_modes")
def watch_modes() -> None:
    with singleton(MODES_LOCK) as held:
        if held:
            shadow.expire(clock=SYSTEM_CLOCK)
            mode_watch.watch(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.send_notification")
def send_notification(notification_id: int) -> None:
    """Sent on commit of the fact; a notification that was taken up already is none of this task's business."""
    _send_on(handing_over.take_up(notification_id, clock=SYSTEM_CLOCK))


@shared_task(name="tradingbot.sweep_notifications")
def sweep_notifications() -> None:
    with singleton(NOTIFY_LOCK) as held:
        channels = handing_over.sweep(clock=SYSTEM_CLOCK) if held else []
    _send_on(channels)


@shared_task(name="tradingbot.hand_over")
def hand_over(channel: str) -> None:
    handing_over.hand_over(channel, clock=SYSTEM_CLOCK)


def _send_on(channels: list[str]) -> None:
    """A task for each channel: one that hangs keeps no other waiting."""
    for channel in channels:
        hand_over.apply_async([channel], expires=60)


@shared_task(name="tradingbot.watch_heartbeats")
def watch_heartbeats() -> None:
    with singleton(HEARTBEAT_LOCK) as held:
        if held:
            dead_mans_switch.watch(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.flush_key_use")
def flush_key_use() -> None:
    with singleton(KEY_USE_LOCK) as held:
        if held:
            key_use.flush()


@shared_task(name="tradingbot.check_market_data")
def check_market_data() -> None:
    with singleton(DATA_LOCK) as held:
        if held:
            data_checks.check_market_data(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.check_bar_cache")
def check_bar_cache() -> None:
    with singleton(CACHE_LOCK) as held:
        if held:
            bar_cache.check_cache(actor="beat", clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.close_days")
def close_days() -> None:
    """Send one task for each account that has a session to close; then tell what there is to tell."""
    for account_id in recon.accounts_to_close(clock=SYSTEM_CLOCK):
        reconcile_account.apply_async([account_id], expires=settings.TRADINGBOT.recon_retry_seconds)
    with singleton(SUMMARY_LOCK) as held:
        if held:
            recon_summary.tell(clock=SYSTEM_CLOCK)


@shared_task(name="tradingbot.reconcile_account")
def reconcile_account(account_id: int) -> None:
    """Close what is due, the missed sessions first. Another run of the same account is left to its work."""
    account = Account.objects.get(pk=account_id)
    try:
        recon.close_missed(account, actor="beat", clock=SYSTEM_CLOCK)
    except ConflictError as error:
        log.info("recon_left_alone", account=account.code, code=error.code)


@shared_task(name="tradingbot.compare_intraday")
def compare_intraday() -> None:
    with singleton(INTRADAY_LOCK) as held:
        if held:
            recon_intraday.compare_all(clock=SYSTEM_CLOCK)
