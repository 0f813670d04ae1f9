"""Faults of a broker, on request: what the next calls do instead of answering well.

Off unless the process was started with PAPER_FAULTS=1. Invariant: a fault changes when and what the client hears; the
ledger stays a true record of what was accepted.
"""

from __future__ import annotations

import time
from typing import Any

from backend.paperbroker.refusals import Fault, Refused

CALL_MODES = frozenset({
    "slow", "hang_before", "hang_after_accept", "drop_before", "drop_after_accept", "error_500",
    "error_500_after_accept", "garbage", "garbage_after_accept", "fill_before_ack", "late_arrival", "reject",
    "reject_later", "rate_limit",
})  # fmt: skip
SUBMIT_ONLY = frozenset({"fill_before_ack", "late_arrival", "reject", "reject_later"})
STREAM_MODES = frozenset({"duplicate_events", "reorder_events", "gap_events"})
# refused at once; taken and done later; taken and refused later
CANCEL_MODES = frozenset({"cancel_refused", "cancel_pending", "cancel_kept"})
# look-ups that do not see young orders; activities filed late, at the place of their time; pages of `size` rows
READ_MODES = frozenset({"lag_lookup", "lag_activities", "short_pages"})
TARGETS = frozenset({"submit", "lookup", "cancel", "read", "any"})
DEFAULT_SECONDS = {
    "slow": 1.0, "late_arrival": 1.0, "fill_before_ack": 0.2, "reject_later": 0.0, "lag_lookup": 0.0,
    "cancel_pending": 1.0, "cancel_kept": 1.0, "lag_activities": 1.0,
}  # fmt: skip


class Faults:
    """The armed faults, in the order they were set; the first that fits a call is used."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._accepted: dict[str, float] = {}

    def arm(self, body: Any) -> dict[str, Any]:
        """Arm the fault a POST /control/faults body describes. Raises Refused 422."""
        if not isinstance(body, dict):
            raise Refused(422, 40010001, "body must be an object")
        mode, target = body.get("mode"), body.get("target", "submit")
        if mode not in CALL_MODES | STREAM_MODES | CANCEL_MODES | READ_MODES:
            raise Refused(422, 40010001, f"unknown mode {mode!r}")
        if target not in TARGETS or (mode in SUBMIT_ONLY and target != "submit"):
            raise Refused(422, 40010001, f"mode {mode} has no target {target!r}")
        try:
            times = None if body.get("times", 1) is None else int(body.get("times", 1))
            seconds = float(body.get("seconds", DEFAULT_SECONDS.get(mode, 30.0)))
            status, code = int(body.get("status", 422)), int(body.get("code", 42210000))
            size = int(body.get("size", 1))
        except (TypeError, ValueError):
            raise Refused(422, 40010001, "times, seconds, size, status and code must be numbers") from None
        message = str(body.get("message", "rejected by the fault switch"))
        fault = Fault(mode, target, times, seconds, body.get("symbol"), status, code, message, max(size, 1))
        self._armed.append(fault)
        return self.show(fault)

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()

    def listing(self) -> list[dict[str, Any]]:
        """Return the armed faults."""
        return [self.show(fault) for fault in self._armed]

    @staticmethod
    def show(fault: Fault) -> dict[str, Any]:
        """Return a fault as JSON."""
        return {"mode": fault.mode, "target": fault.target, "times": fault.times, "seconds": fault.seconds,
                "symbol": fault.symbol, "used": fault.used}  # fmt: skip

    def for_call(self, target: str, symbol: Any = None) -> Fault | None:
        """Take the fault for one call, if one is armed."""
        for fault in self._armed:
            if fault.mode in CALL_MODES and fault.target in (target, "any"):
                if fault.mode in SUBMIT_ONLY and target != "submit":
                    continue
                if fault.symbol is None or fault.symbol == symbol:
                    return self._take(fault)
        return None

    def for_cancel(self, symbol: str) -> Fault | None:
        """Take the fault for one cancel, alone or as an item of a cancel-all."""
        for fault in self._armed:
            if fault.mode in CANCEL_MODES and fault.symbol in (None, symbol):
                return self._take(fault)
        return None

    def page_size(self, asked: int) -> int:
        """The rows that a page of a listing gives when ``asked`` were wanted."""
        for fault in self._armed:
            if fault.mode == "short_pages":
                return min(asked, self._take(fault).size)
        return asked

    def filed_late(self) -> list[tuple[str | None, float]]:
        """(symbol or None for all, seconds): executions younger than that are not filed among the activities yet."""
        return [(fault.symbol, fault.seconds) for fault in self._armed if fault.mode == "lag_activities"]

    def for_event(self) -> str | None:
        """Take the fault for one stream event."""
        for fault in self._armed:
            if fault.mode in STREAM_MODES:
                return self._take(fault).mode
        return None

    def noted(self, client_order_id: str) -> None:
        """Remember when an order was accepted, for lagging look-ups."""
        self._accepted[client_order_id] = time.monotonic()

    def hides(self, client_order_id: str) -> bool:
        """Whether a look-up by client id lags: by calls when seconds is 0, else by the order's age."""
        for fault in self._armed:
            if fault.mode != "lag_lookup":
                continue
            if fault.seconds <= 0:
                self._take(fault)
                return True
            if time.monotonic() - self._accepted.get(client_order_id, float("-inf")) < fault.seconds:
                return True
        return False

    def _take(self, fault: Fault) -> Fault:
        fault.take()
        if fault.times is not None and fault.times <= 0:
            self._armed.remove(fault)
        return fault
