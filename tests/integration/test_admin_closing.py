"""The day's close at the admin's pages: runs and their report, statements, rules, and the signature."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from backend.tradingbot.admin import recon_runs
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import NotAllowedError
from backend.tradingbot.models import (
    Affirmation,
    Break,
    CsvMappingVersion,
    JournalEntry,
    ReconPolicy,
    ReconRun,
    Statement,
)
from backend.tradingbot.selectors.metrics_state import reconciliation
from backend.tradingbot.services import affirmations
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.recon_blocks import disable_next_day, lift_block, waive_block
from backend.tradingbot.services.recon_page import report_page
from tests.integration.desk_admin import listed, page, risk, text_of, trader, viewer
from tests.integration.recon_house import MONDAY, TUESDAY, WEDNESDAY, House, noon

pytestmark = pytest.mark.django_db(transaction=True)
ADDRESS = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""")


@pytest.fixture
def house() -> House:
    return House()


def uploaded(content: bytes, name: str = "day.json") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def form_of(house, content, **changes):
    fields = {"account": house.account.pk, "session": str(MONDAY), "source": "alpaca_json", "mapping": ""}
    return {**fields, "file": uploaded(content), "controls": "", **changes}


def asked(house, **changes):
    return {"account": house.account.pk, "session": str(MONDAY), "reason": "the file came late", **changes}


# -- runs


def test_a_run_is_started_by_hand_with_a_reason_and_ends_on_its_report(house):
    house.trade(MONDAY)
    house.their_cash -= 250
    house.upload(MONDAY)
    ann = risk("ann")
    assert ann.post(listed("reconrun", "start_run"), asked(house, reason="")).status_code == 422
    early = ann.post(listed("reconrun", "start_run"), asked(house, session="2025-01-06"))
    assert (early.status_code, "before the account was set up" in text_of(early)) == (422, True)
    answer = ann.post(listed("reconrun", "start_run"), asked(house), follow=True)
    run, shown = ReconRun.objects.get(), text_of(answer)
    assert (run.state, run.started_by) == ("completed", "admin:ann")
    told = JournalEntry.objects.get(kind="recon_asked", data__session=str(MONDAY))
    assert (told.actor, told.data["reason"]) == ("admin:ann", "the file came late")
    for text in ("The next session is blocked", "1 open break: 1 cash", "84,750.00", "-250.00", "P&amp;L waterfall",
                 page(Break.objects.get()), Statement.objects.get().sha256):  # fmt: skip
        assert text in shown, text
    again = ann.post(page(run, "run_again"), asked(house), follow=True)
    assert (again.status_code, ReconRun.objects.get().attempts, Break.objects.count()) == (200, 2, 1)


def test_the_list_tells_each_run_with_its_breaks_by_severity(house):
    house.trade(MONDAY)
    house.close(MONDAY)
    house.trade(TUESDAY, qty=1)
    house.their_cash -= 250
    house.close(TUESDAY)
    answer = viewer().get(listed("reconrun"))
    rows = {run.session: (run.critical, run.warnings) for run in answer.context["cl"].result_list}
    assert rows == {MONDAY: (0, 0), TUESDAY: (1, 0)}
    shown = text_of(answer)
    assert "1 critical" in shown
    assert "1 of 1 here, 1 there" in shown


def test_a_viewer_reads_the_report_and_starts_nothing_and_a_trader_reads_nothing(house):
    house.trade(MONDAY)
    run = house.close(MONDAY)
    vera, tom = viewer(), trader()
    assert vera.get(page(run)).status_code == 200
    assert vera.get(page(run, "download")).status_code == 200
    for act in (listed("reconrun", "start_run"), page(run, "run_again")):
        assert vera.get(act).status_code == vera.post(act, asked(house)).status_code == 403
    for url in (listed("reconrun"), page(run), page(run, "download"), page(run, "run_again")):
        assert tom.get(url).status_code == 403, url
    assert ReconRun.objects.get().attempts == 1


