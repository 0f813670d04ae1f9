"""Alpaca's trading API v2 as an execution client; the paper broker speaks the same.

Invariants: an order is sent at most once a call; a call that places or cancels ends in exactly one of yes, a definite
no (``BrokerRejectedError``, ``BrokerUnreachableError``) or ``BrokerInDoubtError``; a question that fails raises
``BrokerQueryError`` and never reads as "none". Quantities and prices travel as strings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from backend.tradingbot.brokers.alpaca_transport import (
    SEND_BY_PASSED,
    NeverSentError,
    NoAnswerError,
    Refusal,
    Transport,
)
from backend.tradingbot.brokers.answers import (
    BrokerAccount,
    BrokerActivity,
    BrokerCashFlow,
    BrokerClock,
    BrokerFillActivity,
    BrokerInDoubtError,
    BrokerOrder,
    BrokerPosition,
    BrokerQueryError,
    BrokerRejectedError,
    BrokerSession,
    BrokerTooLateError,
    BrokerUnreachableError,
    CancelResult,
    parse_account,
    parse_activity,
    parse_cancel_result,
    parse_cash_flow,
    parse_clock,
    parse_fill,
    parse_order,
    parse_position,
    parse_session,
)
from backend.tradingbot.core.cash_kinds import CASH_KINDS
from backend.tradingbot.core.clock import Deadline
from backend.tradingbot.core.values import OrderRequest, plain
from backend.tradingbot.execution.interfaces import ExecutionClient

T = TypeVar("T")
A = TypeVar("A", BrokerFillActivity, BrokerCashFlow, BrokerActivity)
ORDERS_PAGE = 500  # the most one listing gives
ACTIVITIES_PAGE = 100
MAX_PAGES = 1000
GENERIC_VALIDATION = 40010001  # also the code of a duplicate client_order_id
_DEFINITE_NO = {
    400: "broker_rejected",
    401: "broker_unauthorized",
    403: "broker_forbidden",
    422: "broker_rejected",
    429: "broker_rate_limited",
}


class AlpacaClient(ExecutionClient):
    """One account at Alpaca. Timeouts are in seconds; safe to share between threads, not across a fork."""

    def __init__(
        self, api_key: str, secret_key: str, base_url: str, connect_timeout: float = 3.0, read_timeout: float = 10.0
    ) -> None:
        self._transport = Transport(api_key, secret_key, base_url, connect_timeout, read_timeout)
        self._account_number = ""

    def validate_connection(self) -> bool:
        """True when the account answers and is ACTIVE; raises ``BrokerQueryError`` when it cannot be asked."""
        return self.account().status == "ACTIVE"

    # A BrokerOrder reads as an OrderAck and as an OrderFill, and says more: callers need the broker's whole answer.
    def place_order(self, req: OrderRequest, deadline: Deadline | None = None) -> BrokerOrder:  # type: ignore[override]
        """Send ``req`` once, and not after ``deadline``. Returns the broker's order; raises rejected, unreachable (with
        the reason ``send_by_passed`` when it was too late) or in doubt."""
        body = _body_of(req)
        try:
            answer = self._act("POST", "/orders", body, deadline)
        except Refusal as refusal:
            if refusal.status == 422 and _may_be_duplicate(refusal):
                return self._settle_duplicate(req, refusal)
            raise _rejection(refusal) from refusal
        asked = {"request_id": self._transport.request_id}
        try:
            placed = self._order(answer)
        except ValueError as error:
            raise BrokerInDoubtError("unreadable_answer", {"problem": str(error), **asked}) from error
        if placed.client_order_id != req.client_order_id:
            raise BrokerInDoubtError("answer_of_another_order", {"client_order_id": placed.client_order_id, **asked})
        return placed

    def _order(self, answer: Any) -> BrokerOrder:
        """An order together with the broker's id of the request that brought it, which is evidence."""
        return replace(parse_order(answer), request_id=self._transport.request_id)

    def _settle_duplicate(self, order: OrderRequest, refusal: Refusal) -> BrokerOrder:
        """A 422 that may mean "this id is taken": the broker's book decides whether by this very order."""
        try:
            found = self.get_order_by_client_id(order.client_order_id)
        except BrokerQueryError as error:
            raise BrokerInDoubtError("duplicate_lookup_failed", refusal.evidence() | error.evidence) from error
        if found is None:
            if _names_the_id(refusal):  # the book lags behind the check that refused us
                raise BrokerInDoubtError("duplicate_not_found", refusal.evidence())
            raise _rejection(refusal)
        differing = _differences(order, found)
        if differing:
            raise BrokerRejectedError(
                "client_order_id_taken",
                f"client_order_id {order.client_order_id} belongs to another order at the broker",
                refusal.evidence() | {"broker_order_id": found.broker_order_id, "differing": differing},
            )
        return found

    def get_order(self, broker_order_id: str) -> BrokerOrder | None:  # type: ignore[override]
        """The order with this broker id, or None when the broker says that there is none."""
        return self._find(f"/orders/{quote(broker_order_id, safe='')}", None)

    def get_order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """The order with our id, or None only on the broker's own 404; anything else raises ``BrokerQueryError``."""
        found = self._find("/orders:by_client_order_id", {"client_order_id": client_order_id})
        if found is not None and found.client_order_id != client_order_id:
            raise BrokerQueryError("the broker answered with another order", {"answered": found.client_order_id})
        return found

    def latest_of(self, order: BrokerOrder) -> BrokerOrder:
        """The order that replaced ``order`` in the end, or ``order`` itself; a circle or a gap raises."""
        seen = {order.broker_order_id}
        while order.replaced_by is not None:
            successor = self.get_order(order.replaced_by)
            if successor is None or successor.broker_order_id in seen:
                raise BrokerQueryError("the chain of replacements is broken", {"replaced_by": order.replaced_by})
            seen.add(successor.broker_order_id)
            order = successor
        return order

    def list_open_orders(self) -> list[BrokerOrder]:
        """Every order the broker counts as open, oldest first."""
        return self.list_orders("open")

    def list_orders(self, status: str = "all", after: datetime | None = None) -> list[BrokerOrder]:
        """Orders with ``status`` open, closed or all, submitted after ``after``, oldest first, all pages."""
        found: dict[str, BrokerOrder] = {}
        for _ in range(MAX_PAGES):
            query: dict[str, Any] = {"status": status, "limit": ORDERS_PAGE, "direction": "asc", "nested": "false"}
            if after is not None:
                query["after"] = _timestamp(after)
            page = self._ask_list("/orders", query, parse_order)
            fresh = [order for order in page if order.broker_order_id not in found]
            found |= {order.broker_order_id: order for order in page}
            if not fresh:
                if len(page) >= ORDERS_PAGE:
                    raise BrokerQueryError("more orders share one instant than a page holds")
                return list(found.values())
            submitted = page[-1].submitted_at
            if submitted is None:
                raise BrokerQueryError("an order without submitted_at ends the page: the listing cannot go on")
            # "after" is exclusive: one step back, so that a twin of the same instant is not skipped.
            after = submitted - timedelta(microseconds=1)
        raise BrokerQueryError("the listing of orders does not end")

    def fills(self, after_id: str | None = None, since: datetime | None = None) -> list[BrokerFillActivity]:
        """Executions after the activity ``after_id``, or after the time ``since``, oldest first, all pages."""
        query = {} if since is None else {"after": _timestamp(since)}
        return self._activities("/account/activities/FILL", query, parse_fill, after_id)

    def cash_flows(self, since: datetime) -> list[BrokerCashFlow]:
        """Deposits, withdrawals, fees, dividends and interest after the time ``since``, all pages.

        By time and not by id: the ids of such activities bear only their day, so that a later one can sort before an
        earlier one. Ask from well before, and take each id once.
        """
        query = {"after": _timestamp(since), "activity_types": ",".join(CASH_KINDS)}
        return self._activities("/account/activities", query, parse_cash_flow, None)

    def other_activities(self, since: datetime) -> list[BrokerActivity]:
        """Every activity that is no trade (fees, dividends, splits, transfers...) after the time ``since``."""
        query = {"after": _timestamp(since), "category": "non_trade_activity"}
        return self._activities("/account/activities", query, parse_activity, None)

    def _activities(self, path: str, about: dict[str, Any], parse: Callable[[Any], A], after_id: str | None) -> list[A]:
        found: dict[str, A] = {}
        token = after_id
        for _ in range(MAX_PAGES):
            query: dict[str, Any] = {"direction": "asc", "page_size": ACTIVITIES_PAGE, **about}
            if token is not None:
                query["page_token"] = token
            page = self._ask_list(path, query, parse)
            if not page:
                return list(found.values())
            if page[-1].activity_id == token or all(activity.activity_id in found for activity in page):
                raise BrokerQueryError("the pages of activities repeat themselves", {"page_token": token})
            found |= {activity.activity_id: activity for activity in page}
            token = page[-1].activity_id
        raise BrokerQueryError("the listing of activities does not end")

    def cancel_order(self, broker_order_id: str) -> str:  # type: ignore[override]
        """Ask for a cancel: ``"requested"`` (the order may still fill), or raises as ``place_order`` does."""
        try:
            self._act("DELETE", f"/orders/{quote(broker_order_id, safe='')}", None)
        except Refusal as refusal:
            if _is_real_absence(refusal):
                raise BrokerRejectedError("order_not_found", refusal.message, refusal.evidence()) from refusal
            if refusal.status == 422:
                raise BrokerRejectedError("order_not_cancelable", refusal.message, refusal.evidence()) from refusal
            raise _rejection(refusal) from refusal
        return "requested"

    def cancel_all(self) -> list[CancelResult]:
        """Ask for a cancel of every open order; one result an order, to be read one by one."""
        try:
            answer = self._act("DELETE", "/orders", None)
        except Refusal as refusal:
            raise _rejection(refusal) from refusal
        try:
            return _each(answer if answer is not None else [], parse_cancel_result)
        except ValueError as error:
            raise BrokerInDoubtError("unreadable_answer", {"problem": str(error)}) from error

    def positions(self) -> list[BrokerPosition]:
        """Every open position, signed."""
        return self._ask_list("/positions", None, parse_position)

    def account(self) -> BrokerAccount:
        """The account's status and balances in dollars."""
        return self._ask("/account", None, parse_account)

    def account_number(self) -> str:
        """The account that the keys belong to; asked once, since keys never change their account."""
        if not self._account_number:
            self._account_number = self.account().account_number
        return self._account_number

    def clock(self) -> BrokerClock:
        """The exchange's clock and its next session."""
        return self._ask("/clock", None, parse_clock)

    def calendar(self, start: date, end: date) -> list[BrokerSession]:
        """The exchange's sessions from ``start`` to ``end``, both included."""
        return self._ask_list("/calendar", {"start": start.isoformat(), "end": end.isoformat()}, parse_session)

    def reconcile(self) -> dict[str, Any]:
        """The broker's side of a reconciliation: ``{"account", "positions", "open_orders"}``, all or nothing."""
        return {"account": self.account(), "positions": self.positions(), "open_orders": self.list_open_orders()}

    def _act(self, method: str, path: str, data: dict[str, Any] | None, deadline: Deadline | None = None) -> Any:
        """Send something that changes the world. A Refusal passes through; silence becomes no or in doubt."""
        try:
            return self._transport.send(method, path, data, deadline)
        except NeverSentError as error:
            if str(error) == SEND_BY_PASSED:
                raise BrokerTooLateError(_cause(error)) from error
            raise BrokerUnreachableError("the broker cannot be reached", _cause(error)) from error
        except NoAnswerError as error:
            raise BrokerInDoubtError(str(error), _cause(error)) from error

    def _ask(self, path: str, query: dict[str, Any] | None, parse: Callable[[Any], T]) -> T:
        """Ask something; whatever fails, the answer is unknown. A Refusal is kept as the cause."""
        try:
            return parse(self._transport.send("GET", path, query))
        except Refusal as refusal:
            raise BrokerQueryError(f"the broker refused {path}: {refusal.message}", refusal.evidence()) from refusal
        except (NeverSentError, NoAnswerError) as error:
            raise BrokerQueryError(f"the broker did not answer {path}: {error}", _cause(error)) from error
        except ValueError as error:
            raise BrokerQueryError(f"the answer of {path} cannot be read: {error}") from error

    def _ask_list(self, path: str, query: dict[str, Any] | None, parse: Callable[[Any], T]) -> list[T]:
        return self._ask(path, query, lambda answer: _each(answer, parse))

    def _find(self, path: str, query: dict[str, Any] | None) -> BrokerOrder | None:
        try:
            return self._ask(path, query, self._order)
        except BrokerQueryError as error:
            if isinstance(error.__cause__, Refusal) and _is_real_absence(error.__cause__):
                return None
            raise


