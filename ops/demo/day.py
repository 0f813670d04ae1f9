"""Evening: the day is compared with the broker's statement, a break blocks the account, and two people free it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import requests

from backend.tradingbot.data.calendar import ROUND_THE_CLOCK, session_date
from ops.demo.stage import Stage

CENTS_OFF = Decimal("0.05")


def statement(stage: Stage) -> None:
    """The broker's own statement, asked for and compared as the day stands; beat closes it after 17:00 New York."""
    run = compare(stage, "the day as it stands")
    told = run["counts"]
    stage.expect("every execution is matched", sum(told["matched"].values()), told["ours"], json.dumps(told))
    stage.expect("no break stands", breaks(stage), [])
    proofs = [proof["unexplained"] for proof in (*run["proofs"]["ours"], *run["proofs"]["theirs"])]
    stage.expect("nothing is left unexplained in any proof", set(proofs), {"0"})
    kept = stage.call("GET", "recon/statements?account=demo", who="RISK").json()["statements"][0]
    original = stage.call("GET", f"recon/statements/{kept['id']}/original", who="RISK").content
    stage.expect("the statement is kept byte for byte", hashlib.sha256(original).hexdigest(), kept["sha256"])
    stage.memory |= {"session": run["session"], "original": original}
    stage.tell(f"The broker's statement of {run['session']}, SHA-256 {kept['sha256'][:12]}..., is kept as it came.")
    stage.tell(
        f"{told['ours']} executions here, {told['theirs']} there: all matched; {len(proofs)} proofs of positions and "
        "cash add up with nothing unexplained."
    )


def planted_break(stage: Stage) -> None:
    """A file arrives in which one fill stands at another price: the account opens no new risk until that is settled."""
    body = json.loads(stage.memory["original"])
    fill = next(each for each in body["activities"] if each["activity_type"] == "FILL" and each["symbol"] == "MSFT")
    before, fill["price"] = fill["price"], str(Decimal(fill["price"]) + CENTS_OFF)
    paid = CENTS_OFF * Decimal(fill["qty"]) * (1 if fill["side"] == "buy" else -1)
    for name in ("cash", "equity"):
        body["account"][name] = str(Decimal(body["account"][name]) - paid)
    upload(stage, "custodian.json", json.dumps(body).encode())
    stage.tell(f"The custodian's file has the MSFT fill at {fill['price']}, our books at {before}.")
    compare(stage, "the custodian's file")
    found = breaks(stage)
    stage.expect("the price is a break", "price" in {each["kind"] for each in found}, True, json.dumps(found))
    stage.tell(f"[red]{len(found)} break{'s' if len(found) > 1 else ''}[/red]: " + "; ".join(map(told_as, found)))
    stage.tick("AAPL", "190.10")
    stage.tell("A new purchase, today or in the next session: [red]denied[/red].")
    stage.denied(stage.order("demo-blocked", qty="1"), "reconciliation", "reconciliation_block")
    sold = stage.order("demo-way-out-2", side="sell", qty="1")
    stage.expect("a sale that only reduces goes out", sold.status_code, 201, sold.text)
    stage.tell("Selling 1 of those held only reduces the position: [green]passed[/green].")


def told_as(found: dict[str, Any]) -> str:
    differs = ", ".join(f"{name} {value}" for name, value in found["difference"].items())
    return f"{found['kind']} {found['symbol'] or ''} ({differs})"


def two_people(stage: Stage) -> None:
    """Who explains does not close; when the second person has closed the last break, the account is free."""
    stage.settings["TRADINGBOT_SECOND_TOKEN"] = stage.manage("key", "create", "demo-second", "--role", "risk").split()[
        -1
    ]
    for found in breaks(stage):
        path, why = f"recon/breaks/{found['id']}", {"reason": "the custodian confirms a typing error by phone"}
        trader = stage.call("POST", f"{path}/explain", why)
        stage.expect("a strategy explains nothing", trader.status_code, 403, trader.text)
        stage.expect("nothing without a reason", stage.call("POST", f"{path}/explain", {}, who="RISK").status_code, 400)
        first = stage.call("POST", f"{path}/explain", why, who="RISK")
        stage.expect("the first person explains", first.json().get("status"), "explained", first.text)
        own = stage.call("POST", f"{path}/close", {"reason": "and I agree"}, who="RISK")
        stage.expect("the same person does not close", own.json().get("code"), "maker_is_checker", own.text)
        second = stage.call("POST", f"{path}/close", {"reason": "seen the confirmation"}, who="SECOND")
        stage.expect("the second person closes", second.json().get("status"), "closed", second.text)
    stage.tell("The risk officer explains it, and may not close it himself (403, maker_is_checker).")
    blocks = stage.call("GET", "recon/blocks?account=demo", who="RISK").json()["blocks"]
    stage.expect("no block stands", [each for each in blocks if each["lifted_at"] is None], [])
    stage.tell("A second person closes it, with a reason of his own: [green]unblocked[/green].")
    stage.tick("AAPL", "190.10")
    passed = stage.order("demo-free", qty="1")
    stage.expect("the purchase passes now", passed.status_code, 201, passed.text)
    stage.tell("The same purchase under a new id: [green]passed[/green].")


def the_report(stage: Stage) -> None:
    """What is left on file: the same inputs again find nothing new, and the report says who decided what."""
    again = compare(stage, "once more, nothing new")
    stage.expect("the same inputs add nothing", breaks(stage), [])
    page = stage.call("GET", f"recon/runs/{again['id']}/report", who="RISK")
    stage.expect("the report is one page", page.headers.get("Content-Type"), "text/html; charset=utf-8")
    for name in ("key:demo-risk", "key:demo-second"):
        stage.expect(f"the report names {name}", name in page.text, True)
    stage.expect("the report brings its chart", "<svg" in page.text, True)
    stage.tell(f"The day's report, one page of {len(page.content) // 1024} KB to keep, names both people.")


def compare(stage: Stage, reason: str) -> dict[str, Any]:
    session = stage.memory.get("session") or today()
    body = {"account": "demo", "session": session, "interim": True, "reason": reason}
    answer = stage.call("POST", "recon/runs", body, who="RISK")
    stage.expect("the run is made", (answer.status_code, answer.json().get("state")), (200, "interim"), answer.text)
    return dict(answer.json())


def today() -> str:
    """The trading date of now, in the calendar of the demo's account."""
    return str(session_date(datetime.now(UTC), ROUND_THE_CLOCK))


def breaks(stage: Stage) -> list[dict[str, Any]]:
    return list(stage.call("GET", "recon/breaks?account=demo", who="RISK").json()["breaks"])


def upload(stage: Stage, name: str, content: bytes) -> None:
    answer = requests.post(
        f"{stage.url}/api/v1/recon/statements",
        data={"account": "demo", "session": stage.memory["session"], "source": "alpaca_json"},
        files={"file": (name, content)},
        headers={"Authorization": f"Bearer {stage.settings['TRADINGBOT_RISK_TOKEN']}"},
        timeout=30,
    )
    stage.expect("the file is taken in", answer.status_code, 201, answer.text)


SCENES = [
    ("The day is compared with the broker's statement", statement),
    ("A break blocks the next session", planted_break),
    ("Two people free it", two_people),
    ("What stays on file", the_report),
]
