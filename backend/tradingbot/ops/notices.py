"""The words of a notification: what happened, where, since when, who may lift it, what to do.

Pure: a fact's kind, subject and data in, a notice out, or None for what nobody needs to be told. No figure appears that
the journal does not hold, and nothing here is secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

CRITICAL, WARNING, INFO = "critical", "warning", "info"
FEW = 5

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Notice:
    """What is told. ``key`` names the fact when it is not the journal entry itself, so that it is told of once."""

    kind: str
    severity: str
    title: str
    lines: tuple[tuple[str, str], ...]
    key: str = ""

    def text(self, at: datetime) -> str:
        """The lines as they are read, with the moment as UTC."""
        since = ("Since" if self.severity != INFO else "At", f"{at:%Y-%m-%d %H:%M:%S} UTC")
        return "\n".join(f"{name}: {value}" for name, value in (*self.lines[:2], since, *self.lines[2:]) if value)


def named(scope: str) -> str:
    """``account:main`` -> ``account main``; ``firm`` -> ``the whole firm``."""
    return "the whole firm" if scope == "firm" else scope.replace(":", " ", 1)


def span(seconds: float) -> str:
    """``1800`` -> ``30 min``; the largest two units that matter."""
    whole = max(int(seconds), 0)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{rest} s" if rest else ""]
    return " ".join([part for part in parts if part][:2]) or "0 s"


def few(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    more = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {more} more" if more > 0 else "")


def _tripped(subject: str, actor: str, data: Data) -> Notice:
    reason, values = str(data.get("reason", "")), data.get("values") or {}
    figures = [
        (label, values.get(name))
        for label, name in (
            ("start equity", "start_equity"),
            ("last equity", "last_equity"),
            ("errors in the last minute", "errors_last_min"),
            ("seconds since data", "data_staleness_sec"),
        )
    ]
    cause = "; ".join(f"{label} {value}" for label, value in figures if value not in (None, "", "None"))
    cooldown = float(values.get("cooldown_remaining_sec") or 0)
    return Notice(
        "trip", CRITICAL, f"TRIPPED {subject}: {reason}",
        (
            ("What", f"the circuit breaker of {named(subject)} opened, by {actor}: {reason}. "
                     "New risk is refused; orders that only reduce a position pass."),
            ("Where", subject),
            ("Figures", cause),
            ("Who may lift it", f"a person with the risk role, after the cooldown of {span(cooldown)}; "
                                "it never closes by itself."),
            ("What to do", "find the cause and end it, look at what is open, then reset the breaker with a reason."),
        ),
    )  # fmt: skip


def _reset(subject: str, actor: str, data: Data) -> Notice:
    return Notice(
        "reset", INFO, f"RESET {subject} by {actor}",
        (
            ("What", f"the circuit breaker of {named(subject)} was closed by {actor}: {data.get('reason', '')}. "
                     "Orders are let through again; it can trip again at once."),
            ("Where", subject),
            ("What to do", "nothing, if you know of it. If not, trip it again and ask who reset it."),
        ),
    )  # fmt: skip


def _kill_switch(subject: str, actor: str, data: Data) -> Notice:
    flattening = " and positions are closed" if data.get("flatten") else "; positions stay"
    return Notice(
        "kill_switch", CRITICAL, f"KILL SWITCH {subject} by {actor}",
        (
            ("What", f"{actor} pulled the kill switch for {named(subject)}: {data.get('reason') or 'no reason given'}. "
                     f"The scope is halted, open orders are cancelled{flattening}. Run {data.get('run', '?')}."),
            ("Where", subject),
            ("Who may lift it", "a person with the risk role, once the run is done; it never re-activates by itself."),
            ("What to do", "watch the run until nothing is open; then find out why, and re-activate with a reason."),
        ),
    )  # fmt: skip


def _kill_switch_ended(subject: str, actor: str, data: Data) -> Notice:
    stopped = "open_orders" in data
    orders = data.get("orders") or {}
    became = ", ".join(f"{count} {state}" for state, count in orders.items()) or "no orders were open"
    left = data.get("open_orders")
    many = "an unknown number of" if left is None else left
    what = (
        f"{actor} stopped run {data.get('run', '?')} of {named(subject)} with {many} orders still open: "
        f"{data.get('reason', '')}."
        if stopped
        else f"run {data.get('run', '?')} of {named(subject)} is done, nothing is open any more: {became}."
    )
    todo = "look at what is still open." if stopped else "find out why it was pulled before re-activating."
    return Notice(
        "kill_switch", WARNING if stopped else INFO,
        f"KILL SWITCH {subject} {'stopped' if stopped else 'done'}",
        (
            ("What", what),
            ("Where", subject),
            ("Who may lift it", "a person with the risk role; the scope stays halted until then."),
            ("What to do", todo),
        ),
    )  # fmt: skip


def _break(subject: str, actor: str, data: Data) -> Notice | None:
    if data.get("severity") != CRITICAL:
        return None
    kind = str(data.get("break_kind", "break"))
    where = f"{subject} {data.get('symbol') or ''}".rstrip()
    sides = [f"{side} {_pairs(data.get(name))}" for side, name in (("ours", "ours"), ("theirs", "theirs"))]
    return Notice(
        "break", CRITICAL, f"CRITICAL BREAK {kind}: {subject}",
        (
            ("What", f"our books and the broker's differ ({kind}) in {where}."),
            ("Where", f"break {data.get('break_id', '?')}, found by {actor}"),
            ("Figures", "; ".join(sides)),
            ("Who may lift it", "two people of the risk role: one resolves it with a reason, another closes it."),
            ("What to do", "compare with the broker's own statement, then assign and resolve the break. "
                           "While it is open the account's next session may be blocked."),
        ),
        key=f"break:{data.get('break_id')}",
    )  # fmt: skip


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping) or not values:
        return "nothing"
    return ", ".join(f"{name} {value}" for name, value in list(values.items())[:FEW])


def breaks_found(account: str, session: str, kinds: Mapping[str, int], ids: Sequence[int]) -> Notice:
    """The critical breaks that one reconciliation has opened, reopened or made worse."""
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    total = sum(kinds.values())
    return Notice(
        "break", CRITICAL, f"{total} CRITICAL BREAK{'S' if total > 1 else ''} of account {account}, {session}",
        (
            ("What", f"reconciling {session} found {counted}, all critical."),
            ("Where", f"account {account}, breaks {few([str(number) for number in ids])}"),
            ("Who may lift it", "two people of the risk role: one resolves each with a reason, another closes it."),
            ("What to do", "compare with the broker's statement, assign and resolve; the next session stays blocked."),
        ),
    )  # fmt: skip


def in_doubt(account: str, orders: Sequence[str], symbols: Sequence[str], seconds: float) -> Notice:
    """Orders of one account whose fate at the broker has been unknown for longer than ``seconds``."""
    count = len(orders)
    return Notice(
        "in_doubt", CRITICAL,
        f"IN DOUBT for {span(seconds)}: {orders[0]}" if count == 1 else f"{count} ORDERS IN DOUBT of account {account}",
        (
            ("What", f"the broker did not say what became of {few(orders)}. They are not sent again, keep their "
                     f"reservation, and block new risk in {few(symbols)}."),
            ("Where", f"account {account}"),
            ("Who may lift it", "recovery, once the broker answers; or the risk role, by attesting what happened."),
            ("What to do", "see that the broker is up and look the orders up there; attest only if it stays silent."),
        ),
    )  # fmt: skip


def data_stopped(stops: Sequence[tuple[str, str]], seconds: float) -> Notice:
    """Symbols whose market data has been stopped for longer than ``seconds``; each with the check that did it."""
    symbols = sorted({symbol for symbol, _ in stops})
    checks = sorted({check for _, check in stops})
    return Notice(
        "data_stop", WARNING, f"DATA STOPPED {few(symbols)}",
        (
            ("What", f"market data of {few(symbols)} is stopped for longer than {span(seconds)} by {few(checks)}. "
                     "New risk in these symbols is refused."),
            ("Where", ", ".join(f"symbol:{symbol}" for symbol in symbols[:FEW])),
            ("Who may lift it", "a clean tick or check by itself; or a person of the risk role with a reason."),
            ("What to do", "compare the evidence with another source; see that the feed is right before releasing it."),
        ),
    )  # fmt: skip


def journal_broken(chains: Sequence[str]) -> Notice:
    """Chains that no longer prove."""
    return Notice(
        "journal", CRITICAL, f"JOURNAL BROKEN: {few(chains)}",
        (
            ("What", f"the hash chains {few(chains)} do not hold: entries were changed, removed or made anew."),
            ("Where", few(chains)),
            ("Who may lift it", "nobody: it is evidence. Keep the database and the anchors as they are."),
            ("What to do", "stop trading, follow the runbook ops/runbooks/journal-broken.md."),
        ),
    )  # fmt: skip


def _heartbeat_lost(subject: str, actor: str, data: Data) -> Notice:
    done = {"reduce": "it may only reduce now", "cancel": "it may only reduce now, and its open orders are cancelled"}
    return Notice(
        "heartbeat", CRITICAL, f"HEARTBEAT LOST {subject}",
        (
            ("What", f"{named(subject)} had promised a sign of life every {span(float(data.get('interval') or 0))} and "
                     f"was silent for {span(float(data.get('silent') or 0))}: "
                     f"{done.get(str(data.get('action')), 'it is stopped')}."),
            ("Where", subject),
            ("Who may lift it", "a person with the risk role re-activates it; a heartbeat that returns does not."),
            ("What to do", "see why the strategy is silent, look at its positions, restart it, then re-activate it."),
        ),
    )  # fmt: skip


TOLD: dict[str, Callable[[str, str, Data], Notice | None]] = {
    "breaker_trip": _tripped,
    "breaker_reset": _reset,
    "kill_switch_pulled": _kill_switch,
    "kill_switch_flatten_added": _kill_switch,
    "kill_switch_stopped": _kill_switch_ended,
    "kill_switch_done": _kill_switch_ended,
    "break_opened": _break,
    "break_changed": _break,
    "heartbeat_lost": _heartbeat_lost,
}


def notice_of(kind: str, subject: str, actor: str, data: Data) -> Notice | None:
    """The notice of a journal entry, or None when nobody is told of it."""
    wording = TOLD.get(kind)
    return None if wording is None else wording(subject, actor, data)
