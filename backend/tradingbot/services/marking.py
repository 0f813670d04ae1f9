"""Marks accounts to market: what an account is worth now, and what its breaker and the firm's say to that.

Invariants: ticks are read, and the broker is asked, before a lock is taken; equity is exact or unknown, never a guess;
unknown equity trips nothing, it only denies; equity and the breaker's answer to it are committed together; a mark that
fails leaves its breaker unevaluated, which denies, and keeps no other account from being marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of
from backend.tradingbot.data.calendar import seconds_open_between, session_date
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account, Position, RiskRow
from backend.tradingbot.models.breakers import FIRST_READING, SUM_OF_ACCOUNTS
from backend.tradingbot.risk.exact_number import as_people_write, exact_from_text
from backend.tradingbot.risk.gates import Quote
from backend.tradingbot.selectors.equity import exposed_symbols, firm_parts, holdings, realized_ever
from backend.tradingbot.services import feeds
from backend.tradingbot.services.breakers import LockedBreaker, lock_breaker, locked_breaker
from backend.tradingbot.services.feeds import FeedLook
from backend.tradingbot.services.locks import FIRM, account_scope, lock_risk
from backend.tradingbot.services.trading_day import (
    NO_BROKER,
    PreviousClose,
    ask_previous_close,
    begin_day,
    settle_day,
)

log = structlog.get_logger(__name__)

Quotes = Mapping[str, Quote | None]
CENT_OF_A_MILLIONTH = Decimal("1e-9")
LONGEST_CLOSE = timedelta(days=14)
ATTEMPTS = 3


class _NewHoldingError(Exception):
    """An execution brought a symbol in whose tick was not read; read again."""


@dataclass(frozen=True)
class Value:
    """``equity`` is None when a held symbol has no fresh mark; ``floor`` is what is left when such a holding is worth
    nothing, None when that cannot be said: a short may cost anything, and unknown cash is unknown."""

    equity: Decimal | None
    floor: Decimal | None


def read_quotes(symbols: Iterable[str]) -> tuple[Quotes, bool]:
    """The last ticks in one round trip, and whether the store answered; when it did not, none is known."""
    try:
        return hot_state().quotes(symbols), True
    except UnavailableError as error:
        log.warning("quotes_unknown", problem=error.message)
        return dict.fromkeys(symbols), False


def mark_account(
    account: Account,
    *,
    clock: Clock,
    close: PreviousClose | None = NO_BROKER,
    quotes: Quotes | None = None,
    look: FeedLook | None = None,
) -> Decimal | None:
    """The account's equity in its currency, stored and shown to its breaker; None when it is not known.

    ``close`` None leaves the beginning of a new day to a mark that has asked the broker. ``look`` is what the declared
    feeds showed, None when that is not known. Raises NotFoundError when the account has no risk row or no breaker.
    """
    for _ in range(ATTEMPTS):
        if quotes is None:
            quotes, _answered = read_quotes(holdings(account))
        try:
            return _mark(account, quotes, close, look, clock)
        except _NewHoldingError:
            quotes = None
    raise UnavailableError("the holdings change faster than they can be marked", code="mark_failed")


def _mark(
    account: Account, quotes: Quotes, close: PreviousClose | None, look: FeedLook | None, clock: Clock
) -> Decimal | None:
    scope = account_scope(account.code)
    with transaction.atomic(durable=True):
        row = lock_risk(scope)
        held, realized = holdings(account), realized_ever(account)
        if held.keys() - quotes.keys():
            raise _NewHoldingError
        value = _value(row.cash, held, quotes, row.account, clock.now())
        row.equity, row.equity_floor = value.equity, value.floor
        row.save(update_fields=["equity", "equity_floor"])
        guard = lock_breaker(scope, actor="marking", clock=clock)
        if look is not None:
            feeds.show(guard, look)
        if settle_day(guard, row.account, row, value.equity, realized, close):
            _judge(guard, value.equity, realized)
        guard.save()
    return value.equity


def _judge(guard: LockedBreaker, equity: Decimal | None, realized: Decimal) -> None:
    """Show the breaker this reading. Unknown equity is an answer too: the order is told that, and nothing trips."""
    row = guard.row
    if row.realized_before is None:
        row.realized_before = realized
    guard.pure.check_realized(realized - row.realized_before)
    if equity is not None:
        guard.pure.check_mtm(equity)
    row.evaluated_at = guard.clock.now()


def _value(cash: Decimal | None, held: Mapping[str, Decimal], quotes: Quotes, account: Account, now: datetime) -> Value:
    if cash is None:
        return Value(None, None)
    total, known, bounded = cash, True, True
    for symbol, qty in held.items():
        quote = quotes.get(symbol)
        if quote is not None and _is_fresh(quote, account, now):
            total += qty * quote.price * (multiplier_of(symbol) or SHARES_A_CONTRACT)
        else:
            known, bounded = False, bounded and qty > 0
    floor = total.quantize(CENT_OF_A_MILLIONTH)
    return Value(floor if known else None, floor if bounded else None)


def _is_fresh(quote: Quote, account: Account, now: datetime) -> bool:
    """While the account's market is closed its marks do not age: the last price of the day is the close's.

    A tick from the future says that a clock was stepped: its age is not known.
    """
    age = now - quote.as_of
    if not -feeds.CLOCK_SKEW <= age <= LONGEST_CLOSE:
        return False
    if age.total_seconds() <= account.max_mark_age_seconds:
        return True
    return seconds_open_between(quote.as_of, now, account.session_calendar) <= account.max_mark_age_seconds


def first_mark(account: Account, row: RiskRow, firm: LockedBreaker, *, clock: Clock) -> None:
    """An account that was just made holds nothing: its day begins with its cash. All three rows are locked."""
    guard = lock_breaker(row.scope, actor=firm.actor, clock=clock)
    today, nothing = session_date(clock.now(), account.session_calendar), Decimal(0)
    if row.equity is not None and begin_day(guard, today, row.equity, FIRST_READING, nothing):
        _judge(guard, row.equity, nothing)
    guard.save()
    judge_firm(firm)
    firm.save()


def mark_accounts(accounts: Iterable[Account], *, clock: Clock, close: PreviousClose | None = NO_BROKER) -> None:
    """Mark each; one that fails is logged and stays unevaluated, which denies, and the others are still marked."""
    for account in accounts:
        try:
            mark_account(account, clock=clock, close=close)
        except Exception:  # whatever it was, it must not keep the next account from being marked
            log.exception("mark_failed", account=account.code)


def mark_holders(symbols: Iterable[str], *, clock: Clock) -> None:
    """Mark the accounts that hold any of ``symbols``. Their day begins with a mark of ``mark_all``, not with a tick."""
    holders = Position.objects.filter(symbol__in=list(symbols)).exclude(qty=0).values("account")
    mark_accounts(Account.objects.filter(active=True, pk__in=holders), clock=clock, close=None)


def mark_all(*, clock: Clock) -> None:
    """Every active account, with what the declared feeds show, and then the firm. Beat calls this."""
    accounts = list(Account.objects.filter(active=True))
    closes = {account.pk: ask_previous_close(account, clock=clock) for account in accounts}
    exposed = exposed_symbols()
    watched = feeds.watched()
    symbols = set().union(*exposed.values(), *(feed.symbols for feed in watched))
    quotes, answered = read_quotes(symbols)
    silences = feeds.silences(watched, quotes, clock=clock) if answered else None
    for account in accounts:
        look = None if silences is None else feeds.look(watched, silences, exposed.get(account.pk, set()))
        try:
            mark_account(account, clock=clock, close=closes[account.pk], quotes=quotes, look=look)
        except Exception:  # whatever it was, it must not keep the next account from being marked
            log.exception("mark_failed", account=account.code)
    mark_firm(clock=clock)


def mark_firm(*, clock: Clock) -> None:
    """Show the firm's breaker the sum of its accounts."""
    with locked_breaker(FIRM, actor="marking", clock=clock) as guard:
        judge_firm(guard)


