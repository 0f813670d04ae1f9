"""The morning: orders pass, repeat, and are refused, each for its own reason."""

from __future__ import annotations

from ops.demo.stage import Stage


def no_data_no_trade(stage: Stage) -> None:
    answer = stage.order("demo-blind")
    stage.tell("A strategy orders before any price was seen: [red]denied[/red].")
    stage.denied(answer, "data_quality", "never_seen")


def one_order(stage: Stage) -> None:
    stage.tick("AAPL", "190.00")
    answer = stage.order("demo-first", qty="10")
    stage.expect("the order is created", answer.status_code, 201, answer.text)
    order = answer.json()
    passed = [check["gate"] for check in order["decision"]["checks"] if check["passed"]]
    stage.expect("every gate passed", len(passed), len(order["decision"]["checks"]), answer.text)
    stage.tell(f"Buy 10 AAPL at market: {len(passed)} gates passed, broker's id {order['broker_order_id'][:8]}...")
    stage.wait_for("the order fills", lambda: stage.read("demo-first")["status"] == "filled")
    filled = stage.read("demo-first")
    stage.tell(f"[green]Filled[/green] {filled['filled_qty']} at {filled['avg_price']}.")
    stage.memory["first"] = order


def the_same_again(stage: Stage) -> None:
    answer = stage.order("demo-first", qty="10")
    stage.expect("a repeat is answered", answer.status_code, 200, answer.text)
    stage.expect("it is marked as replayed", answer.headers.get("Idempotent-Replayed"), "true")
    first = stage.memory["first"]["broker_order_id"]
    stage.expect("it is the same order", answer.json()["broker_order_id"], first)
    stage.tell("The same request again: the same order, nothing sent.")
    other = stage.order("demo-first", qty="11")
    stage.expect("another body is refused", other.status_code, 422, other.text)
    stage.expect("the code says why", other.json()["code"], "client_order_id_reused")
    stage.tell("The same id with 11 shares: [red]refused[/red], client_order_id_reused.")


def strangers_and_nonsense(stage: Stage) -> None:
    body = {"client_order_id": "demo-x", "account": "demo", "strategy": "demo", "symbol": "AAPL", "side": "buy"}
    unknown = stage.call("POST", "orders", {**body, "qty": "1", "type": "market"}, who="nobody")
    stage.expect("no key is no access", unknown.status_code, 401, unknown.text)
    stage.tell("Without a key: 401.")
    for qty in ("NaN", "0", "-5", "1e99"):
        answer = stage.order("demo-nonsense", qty=qty)
        stage.expect(f"a quantity of {qty} is refused", answer.status_code, 400, answer.text)
    stage.tell("Quantities NaN, 0, -5 and 1e99: 400, the field is named, the id stays free.")


def each_for_its_reason(stage: Stage) -> None:
    stage.tell("A symbol outside the profile: [red]denied[/red].")
    stage.denied(stage.order("demo-symbol", symbol="GME"), "restricted_symbol", "symbol_not_allowed")
    stage.tell("More than the cash pays for: [red]denied[/red].")
    stage.denied(stage.order("demo-rich", qty="1000000"), "buying_power", "insufficient")
    stage.tell("A sale of more than is held: [red]denied[/red].")
    stage.denied(stage.order("demo-short", side="sell", qty="500"), "buying_power", "short_not_allowed")


SCENES = [
    ("No data, no trade", no_data_no_trade),
    ("One order, end to end", one_order),
    ("The same request twice is never two orders", the_same_again),
    ("Strangers and nonsense", strangers_and_nonsense),
    ("Refused, each for its reason", each_for_its_reason),
]
