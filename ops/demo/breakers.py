"""Noon: a risk officer stops trading and starts it again; what only reduces the position still goes out."""

from __future__ import annotations

from ops.demo.stage import Stage


def stop(stage: Stage) -> None:
    answer = stage.call("POST", "breakers/account:demo/trip", {"reason": "unusual prices"}, who="RISK")
    stage.expect("the breaker trips", answer.status_code, 200, answer.text)
    stage.tell("The risk officer trips the account's breaker: unusual prices.")
    stage.tick("AAPL", "190.00")
    stage.denied(stage.order("demo-stopped"), "circuit_breaker", "circuit_open")
    sold = stage.order("demo-way-out", side="sell", qty="4")
    stage.expect("a sale of what is held goes out", sold.status_code, 201, sold.text)
    stage.tell("Selling 4 of the 10 held only reduces the position: [green]passed[/green].")


def start_again(stage: Stage) -> None:
    trader = stage.call("POST", "breakers/account:demo/reset", {"reason": "let me"})
    stage.expect("a strategy may not reset", trader.status_code, 403, trader.text)
    silent = stage.call("POST", "breakers/account:demo/reset", {}, who="RISK")
    stage.expect("a reset without a reason is refused", silent.status_code, 400, silent.text)
    early = stage.call("POST", "breakers/account:demo/reset", {"reason": "looks fine"}, who="RISK")
    stage.expect("a reset inside the cooldown is refused", early.status_code, 409, early.text)
    stage.tell("The strategy may not reset (403), nobody may without a reason (400) or in the cooldown (409).")
    path, reason = "breakers/account:demo/reset", {"reason": "prices confirmed with the venue"}
    stage.wait_for("the cooldown ends", lambda: stage.call("POST", path, reason, who="RISK").status_code == 200)
    stage.tell("After the cooldown, with a reason: [green]reset[/green].")
    stage.tick("AAPL", "190.10")
    stage.expect("orders pass again", stage.order("demo-again", qty="1").status_code, 201)


SCENES = [("Stop", stop), ("Start again, with a reason", start_again)]
