"""A statement that comes a second time: it adds nothing, the answer says what counts, a person can go back to it."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.models import Break, JournalEntry, ReconRun, Statement, StatementChoice
from backend.tradingbot.selectors.statements import statements_of
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.recon_by_hand import run_by_hand
from backend.tradingbot.services.recon_policies import save_mapping
from tests.integration.desk_admin import listed, page, risk, text_of
from tests.integration.recon_house import MONDAY, TUESDAY, House
from tests.unit.test_statements import COLUMNS, HEADER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def two(house):
    """The right statement of Monday, and a later one that is wrong by a price: the later one counts."""
    fill = house.trade(MONDAY)
    right = house.statement(MONDAY)
    told = json.loads(right)
    told["activities"][0]["price"] = "151.00"
    house.close(MONDAY, right)
    house.upload(MONDAY, json.dumps(told).encode())
    house.run(MONDAY)
    assert [row.subject for row in Break.objects.exclude(status="closed") if row.kind == "price"] == [fill.execution_id]
    first, second = Statement.objects.order_by("id")
    return right, first, second


def open_breaks():
    return list(Break.objects.exclude(status="closed").values_list("kind", flat=True))


def headers(role="risk"):
    return {"Authorization": f"Bearer {create_key(name=role, role=role)[1]}"}


def test_the_api_says_which_statement_it_is_which_one_counts_and_runs_with_it_when_asked(house, two, client):
    right, first, second = two
    auth = headers()
    form = {"account": "main", "session": str(MONDAY), "source": "alpaca_json"}
    answer = client.post(
        "/api/v1/recon/statements", {**form, "file": SimpleUploadedFile("day.json", right)}, headers=auth
    )
    run = ReconRun.objects.get()
    told = {"known": True, "counts": False, "counts_instead": second.pk}
    told["run"] = {"id": run.pk, "state": "completed", "compared_it": False}
    assert (answer.status_code, answer.json()["id"]) == (200, first.pk)
    assert {name: answer.json()[name] for name in told} == told
    assert Statement.objects.count() == 2

    def ask(**more):
        body = json.dumps({"account": "main", "session": str(MONDAY), "reason": "the second was a test file", **more})
        return client.post("/api/v1/recon/runs", body, content_type="application/json", headers=auth)

    assert (ask().status_code, "price" in open_breaks()) == (200, True)
    assert (ask(statement=first.pk).status_code, open_breaks()) == (200, [])
    assert list(ReconRun.objects.get().statements.all()) == [first]
    again = client.post(
        "/api/v1/recon/statements", {**form, "file": SimpleUploadedFile("day.json", right)}, headers=auth
    )
    assert (again.json()["counts"], again.json()["run"]["compared_it"]) == (True, True)
    chosen = JournalEntry.objects.get(kind="statement_chosen")
    assert (chosen.actor, chosen.data["reason"]) == ("key:risk", "the second was a test file")
    assert ask(statement=first.pk).status_code == 200
    assert StatementChoice.objects.count() == 1
    for wrong in (999_999, "1", True, 2**70, second.pk + 1):
        refused = ask(statement=wrong)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "statement")


def test_a_statement_of_another_day_or_account_is_not_chosen(house, two):
    house.close(TUESDAY)
    tuesdays = Statement.objects.get(session=TUESDAY)
    other = House("other")
    other.upload(MONDAY)
    for number in (tuesdays.pk, Statement.objects.get(account=other.account).pk):
        with pytest.raises(InvalidInputError):
            run_by_hand(house.account, MONDAY, actor="ann", reason="r", clock=house.clock, statement=number)
    assert StatementChoice.objects.count() == 0


def test_what_is_received_after_a_choice_counts_in_its_turn(house, two):
    _, first, _ = two
    run_by_hand(house.account, MONDAY, actor="ann", reason="r", clock=house.clock, statement=first.pk)
    assert statements_of(house.account, MONDAY) == [first]
    third, _ = house.upload(MONDAY, two[0] + b" ")
    assert statements_of(house.account, MONDAY) == [third]


def test_the_page_says_what_counts_and_runs_with_an_earlier_one_for_a_reason(house, two):
    right, first, second = two
    ann = risk("ann")
    form = {"account": house.account.pk, "session": str(MONDAY), "source": "alpaca_json", "mapping": "", "controls": ""}
    entered = {**form, "file": SimpleUploadedFile("day.json", right)}
    shown = text_of(ann.post(listed("statement", "upload"), entered, follow=True))
    assert f"Statement {second.pk} came later and counts" in shown
    assert f"run {ReconRun.objects.get().pk} is completed and did not compare it" in shown
    assert ann.post(page(first, "run_with"), {"reason": ""}).status_code == 422
    assert "is completed" in text_of(ann.post(page(first, "run_with"), {"reason": "a test file"}, follow=True))
    assert open_breaks() == []
    assert "It counts for its session" in text_of(ann.get(page(first)))
    assert "chosen by admin:ann: a test file" in text_of(ann.get(page(first)))


def test_the_command_says_what_counts_and_lets_a_file_count_again_for_a_reason(house, two, tmp_path):
    right, first, second = two
    path = tmp_path / "day.json"
    path.write_bytes(right)

    def close(*more):
        out = StringIO()
        call_command("eod_recon", "--account", "main", "--date", str(MONDAY), "--file", str(path), *more, stdout=out)
        return out.getvalue()

    told = close()
    assert f"known as statement {first.pk}" in told
    assert f"statement {second.pk} came later and counts" in told
    assert "price" in open_breaks()
    close("--choose", "the second was a test file")
    assert open_breaks() == []


def test_the_same_csv_read_by_a_corrected_mapping_is_another_statement_and_takes_the_place_of_the_first(house):
    rows = f"{HEADER}e1,AAPL,BUY,10,150.00,2026-01-05T10:00:00\n".encode()
    body = {"name": "house", "table": "executions", "columns": COLUMNS}
    for zone in ("America/New_York", "UTC"):
        save_mapping({**body, "time_zone": zone}, actor="ann", reason=zone, clock=house.clock)
        house.upload(MONDAY, rows, source="csv", mapping="house")
    old, new = Statement.objects.order_by("id")
    assert (old.sha256 == new.sha256, old.mapping.version, new.mapping.version) == (True, 1, 2)
    assert statements_of(house.account, MONDAY) == [new]