def test_the_report_to_keep_holds_everything_and_asks_nobody_for_anything(house):
    house.trade(MONDAY)
    house.their_cash -= 250
    run = house.close(MONDAY)
    answer = viewer().get(page(run, "download"))
    assert answer["Content-Disposition"] == f'attachment; filename="recon-main-{MONDAY}.html"'
    kept = text_of(answer)
    assert not ADDRESS.search(kept)
    assert "<script" not in kept
    assert "<svg" in kept
    assert ".recon-tiles" in kept
    for text in ("main, session 2026-01-05", "The next session is blocked", "cash USD", "Cash, the broker&#x27;s",
                 "-250.00", run.result_digest, "Due 2026-01-06"):  # fmt: skip
        assert text in kept, text
    assert "text-link" not in kept


def test_the_report_escapes_what_a_stranger_wrote(house):
    house.trade(MONDAY)
    house.upload(MONDAY, name="<script>alert(1).json")
    house.after_close(MONDAY)
    kept = report_page(house.run(MONDAY), now=house.clock.now())
    assert "&lt;script&gt;alert(1)" in kept
    assert "<script" not in kept


def test_a_day_that_agrees_says_so_and_its_proofs_add_up_on_the_page(house):
    house.trade(MONDAY)
    kept = report_page(house.close(MONDAY), now=house.clock.now())
    assert "Both sides agree. The next session is free." in kept
    assert 'class="recon-number bad"' not in kept
    lines = ("trades", "fees", "dividends", "interest", "flows", "corrections", "Unexplained", "Closing")
    head = '</th><th scope="col" class="recon-number">'.join(lines)
    assert head in kept
    for figure in ("100,000.00", "-15,000.00", "85,000.00", "AAPL, ours", "AAPL, the broker&#x27;s"):
        assert figure in kept, figure


# -- statements


def test_a_statement_is_uploaded_once_and_comes_back_byte_for_byte(house):
    content = house.statement(MONDAY)
    ann = risk("ann")
    shown = text_of(ann.post(listed("statement", "upload"), form_of(house, content), follow=True))
    row = Statement.objects.get()
    assert (row.received_by, row.sha256 in shown, "is stored" in shown) == ("admin:ann", True, True)
    again = ann.post(listed("statement", "upload"), form_of(house, content), follow=True)
    assert ("was stored before" in text_of(again), Statement.objects.count()) == (True, 1)
    original = viewer().get(page(row, "original"))
    assert original.content == content
    assert original["Content-Type"] == "application/octet-stream"
    assert original["Content-Disposition"].startswith("attachment")


def test_what_the_sender_said_it_holds_is_compared_and_shown(house):
    said = json.dumps({"positions": {"rows": 3}})
    ann = risk("ann")
    entered = form_of(house, house.statement(MONDAY), controls=said)
    shown = text_of(ann.post(listed("statement", "upload"), entered, follow=True))
    assert "positions: should have 3 rows and has 0" in shown
    assert "1 problem" in text_of(ann.get(listed("statement")))


@pytest.mark.parametrize(
    ("damage", "changes", "words"),
    [
        (lambda content: content[:-5], {}, "statement"),
        (lambda content: content.replace(b"U-main", b"U-else"), {}, "U-else"),
        (lambda content: content, {"source": "csv"}, "mapping"),
        (lambda content: content, {"session": "2026-01-04"}, "is no session"),
        (lambda content: content, {"controls": "[1]"}, "is no JSON object"),
        (lambda content: b"", {}, "empty"),
    ],
)
def test_a_statement_that_makes_no_sense_is_refused_in_words_and_leaves_nothing(house, damage, changes, words):
    answer = risk("ann").post(listed("statement", "upload"), form_of(house, damage(house.statement(MONDAY)), **changes))
    assert (answer.status_code, words in text_of(answer)) == (422, True)
    assert Statement.objects.count() == 0


def test_a_file_beyond_the_limit_is_refused(house, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"statement_max_bytes": 1024})
    answer = risk("ann").post(listed("statement", "upload"), form_of(house, b" " * 2_000))
    assert (answer.status_code, "is larger than 1024 bytes" in text_of(answer)) == (422, True)