def _body_of(order: OrderRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "qty": plain(order.qty),
        "side": str(order.side),
        "type": str(order.type),
        "time_in_force": str(order.time_in_force),
    }
    if order.limit_price is not None:
        body["limit_price"] = plain(order.limit_price)
    return body


def _differences(order: OrderRequest, found: BrokerOrder) -> list[str]:
    """The fields in which the broker's order is not the one asked for."""
    pairs = {
        "symbol": (order.symbol.upper(), found.symbol.upper()),
        "side": (str(order.side), found.side),
        "qty": (order.qty, found.qty),
        "type": (str(order.type), found.type),
        "limit_price": (order.limit_price, found.limit_price),
        "time_in_force": (str(order.time_in_force), found.raw.get("time_in_force")),
    }
    return [name for name, (asked, there) in pairs.items() if asked != there]


def _names_the_id(refusal: Refusal) -> bool:
    return "client_order_id" in refusal.message and "unique" in refusal.message


def _may_be_duplicate(refusal: Refusal) -> bool:
    return refusal.broker_code in (None, GENERIC_VALIDATION) or "client_order_id" in refusal.message


def _is_real_absence(refusal: Refusal) -> bool:
    """A 404 of the broker itself (code 404xxxxx), not one of a proxy or of a mistyped address."""
    return refusal.status == 404 and str(refusal.broker_code or "").startswith("404")


def _rejection(refusal: Refusal) -> BrokerRejectedError | BrokerInDoubtError:
    """A status known to mean no; any other, 5xx and redirects among them, leaves the outcome in doubt."""
    code = _DEFINITE_NO.get(refusal.status)
    if code is None:
        return BrokerInDoubtError(f"http_{refusal.status}", refusal.evidence())
    return BrokerRejectedError(code, refusal.message, refusal.evidence())


def _each(answer: Any, parse: Callable[[Any], T]) -> list[T]:
    if not isinstance(answer, list):
        raise ValueError(f"expected a list, got {type(answer).__name__}")
    return [parse(item) for item in answer]


def _timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC; a naive time is refused, because it could be off by hours."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be sent to the broker")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _cause(error: Exception) -> dict[str, Any]:
    return {"reason": str(error), "cause": type(error.__cause__).__name__}
