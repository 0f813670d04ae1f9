"""Afternoon: the broker takes an order and its answer is lost; then the books on both sides are compared."""

from __future__ import annotations

from ops.demo.stage import Stage


def lost_answer(stage: Stage) -> None:
    stage.tick("MSFT", "420.00")
    silent = {"mode": "gap_events", "target": "any", "times": 2}  # or the stream tells of the order before the doubt
    for fault in (silent, {"mode": "drop_after_accept", "target": "submit"}):
        stage.expect("the fault is on", stage.broker("POST", "/control/faults", fault).status_code // 100, 2)
    answer = stage.order("demo-lost", symbol="MSFT", qty="3")
    stage.expect("the outcome is not known", answer.status_code, 202, answer.text)
    stage.expect("the order is in doubt", answer.json()["status"], "in_doubt", answer.text)
    stage.broker("DELETE", "/control/faults")
    stage.tell(
        "The connection breaks after the broker took the order: [yellow]in doubt[/yellow], nothing is sent again."
    )
    blocked = stage.order("demo-behind", symbol="MSFT", qty="1")
    if blocked.status_code == 422:
        stage.denied(blocked, "in_doubt", "symbol_in_doubt")
    stage.wait_for("recovery finds the order", lambda: stage.read("demo-lost")["status"] == "filled", 60)
    found = [row for row in ledger(stage) if row["client_order_id"] == "demo-lost"]
    stage.expect("it stands at the broker once", len(found), 1)
    stage.tell("Recovery looked the id up: one order at the broker, [green]filled[/green].")


def ledger(stage: Stage) -> list[dict[str, str]]:
    """Every order that the broker ever accepted, from its own books."""
    return list(stage.broker("GET", "/control/ledger").json()["orders"])


def the_books(stage: Stage) -> None:
    theirs = sorted(row["client_order_id"] for row in ledger(stage))
    answer = stage.call("GET", "orders?account=demo&limit=200")
    rows = answer.json()["orders"] if isinstance(answer.json(), dict) else answer.json()
    ours = sorted(row["client_order_id"] for row in rows if row["broker_order_id"])
    stage.expect("the broker's ledger and our orders agree", ours, theirs)
    stage.expect("no id stands twice", len(set(theirs)), len(theirs))
    stage.tell(f"{len(rows)} orders here, {len(theirs)} of them at the broker, the same ids on both sides.")
    again = stage.manage("replay_decision", "--all").splitlines()
    same = [line for line in again if "the same as stored" in line]
    judged = {line.split(":")[0] for line in same}
    stage.expect("every decision came out as stored", len(same), len(again))
    stage.expect("no decision of the day is missing", {row["client_order_id"] for row in rows} - judged, set())
    stage.tell(f"{len(again)} decisions were judged again from their stored snapshots, and all came out the same.")
    stage.tell(f"Journal: {'; '.join(stage.manage('journal', 'verify').splitlines())}.")


SCENES = [("An answer is lost", lost_answer), ("The books agree", the_books)]