def test_only_who_may_uploads_and_only_who_may_look_downloads(house):
    row, _ = house.upload(MONDAY)
    vera, tom = viewer(), trader()
    entered = form_of(house, house.statement(MONDAY))
    assert vera.post(listed("statement", "upload"), entered).status_code == 403
    for url in (listed("statement"), page(row), page(row, "original")):
        assert tom.get(url).status_code == 403
    assert Statement.objects.count() == 1


# -- mappings


def mapping(**changes):
    fields = {
        "name": "bank positions", "table": "positions", "columns": "symbol = Ticker\nqty = Shares", "side_words": "",
        "kind_words": "", "delimiter": ";", "encoding": "utf-8", "decimal_mark": ",", "thousands_mark": ".",
        "time_zone": "Europe/Zurich", "date_format": "%d.%m.%Y", "time_format": "", "account_column": "",
        "trailer": "", "reason": "as the bank sends it",
    }  # fmt: skip
    return {**fields, **changes}


def test_a_mapping_is_saved_in_versions_and_reads_an_upload(house):
    ann = risk("ann")
    assert ann.post(listed("csvmappingversion", "new_mapping"), mapping()).status_code == 302
    row = CsvMappingVersion.objects.get()
    assert row.body["columns"] == {"symbol": "Ticker", "qty": "Shares"}
    offered = text_of(ann.get(page(row, "new_version")))
    assert "symbol = Ticker" in offered
    assert ann.post(page(row, "new_version"), mapping(columns="symbol = Code\nqty = Shares")).status_code == 302
    assert CsvMappingVersion.objects.order_by("-version").first().version == 2
    entered = form_of(house, b"", source="csv", mapping="bank positions", file=uploaded(b"Code;Shares\nAAPL;1.000,5\n"))
    assert "bank positions, version 2" in text_of(ann.get(listed("statement", "upload")))
    assert ann.post(listed("statement", "upload"), entered).status_code == 302
    found = Statement.objects.get()
    assert (found.totals["positions"], found.mapping.version) == ("1000.5", 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": "symbol Ticker"}, "name = value"),
        ({"columns": "symbol = A\nsymbol = B"}, "stands twice"),
        ({"columns": "symbol = Ticker"}, "columns.qty"),
        ({"decimal_mark": ";"}, "decimal_mark . or ,"),
        ({"reason": ""}, "required"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_in_words(house, changes, words):
    answer = risk("ann").post(listed("csvmappingversion", "new_mapping"), mapping(**changes))
    assert (answer.status_code, words in text_of(answer)) == (422, True)
    assert CsvMappingVersion.objects.count() == 0
    assert viewer().post(listed("csvmappingversion", "new_mapping"), mapping()).status_code == 403


# -- rules


def test_tolerances_and_severities_change_by_version_and_the_next_run_keeps_which(house):
    ann = risk("ann")
    row = ReconPolicy.objects.get()
    entered = {
        "account": house.account.pk, "warnings": ["cash"], "tolerance_cash": "0.05", "upload_only": "on",
        "second_signer": "on", "fee_schedule": "theirs", "rate_share": "0.005", "reason": "small desk",
    }  # fmt: skip
    assert viewer().post(page(row, "new_version"), entered).status_code == 403
    assert ann.post(page(row, "new_version"), entered).status_code == 302
    fresh = ReconPolicy.objects.order_by("-version").first()
    assert (fresh.version, fresh.warnings, fresh.tolerances) == (2, ["cash"], {"cash": "0.05"})
    assert (fresh.fees, fresh.upload_only, fresh.second_signer) == ({"share": "0.005", "name": "theirs"}, True, True)
    assert (fresh.created_by, fresh.reason) == ("admin:ann", "small desk")
    assert "0.05 (built-in: 0.01)" in text_of(ann.get(page(fresh)))
    wrong = ann.post(page(row, "new_version"), {**entered, "tolerance_cash": "-1"})
    assert (wrong.status_code, ReconPolicy.objects.count()) == (422, 2)
    house.trade(MONDAY)
    house.their_cash -= 250
    run = house.close(MONDAY)
    assert run.severities == {"version": "main 2", "warnings": ["cash"]}
    assert "that only warn" in report_page(run, now=house.clock.now())


# -- affirmation


@pytest.fixture
def two_sign() -> House:
    return House(policy={"second_signer": True})


def test_a_day_is_signed_by_two_people_who_see_the_figures(two_sign, monkeypatch):
    two_sign.trade(MONDAY)
    run = two_sign.close(MONDAY)
    monkeypatch.setattr(type(SYSTEM_CLOCK), "now", lambda self: two_sign.clock.now())
    row = Affirmation.objects.get()
    ann, ben = risk("ann"), risk("ben")
    asks = text_of(ann.get(page(row, "sign")))
    for text in (row.sha256, "85,000.00", "AAPL", "two people sign"):
        assert text in asks, text
    assert viewer().post(page(row, "sign"), {"sha256": row.sha256}).status_code == 403
    assert trader().get(page(row)).status_code == 403
    other = ann.post(page(row, "sign"), {"sha256": "0" * 64})
    assert (other.status_code, "not the figures that stand" in text_of(other)) == (422, True)
    assert "a second person has to sign" in text_of(ann.post(page(row, "sign"), {"sha256": row.sha256}, follow=True))
    own = ann.post(page(row, "sign"), {"sha256": row.sha256})
    assert (own.status_code, "ask a second person" in text_of(own).lower()) == (422, True)
    assert "It is affirmed" in text_of(ben.post(page(row, "sign"), {"sha256": row.sha256}, follow=True))
    row.refresh_from_db()
    assert (row.signed_by, row.second_by) == ("admin:ann", "admin:ben")
    assert "By admin:ann and admin:ben" in text_of(ann.get(page(run)))


def test_an_affirmation_past_its_deadline_is_listed_as_overdue(house, monkeypatch):
    house.trade(MONDAY)
    house.close(MONDAY)
    row = Affirmation.objects.get()
    ann = risk("ann")
    for late, states in ((-1, {"waits": 1, "overdue": 0, "signed": 0}), (1, {"waits": 1, "overdue": 1, "signed": 0})):
        moment = row.due_at + timedelta(minutes=late)
        monkeypatch.setattr(type(SYSTEM_CLOCK), "now", lambda self, moment=moment: moment)
        for state, count in states.items():
            answer = ann.get(listed("affirmation"), {"signature": state})
            assert len(answer.context["cl"].result_list) == count, (late, state)
    assert ann.post(page(row, "sign"), {"sha256": row.sha256}).status_code == 302
    assert len(ann.get(listed("affirmation"), {"signature": "signed"}).context["cl"].result_list) == 1


# -- the same over the API


def test_what_the_pages_show_the_api_shows_as_well(house, client):
    house.trade(MONDAY)
    house.close(MONDAY)
    row = Statement.objects.get()
    keys = {name: create_key(name=name, role=name)[1] for name in ("viewer", "risk")}

    def get(path, who="viewer"):
        return client.get(f"/api/v1/recon/{path}", headers={"Authorization": f"Bearer {keys[who]}"})

    assert [each["sha256"] for each in get("statements?account=main").json()["statements"]] == [row.sha256]
    original = get(f"statements/{row.pk}/original")
    assert json.loads(original.content)["account"]["account_number"] == "U-main"
    assert get("statements/999999/original").json()["code"] == "statement_not_found"
    (rules,) = get("policies?account=main").json()["policies"]
    assert (rules["version"], rules["upload_only"], rules["created_by"]) == (1, True, "ann")
    assert get("mappings").json() == {"mappings": []}
    body = json.dumps({"account": "main", "session": str(MONDAY), "reason": "once more"})
    asked = client.post("/api/v1/recon/runs", body, content_type="application/json",
                        headers={"Authorization": f"Bearer {keys['risk']}"})  # fmt: skip
    assert (asked.status_code, asked.json()["attempts"]) == (200, 2)
    assert JournalEntry.objects.filter(kind="recon_asked", actor="key:risk", data__reason="once more").exists()


def test_a_day_that_one_of_two_has_signed_is_told_as_overdue(two_sign):
    two_sign.trade(MONDAY)
    two_sign.close(MONDAY)
    row = Affirmation.objects.get()

    def overdue(moment):
        told = {metric.name: metric for metric in reconciliation(moment)}
        return [sample.value for sample in told["tradingbot_affirmations_overdue"].samples]

    late = row.due_at + timedelta(minutes=1)
    assert (overdue(row.due_at), overdue(late)) == ([0], [1])
    affirmations.sign(row.pk, sha256=row.sha256, actor="ann", clock=two_sign.clock)
    assert overdue(late) == [1]
    for same in ("Ann", "key:ann", "admin:ann"):
        with pytest.raises(NotAllowedError):
            affirmations.sign(row.pk, sha256=row.sha256, actor=same, clock=two_sign.clock)
    affirmations.sign(row.pk, sha256=row.sha256, actor="ben", clock=two_sign.clock)
    assert overdue(late) == [0]


def test_a_day_of_very_many_breaks_is_shown_in_part_and_kept_whole(house, monkeypatch):
    for minute in (1, 2, 3):
        house.tell(house.report(house.order(at=noon(MONDAY)), 10, "150.00", noon(MONDAY, minute)))
    run = house.close(MONDAY)
    monkeypatch.setattr(recon_runs, "MOST_BREAKS", 2)
    vera = viewer()
    subjects = list(Break.objects.values_list("subject", flat=True))
    shown, kept = text_of(vera.get(page(run))), text_of(vera.get(page(run, "download")))
    assert sum(subject in shown for subject in subjects) == 2
    assert "And 1 more that weigh less" in shown
    assert all(subject in kept for subject in subjects)


def test_the_report_never_calls_a_blocked_account_free(house):
    """Not when another day's block stands, not when a waiver is over, and not while it is closed on nothing."""
    house.trade(MONDAY)
    house.close(MONDAY)
    block = disable_next_day(house.account, MONDAY, "the desk moves", actor="ann", clock=house.clock)
    house.trade(TUESDAY, qty=1)
    run, now = house.close(TUESDAY), house.clock.now()
    assert "The next session is blocked: the desk moves" in report_page(run, now=now)
    until = now + timedelta(hours=2)
    waive_block(block.pk, until=until, actor="ann", reason="known", clock=house.clock)
    assert "waived until" in report_page(run, now=now)
    over = report_page(run, now=until)
    assert "The next session is blocked: the desk moves" in over
    lift_block(block.pk, actor="ann", reason="moved", clock=house.clock)
    assert "The next session is free" in report_page(run, now=until)
    house.after_close(WEDNESDAY)
    failed = house.run(WEDNESDAY)
    kept = report_page(failed, now=house.clock.now())
    assert "The session is not closed" in kept
    assert '<strong class="bad">unknown</strong>' in kept


def test_the_report_shows_options_by_greek_and_says_which_figure_is_not_known(house):
    house.trade(MONDAY)
    run = house.close(MONDAY)
    known = dict.fromkeys(("actual", "delta", "gamma", "vega", "theta", "residual", "traded"), "12.5")
    first = {"symbol": "AAPL  260320C00150000", "qty": "10", **known, "vega": "unknown"}
    run.pnl |= {"options": [first, {**first, "symbol": "AAPL  260320C00160000", "vega": "1", "traded": "-2.25"}]}
    kept = report_page(run, now=house.clock.now())
    assert kept.count('<td class="recon-number">12.5000</td>') == 11
    assert '<td class="recon-number">unknown</td>' in kept
    totals = re.findall(r'<td class="recon-number">([\d.]+)</td></tr>', kept[kept.index("Options, in dollars") :])
    assert totals[:2] == ["25.0000", "10.2500"]  # actual and traded
    foot = kept[kept.index("Options, in dollars") :].partition("<tfoot>")[2].partition("</tfoot>")[0]
    sums = ["25.0000", "25.0000", "25.0000", "unknown", "25.0000", "25.0000", "10.2500", "35.2500"]
    assert re.findall(r"<strong>(.*?)</strong>", foot) == sums
