"""The day closes against a real broker process: its own statement, planted differences, the gate, and two people."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.data.calendar import ROUND_THE_CLOCK, session_date
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import (
    Account,
    BookEntry,
    Break,
    Position,
    ReconciliationBlock,
    ReconRun,
    Statement,
    TradingState,
)
from backend.tradingbot.services import recon, recon_intraday
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.fills import poll_account
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.recon_policies import set_policy
from tests.integration.conftest import MAY_HAMMER, Gateway

pytestmark = pytest.mark.django_db(transaction=True)
FEES = {"sale_of_dollar": "0.0000278", "sale_of_share": "0.000166", "sale_cap": "8.30"}
D = Decimal


class Desk:
    """A gateway in front of a broker process of its own, with two risk officers."""

    def __init__(self, url: str, broker: Any, account: Account) -> None:
        strategy = create_strategy(code="mean", mode="live")
        bound = {"account": account, "strategy": strategy}
        _, trader = create_key(name="trader", role="trader", capabilities=["feed"], feed_symbols=["AAPL"], **bound)
        tokens = [create_key(name=name, role="risk")[1] for name in ("ann", "ben")]
        self.ann, self.ben = tokens
        self.broker, self.account = broker, account
        self.api = Gateway(url, trader, self.ann, "r")
        self.today = session_date(SYSTEM_CLOCK.now(), ROUND_THE_CLOCK)

    def buy(self, name: str, **changes: Any) -> requests.Response:
        self.api.tick(price="100.00")
        self.broker.quote("100.00", "100.00")
        answer = self.api.order(name, **changes)
        poll_account(self.account, clock=SYSTEM_CLOCK)
        return answer

    def run(self, token: str | None = None) -> dict[str, Any]:
        body = {"account": "main", "session": str(self.today), "interim": True}
        answer = self.api.call("POST", "recon/runs", body, token or self.ann)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def breaks(self) -> list[dict[str, Any]]:
        return self.api.call("GET", "recon/breaks?account=main").json()["breaks"]

    def step(self, number: int, step: str, token: str, **body: Any) -> requests.Response:
        return self.api.call("POST", f"recon/breaks/{number}/{step}", {"reason": "seen", **body}, token)


@pytest.fixture
def desk(live_server, start, settings) -> Desk:
    broker = start(cash="10000")
    changes = {
        "broker": "paper", "alpaca_base_url": broker.url, "alpaca_api_key": SecretStr("key"),
        "alpaca_secret_key": SecretStr("secret"), "broker_read_timeout": 10.0, "mark_seconds": 100.0,
    }  # fmt: skip
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)
    hot_state()._redis.flushdb()
    number = execution_client(settings.TRADINGBOT).account().account_number
    account = create_account(
        code="main", cash=D(10_000), broker_account=number, symbols=["AAPL"], session_calendar=ROUND_THE_CLOCK,
        limits=MAY_HAMMER,
    )  # fmt: skip
    set_policy(account, {"fees": FEES}, actor="setup", reason="what the broker charges", clock=SYSTEM_CLOCK)
    return Desk(live_server.url, broker, account)


def gate(answer: requests.Response) -> list[str]:
    order = answer.json().get("order", answer.json())
    return [check["gate"] for check in order["decision"]["checks"] if not check["passed"]]


def test_a_day_of_the_brokers_own_books_has_no_breaks_and_keeps_its_statement(desk):
    assert desk.buy("one").status_code == 201
    assert desk.buy("two", side="sell", qty="2").status_code == 201
    run = desk.run()
    assert (run["state"], run["counts"]["matched"], desk.breaks()) == ("interim", {"execution_id": 2}, [])
    assert {proof["unexplained"] for proof in (*run["proofs"]["ours"], *run["proofs"]["theirs"])} == {"0"}
    statement = Statement.objects.get()
    assert statement.sections == ["executions", "orders", "positions", "activities", "cash"]
    assert json.loads(original(statement))["complete"] is True


def original(statement):
    from backend.tradingbot.services.statements import original_of

    return original_of(statement)


def test_a_wrong_fee_blocks_new_risk_until_two_people_have_closed_it(desk):
    assert desk.buy("one").status_code == 201
    fee = {"kind": "FEE", "amount": "-1.23", "description": f"odd fee on {datetime.now(UTC):%Y-%m-%d}"}
    assert desk.broker.call("POST", "/control/cash", fee).status_code == 201
    desk.run()
    (found,) = desk.breaks()
    assert (found["kind"], found["difference"], found["value"]) == ("fee", {"fee": "1.23"}, "1.23")
    denied = desk.buy("two")
    assert (denied.status_code, gate(denied)) == (422, ["reconciliation"])
    out = desk.buy("out", side="sell", qty="1")
    assert (out.status_code, gate(out)) == (201, [])
    written = desk.step(found["id"], "resolve", desk.ann, resolution="written_off")
    assert (written.status_code, written.json()["status"]) == (200, "written_off")
    own = desk.step(found["id"], "close", desk.ann)
    assert (own.status_code, own.json()["code"]) == (403, "maker_is_checker")
    assert desk.api.call("POST", f"recon/breaks/{found['id']}/close", {"reason": "r"}).status_code == 403
    closed = desk.step(found["id"], "close", desk.ben)
    assert (closed.status_code, closed.json()["status"], desk.breaks()) == (200, "closed", [])
    assert BookEntry.objects.get().amount == D("-1.23")
    assert desk.buy("three").status_code == 201
    assert desk.run()["state"] == "interim"
    assert desk.breaks() == []


def test_a_fill_that_was_lost_here_is_found_by_the_brokers_statement(desk):
    assert desk.buy("one").status_code == 201
    from backend.tradingbot.models import Order

    order = Order.objects.get()
    body = {"order_id": order.broker_order_id, "qty": "3", "price": "99.00"}
    assert desk.broker.call("POST", "/control/execute", body).status_code == 201
    desk.run()
    assert [(found["kind"], found["difference"]["qty AAPL"]) for found in desk.breaks()] == [("missing_internal", "3")]


def test_a_bust_that_our_books_took_in_is_no_break(desk):
    assert desk.buy("one").status_code == 201
    fill = desk.broker.ledger()["executions"][0]
    assert desk.broker.call("POST", "/control/bust", {"execution_id": fill["execution_id"]}).status_code == 201
    poll_account(desk.account, clock=SYSTEM_CLOCK)
    desk.run()
    kinds = {found["kind"] for found in desk.breaks() if found["opened_by"] == "reconciliation"}
    assert kinds == set()
    assert Position.objects.get().qty == 0


@pytest.mark.parametrize("mode", ["error_500", "garbage", "drop_before"])
def test_a_failed_question_is_a_break_and_a_block_and_never_flat(desk, mode):
    assert desk.buy("one").status_code == 201
    desk.broker.fault(mode, target="read", times=1)
    run = desk.run()
    assert (run["state"], Statement.objects.count()) == ("failed", 0)
    assert [found["kind"] for found in desk.breaks()] == ["stale_or_incomplete_source"]
    assert gate(desk.buy("two")) == ["reconciliation"]
    desk.run()
    assert desk.breaks() == []


def test_another_account_at_the_broker_is_refused(desk):
    Account.objects.update(broker_account="someone-else")
    desk.account.refresh_from_db()
    run = desk.run()
    assert (run["state"], "is of account" in run["failure"]) == ("failed", True)


def test_a_session_that_has_ended_is_closed_by_beat_with_what_came_after_it_taken_off(desk):
    """Yesterday's session, run today: the broker's positions of now are taken back to its end."""
    assert desk.buy("one").status_code == 201
    Account.objects.update(created_at=datetime.now(UTC) - timedelta(days=2))
    desk.account.refresh_from_db()
    assert gate(desk.buy("two")) == ["reconciliation"]
    runs = recon.close_missed(desk.account, actor="beat", clock=SYSTEM_CLOCK)
    assert [run.state for run in runs] == ["completed"] * len(runs)
    assert len(runs) in (1, 2)
    assert runs[-1].closing["ours"] == runs[-1].closing["theirs"] == {"positions": {}, "cash": "10000"}
    assert list(Break.objects.values_list("kind", "subject", "difference", "ours", "theirs", "status")) == []
    assert desk.buy("three").status_code == 201


def test_a_position_that_does_not_fit_halts_its_symbol_and_a_failed_question_halts_nothing(desk):
    assert desk.buy("one").status_code == 201
    assert recon_intraday.compare_account(desk.account, clock=SYSTEM_CLOCK) == []
    Position.objects.update(qty=4)
    desk.broker.fault("error_500", target="read", times=1)
    assert recon_intraday.compare_all(clock=SYSTEM_CLOCK) == {}
    assert not TradingState.objects.filter(scope="symbol:AAPL").exists()
    assert recon_intraday.compare_account(desk.account, clock=SYSTEM_CLOCK) == ["AAPL"]
    state = TradingState.objects.get(scope="symbol:AAPL")
    assert (state.state, state.reason) == ("halted", "main: position 4 here, 5 at the broker")
    found = Break.objects.get(kind="position_qty")
    assert (found.subject, found.severity) == ("intraday AAPL", "critical")
    assert "trading_state" in gate(desk.buy("two"))


def test_an_order_that_works_at_the_broker_alone_is_no_mismatch_once_it_is_adopted(desk):
    assert desk.buy("one").status_code == 201
    assert desk.broker.order("by-hand", limit_price="1").status_code == 200
    assert recon_intraday.compare_account(desk.account, clock=SYSTEM_CLOCK) == []


# -- the API's own edges


def upload(desk, content, token=None, **fields):
    files = {"file": ("day.json", io.BytesIO(content))}
    data = {"account": "main", "session": str(desk.today), "source": "alpaca_json", **fields}
    headers = {"Authorization": f"Bearer {token or desk.ann}"}
    return requests.post(f"{desk.api.url}/api/v1/recon/statements", files=files, data=data, headers=headers, timeout=30)


def test_a_statement_is_uploaded_once_and_a_bad_one_leaves_nothing(desk):
    number = desk.account.broker_account
    good = json.dumps(
        {"account": {"account_number": number, "cash": "10000"}, "positions": [], "activities": []}
    ).encode()
    first, again = upload(desk, good), upload(desk, good)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["sha256"] == again.json()["sha256"]
    for content, code in (
        (good[:-5], "statement_truncated"),
        (good.replace(number.encode(), b"other"), "statement_other_account"),
        (b"", "statement_empty"),
        (b"\xff\xfe" + good, "statement_encoding"),
    ):
        answer = upload(desk, content)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert Statement.objects.count() == 1
    assert upload(desk, good, token=desk.api.trader).status_code == 403


def test_an_upload_beyond_the_limit_is_refused_before_it_is_read(desk, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"statement_max_bytes": 2048})
    answer = upload(desk, b" " * 5_000)
    assert (answer.status_code, answer.json()["code"]) == (400, "statement_too_large")


def test_blocks_are_placed_waived_and_lifted_over_the_api(desk):
    body = {"account": "main", "session": str(desk.today), "reason": "the desk moves"}
    placed = desk.api.call("POST", "recon/blocks", body, desk.ann).json()
    assert gate(desk.buy("one")) == ["reconciliation"]
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    waived = desk.api.call("POST", f"recon/blocks/{placed['id']}/waive", {"until": until, "reason": "known"}, desk.ben)
    assert (waived.status_code, waived.json()["waived_by"]) == (200, "key:ben")
    assert desk.buy("two").status_code == 201
    lifted = desk.api.call("POST", f"recon/blocks/{placed['id']}/lift", {"reason": "moved"}, desk.ben)
    assert (lifted.status_code, ReconciliationBlock.objects.get().lifted_by) == (200, "key:ben")
    assert desk.api.call("GET", "recon/blocks?account=main").json()["blocks"][0]["lift_reason"] == "moved"
    assert (
        desk.api.call("POST", f"recon/blocks/{placed['id']}/waive", {"until": "x", "reason": "r"}, desk.ben).status_code
        == 400
    )


def test_a_day_is_signed_by_the_hash_of_its_figures_and_by_two_where_the_rules_say_so(desk):
    policy = {"account": "main", "second_signer": True, "reason": "two sign"}
    assert desk.api.call("POST", "recon/policies", policy, desk.ann).status_code == 201
    Account.objects.update(created_at=datetime.now(UTC) - timedelta(days=1, hours=1))
    desk.account.refresh_from_db()
    assert recon.close_missed(desk.account, actor="beat", clock=SYSTEM_CLOCK)[-1].state == "completed"
    found = desk.api.call("GET", "recon/affirmations?account=main").json()["affirmations"][0]
    path = f"recon/affirmations/{found['id']}/sign"
    assert desk.api.call("POST", path, {"sha256": "0" * 64}, desk.ann).json()["code"] == "affirmation_hash"
    once = desk.api.call("POST", path, {"sha256": found["sha256"]}, desk.ann).json()
    assert (once["signed_by"], once["signed"]) == ("key:ann", False)
    assert desk.api.call("POST", path, {"sha256": found["sha256"]}, desk.ann).json()["code"] == "maker_is_checker"
    twice = desk.api.call("POST", path, {"sha256": found["sha256"]}, desk.ben).json()
    assert (twice["second_by"], twice["signed"]) == ("key:ben", True)


def test_the_report_is_one_page_with_the_chart_inside_and_the_run_tells_its_breaks(desk):
    assert desk.buy("one").status_code == 201
    run = desk.run()
    told = desk.api.call("GET", f"recon/runs/{run['id']}", token=desk.ann).json()
    assert (told["report"]["matched"], told["breaks"]) == (1, [])
    page = desk.api.call("GET", f"recon/runs/{run['id']}/report", token=desk.ann)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<svg" in page.text
    assert "http" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert desk.api.call("GET", "recon/runs/999999/report", token=desk.ann).status_code == 404


def test_what_makes_no_sense_is_refused_by_its_field(desk):
    call = desk.api.call
    assert call("POST", "recon/runs", {"account": "main", "session": "x"}, desk.ann).status_code == 400
    assert call("POST", "recon/runs", {"account": "gone", "session": "2026-01-05"}, desk.ann).status_code == 404
    assert call("POST", "recon/runs", {"account": "main", "when": "now"}, desk.ann).json()["code"] == "invalid_input"
    assert call("POST", "recon/runs", {"account": "main", "session": "2026-01-05"}).status_code == 403
    assert call("POST", "recon/breaks/1/assign", {"owner": "x", "reason": "r"}, desk.ann).status_code == 404
    assert call("POST", "recon/policies", {"warnings": ["fees"], "reason": "r"}, desk.ann).status_code == 400
    assert call("POST", "recon/policies", {"tolerances": {"cash": "-1"}, "reason": "r"}, desk.ann).status_code == 400
    mapping = {"name": "m", "table": "positions", "columns": {"symbol": "S", "qty": "Q"}, "reason": "r"}
    assert call("POST", "recon/mappings", mapping, desk.ann).json()["version"] == 1
    assert call("POST", "recon/mappings", mapping | {"decimal_mark": ";"}, desk.ann).status_code == 400
    assert call("POST", "recon/mappings", mapping | {"colour": "red"}, desk.ann).json()["code"] == "invalid_mapping"


def test_the_command_closes_a_day_from_files_and_writes_the_report(desk, tmp_path):
    from django.core.management import CommandError, call_command

    Account.objects.update(created_at=datetime.now(UTC) - timedelta(days=1, hours=1))
    session = session_date(Account.objects.get().created_at, ROUND_THE_CLOCK)
    body = {
        "account": {"account_number": desk.account.broker_account, "cash": "10000"},
        "positions": [],
        "activities": [],
    }
    file, report, out = tmp_path / "day.json", tmp_path / "day.html", io.StringIO()
    file.write_text(json.dumps(body))
    call_command("eod_recon", account="main", date=session, file=[file], report=report, stdout=out)
    assert "completed, 0 open breaks" in out.getvalue()
    assert "SHA-256" in report.read_text()
    with pytest.raises(CommandError, match="its ending does not say"):
        call_command("eod_recon", account="main", date=session, file=[tmp_path / "x.pdf"], stdout=out)
    with pytest.raises(CommandError, match="before the account"):
        call_command("eod_recon", account="main", date=session - timedelta(days=9), stdout=out)


def test_the_summary_is_told_once_for_each_result(desk, settings, mailoutbox):
    from backend.tradingbot.services.recon_summary import tell

    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"mail_to": "desk@example.com, risk@example.com"})
    settings.TRADINGBOT.__dict__.pop("recipients", None)
    Account.objects.update(created_at=datetime.now(UTC) - timedelta(days=1, hours=1))
    desk.account.refresh_from_db()
    recon.close_missed(desk.account, actor="beat", clock=SYSTEM_CLOCK)
    count = ReconRun.objects.count()
    assert (tell(clock=SYSTEM_CLOCK), tell(clock=SYSTEM_CLOCK)) == (count, 0)
    assert len(mailoutbox) == count
    assert mailoutbox[0].recipients() == ["desk@example.com", "risk@example.com"]
    assert "completed, 0 open breaks" in mailoutbox[0].subject
    late = FixedClock(at=datetime.now(UTC) + timedelta(days=3))
    tell(clock=late)
    tell(clock=late)
    assert len([mail for mail in mailoutbox if "Not signed in time" in mail.subject]) == count
