"""Before noon: every gate says no once, with its reason and its remedy, and nothing else refuses beside it.

The scenes tighten limits in one symbol, SPY, which nobody holds, so that the rest of the day trades on as before.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ops.demo.stage import Stage

BY_HAND = {"reason": "to show what the gate says"}
NEW_YORK_OPENS = "XNYS"


def who_may_send(stage: Stage) -> None:
    stage.tick("AAPL", "190.00")
    stage.tell("A build that nobody registered: [red]denied[/red].")
    stage.denied(stage.order("gate-mode", build="nightly-7"), "strategy_mode", "mode_unknown")
    stage.done("POST", "strategies/demo/builds", {"build_id": "faulty-1"}, 201)
    stage.done("POST", "strategies/demo/withdraw", {"build_id": "faulty-1", **BY_HAND}, 200, who="RISK")
    stage.tell("A build that the risk officer withdrew: [red]denied[/red].")
    stage.denied(stage.order("gate-build", build="faulty-1"), "build_allowed", "build_withdrawn")
    stage.tell("An id that was used, at the check: [red]denied[/red].")
    body = {"client_order_id": "demo-first", "account": "demo", "strategy": "demo", "symbol": "AAPL", "side": "buy"}
    checked = stage.call("POST", "orders/check", {**body, "qty": "1", "type": "market"})
    stage.refused(checked.json(), "replay_guard", "client_order_id_used")


def stops(stage: Stage) -> None:
    halt = {"scope": "account:demo", "state": "halted", **BY_HAND}
    stage.done("PUT", "trading-state", halt, 200, who="RISK")
    stage.tell("The risk officer halts the account: [red]denied[/red], sales as well.")
    stage.denied(stage.order("gate-halted", qty="1"), "trading_state", "halted")
    stage.done("PUT", "trading-state", {**halt, "state": "active"}, 200, who="RISK")
    block = {"account": "demo", "session": datetime.now(UTC).date().isoformat(), **BY_HAND}
    number = stage.done("POST", "recon/blocks", block, 201, who="RISK")["id"]
    stage.tell("The next day is disabled until the books agree: [red]denied[/red].")
    stage.denied(stage.order("gate-block", qty="1"), "reconciliation", "reconciliation_block")
    stage.done("POST", f"recon/blocks/{number}/lift", BY_HAND, 200, who="RISK")


def in_doubt(stage: Stage) -> None:
    stage.tick("MSFT", "420.00")
    stage.expect("the fault is on", stage.broker("POST", "/control/faults", {"mode": "drop_before"}).status_code, 201)
    lost = stage.order("gate-lost", symbol="MSFT", qty="1")
    stage.expect("its outcome is not known", lost.json()["status"], "in_doubt", lost.text)
    stage.tell("An order whose fate is not known stops its symbol: [red]denied[/red].")
    stage.denied(stage.order("gate-behind", symbol="MSFT", qty="1"), "in_doubt", "symbol_in_doubt")
    attested = {"account": "demo", "outcome": "rejected", "reason": "the broker's desk: it never came"}
    order = stage.done("POST", "orders/gate-lost/attest", attested, 200, who="RISK")["order"]
    stage.expect("its fate is settled", order["status"], "rejected")
    stage.tell("The risk officer asks the broker's desk and attests what became of it; the symbol is free again.")


def how_large(stage: Stage) -> None:
    stage.tick("SPY", "500.00")
    limit(stage, "order_qty_max", "50")
    stage.tell("60 SPY where an order may have 50: [red]denied[/red].")
    stage.denied(buy(stage, "gate-size", "60"), "order_size", "quantity_too_large")
    stage.tell("A price 20 % above the market: [red]denied[/red].")
    stage.denied(buy(stage, "gate-collar", "5", "600.00"), "price_collar", "too_aggressive")
    nervous(stage)
    stage.tell("The volatility index is at 30, half of the largest order is left: [red]denied[/red].")
    stage.denied(buy(stage, "gate-wild", "30"), "volatility_throttle", "throttled")


def how_much(stage: Stage) -> None:
    stage.tick("SPY", "500.00")
    steps: tuple[tuple[str, str, str, str, str, str], ...] = (
        ("position_long_max", "20", "22", "position_limit", "position_too_long", "22 SPY where 20 may be held"),
        ("concentration_max_bps", "80", "18", "concentration", "too_concentrated", "Over 0.8 % of equity in one name"),
        ("gross_exposure_max", "6000", "14", "gross_exposure", "headroom_exhausted", "More gross than all may have"),
        ("net_exposure_max", "5000", "11", "net_exposure", "headroom_exhausted", "More net than all may have"),
        ("name_delta_max", "9", "10", "greek_exposure", "name_delta_long", "A delta of 10 where 9 is the limit"),
    )
    for kind, value, qty, gate, code, story in steps:
        limit(stage, kind, value)
        stage.tell(f"{story}: [red]denied[/red].")
        stage.denied(buy(stage, f"gate-{gate.replace('_', '-')}", qty), gate, code)


def how_often(stage: Stage) -> None:
    stage.tick("SPY", "500.00")
    limit(stage, "duplicate_orders_max", "1")
    limit(stage, "duplicate_window_seconds", "60")
    stage.expect("one goes", buy(stage, "gate-once", "1", "450.00").status_code, 201)
    stage.tell("The very same order again, under a new id: [red]denied[/red].")
    stage.denied(buy(stage, "gate-twice", "1", "450.00"), "duplicate_intent", "duplicate")
    limit(stage, "repeat_orders_max", "2")
    for number in range(2):
        stage.expect("one more goes", buy(stage, f"gate-loop-{number}", "2", f"45{number}.00").status_code, 201)
    stage.tell("A pattern for the third time, at ever other prices: [red]denied and disabled[/red].")
    stage.denied(buy(stage, "gate-loop-2", "2", "452.00"), "repeated_execution", "repeats_exceeded")
    stage.denied(buy(stage, "gate-loop-3", "2", "453.00"), "repeated_execution", "pattern_disabled")
    patterns = stage.done("GET", "disabled-patterns", None, 200, who="RISK")["patterns"]
    enabled = stage.done("POST", f"disabled-patterns/{patterns[0]['id']}/enable", BY_HAND, 200, who="RISK")
    stage.expect("it goes again", buy(stage, "gate-loop-4", "2", "454.00").status_code, 201)
    stage.tell(f"{enabled['enabled_by']} looked and enabled it: [green]passed[/green].")
    limit(stage, "order_rate_strategy_per_min", "3")
    stage.tell("More orders in a minute than the strategy may send: [red]denied[/red].")
    stage.denied(buy(stage, "gate-rate", "1", "440.00"), "order_rate", "rate_exceeded")
    canceled = stage.done("POST", "orders/cancel-all", {"account": "demo", "symbol": "SPY"}, 202)["orders"]
    stage.expect("cancels are never held back", len(canceled), 4)
    rates = stage.done("GET", "accounts/demo/exposure", None, 200)["rates"]
    stage.tell(f"Four cancels still pass; {rates['cancels']['value']} were counted in this minute.")


def oneself(stage: Stage) -> None:
    stage.tick("AAPL", "190.00")
    resting = stage.order("gate-rests", side="sell", qty="1", type="limit", limit_price="195.00")
    stage.expect("a sale rests at 195", resting.status_code, 201, resting.text)
    stage.tell("A purchase that would meet the account's own sale: [red]denied[/red].")
    crossing = stage.order("gate-self", qty="1", type="limit", limit_price="195.00")
    stage.denied(crossing, "self_match", "would_match_own_order")
    stage.done("DELETE", "orders/gate-rests?account=demo", None, 202)
    stage.wait_for("the sale is canceled", lambda: stage.read("gate-rests")["status"] == "canceled")


def the_clock(stage: Stage) -> None:
    """Whatever the hour at which the demo plays: when New York is open, the same order is judged as of Sunday."""
    stage.tick("AAPL", "190.00")
    stage.manage("account", "create", "hours", "--broker-account", "PA-HOURS", "--cash", "100000", "--symbols", "AAPL",
                 "--session-calendar", NEW_YORK_OPENS)  # fmt: skip
    token = stage.manage("key", "create", "hours-bot", "--role", "trader", "--account", "hours", "--strategy", "demo")
    stage.settings["TRADINGBOT_HOURS_TOKEN"] = token.splitlines()[-1]
    body = {"client_order_id": "gate-hours", "account": "hours", "strategy": "demo", "symbol": "AAPL", "side": "buy"}
    answer = stage.call("POST", "orders", {**body, "qty": "1", "type": "market"}, who="HOURS")
    checks = answer.json().get("order", answer.json())["decision"]["checks"]
    said = next(check for check in checks if check["gate"] == "market_hours")
    if not said["passed"]:
        stage.tell("An account that trades New York's hours, and New York is closed: [red]denied[/red].")
        stage.denied(answer, "market_hours", "market_closed")
        return
    now = datetime.now(UTC)
    sunday = (now + timedelta(days=(6 - now.weekday()) % 7 or 7)).replace(hour=12, minute=0, second=0, microsecond=0)
    judged = stage.manage("replay_decision", "gate-hours", "--account", "hours", "--session-at", sunday.isoformat())
    stage.expect("on a Sunday it is refused", "market_hours: market_closed" in judged, True, judged)
    stage.refusals.add("market_hours")
    stage.tell("New York is open now; the same order judged as of next Sunday: [red]denied[/red].")
    stage.tell(f"   [dim]{judged.splitlines()[-1].strip()}[/dim]")


def nervous(stage: Stage) -> None:
    """The volatility index comes in like any tick, by a key that may feed it and nothing else."""
    limit(stage, "volatility_elevated_pct", "50")
    limit(stage, "volatility_max_age_seconds", "600")
    token = stage.manage("key", "create", "index-feed", "--role", "viewer", "--capability", "feed", "--feed", "VIX")
    stage.settings["TRADINGBOT_INDEX_TOKEN"] = token.splitlines()[-1]
    tick = {"symbol": "VIX", "price": "30.00", "time": datetime.now(UTC).isoformat()}
    stage.done("POST", "market-data/ticks", {"ticks": [tick]}, 200, who="INDEX")


def limit(stage: Stage, kind: str, value: str) -> None:
    """The risk officer tightens one limit in SPY; it acts on the very next order."""
    body = {"scope": "symbol:SPY", "kind": kind, "value": value, **BY_HAND}
    stage.done("POST", "limits", body, 201, who="RISK")


def buy(stage: Stage, name: str, qty: str, price: str | None = None) -> Any:
    terms = {"type": "market"} if price is None else {"type": "limit", "limit_price": price}
    return stage.order(name, symbol="SPY", qty=qty, **terms)


def roll_call(stage: Stage) -> None:
    gates = [check["gate"] for check in stage.memory["first"]["decision"]["checks"]]
    silent = sorted(set(gates) - stage.refusals)
    stage.expect("every gate has refused something today", silent, [])
    stage.tell(f"All {len(gates)} gates have said no today, each with its message and its remedy.")
    again = stage.manage("replay_decision", "--all").splitlines()
    other = [line for line in again if "the same as stored" not in line]
    stage.expect("every decision of the whole day comes out the same again", other, [])
    stage.tell(f"All {len(again)} decisions of the day, judged again from their snapshots: the same.")


SCENES = [
    ("Refused for who sends", who_may_send),
    ("Refused while stopped", stops),
    ("Refused while an order is in doubt", in_doubt),
    ("Refused for its size and price", how_large),
    ("Refused for what it would add up to", how_much),
    ("Refused for how often", how_often),
    ("Refused for meeting the account's own order", oneself),
    ("Refused for the hour", the_clock),
]
ROLL_CALL = [("Every gate has spoken", roll_call)]