def judge_firm(guard: LockedBreaker) -> None:
    """The firm's drawdown is that of all active accounts together, each since the start of its own day.

    An account that was not evaluated of late leaves the firm unevaluated, which denies. So does one without a known
    equity, unless the firm would stay within its limit if the holdings without a mark were worthless.
    """
    parts, now = firm_parts(), guard.clock.now()
    longest = timedelta(seconds=3 * settings.TRADINGBOT.mark_seconds)
    if not parts or any(part.evaluated_at is None or abs(now - part.evaluated_at) > longest for part in parts):
        return
    starts, realized = _sum([part.start for part in parts]), _sum([part.realized or "0" for part in parts])
    if starts is None or realized is None:
        return
    guard.pure.correct_start(starts)
    guard.row.session, guard.row.start_source = max(part.session for part in parts), SUM_OF_ACCOUNTS
    guard.pure.check_realized(realized)
    equities, floors = [part.equity for part in parts], [part.floor for part in parts]
    if None not in equities:
        guard.pure.check_mtm(sum(filter(None, equities), Decimal(0)))
    elif None in floors or guard.pure.would_trip_at(sum(filter(None, floors), Decimal(0))):
        return
    guard.row.evaluated_at = now


def _sum(texts: list[str]) -> Decimal | float | None:
    """The exact sum; None when one of them is no number."""
    numbers = [exact_from_text(text) for text in texts]
    return None if None in numbers else as_people_write(sum(filter(None, numbers), Fraction()))
