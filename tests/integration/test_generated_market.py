"""A generated market: accounts, a month of sessions, planted faults of every kind. Each fault is found under its name
and nothing else is, the next session is blocked exactly when it should be, and every proof adds up to the cent.

One seed makes one market. ``make test`` runs a few accounts that meet every kind of fault at least once, ``make soak``
fifty.
"""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.data.calendar import sessions_between
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Affirmation, Break, BreakEvent, ReconRun
from backend.tradingbot.ops.statements import StatementError
from backend.tradingbot.selectors.blocks import open_blocks
from backend.tradingbot.services import break_workflow as work
from backend.tradingbot.services import journal
from tests.integration.market_broker import SYMBOLS, Market
from tests.integration.market_faults import BOOKS_SPOILED, FAULTS, Planted, unexplained
from tests.integration.recon_house import D

pytestmark = pytest.mark.django_db(transaction=True)
FIRST, LAST = date(2026, 1, 5), date(2026, 2, 3)


def sessions(last: date = LAST) -> list[date]:
    return [each.date for each in sessions_between(FIRST, last, "XNYS")]


class Month:
    """One account from day to day. ``plan`` says which faults come on which day; ``waiting`` are the planted faults
    that no run has cleared yet, ``found_again`` what the newest complete run found besides."""

    def __init__(self, number: int, seed: int, plan: dict[date, list[str]]) -> None:
        self.house = Market(f"acc{number}", seed=seed, with_fees=number % 2 == 0)
        self.random = random.Random(seed * 31 + 7)
        self.plan = plan
        self.waiting: list[Planted] = []
        self.found_again: set[tuple[str, str]] = set()

    def day(self, day: date) -> None:
        house = self.house
        house.minute, house.untold = 0, type(house.untold)()
        for each in self.waiting:
            if each.morning:
                each.morning(house, day)
        # before today's faults: a split is of all that is held, a fill of before that the broker books today among it
        for each in self.waiting:
            if each.next_statement:
                each.next_statement(house, day)
        symbols = list(SYMBOLS)
        self.random.shuffle(symbols)
        planted = [FAULTS[name](house, day, symbols.pop()) for name in self.plan[day]]
        for _ in range(self.random.randint(1, 3)):
            house.both(day, self.random.choice(symbols))
        self._noise(day, symbols)
        house.charge_fees(day)
        carried, self.waiting = self.waiting, []
        self._close(day, planted, carried)
        self._move_marks()

    def _noise(self, day: date, symbols: list[str]) -> None:
        """What is no fault: a dividend of what is held, interest, an execution that the broker calls otherwise."""
        house = self.house
        held = [symbol for symbol in symbols if house.qty(symbol) > 0]
        if held and self.random.random() < 0.3:
            house.other("DIV", f"dividend {day}", "4.20", symbol=held[0], date=str(day), description="quarterly")
        if self.random.random() < 0.2:
            house.other("INT", f"interest {day}", "-1.07", date=str(day), description="margin")
        if self.random.random() < 0.4:
            fill, order = house.ours(day, symbols[0])
            house.happen(fill)
            line = house.print_line(fill)
            line["id"] += "-their-own-name"
            house.tell_order(order)

    def _close(self, day: date, planted: list[Planted], carried: list[Planted]) -> None:
        house, again = self.house, {key for each in carried for key in each.again}
        before, self.found_again = self.found_again, again
        raw = house.statement(day)
        spoiled = next((each for each in planted if each.content), None)
        house.after_close(day)
        self._ticks()
        if spoiled is not None:
            self._spoiled(day, raw, spoiled)
            self._expect(day, set(spoiled.found) | keys_of(carried) | before)
            planted = [each for each in planted if each is not spoiled]
            house.clock.at += timedelta(hours=14)
        house.upload(day, raw)
        run = house.run(day)
        assert run.state == "completed", (day, self.plan[day], run.failure)
        expected = keys_of(planted) | again
        self._expect(day, expected)
        self._proofs(run, ("cash", unexplained(day)) in expected)
        self._once_more(run)
        for each in planted:
            self._people(each) if each.people else self.waiting.append(each)
        self._expect(day, keys_of(self.waiting) | again)
        self._earlier_once_more(day)
        self._expect(day, keys_of(self.waiting) | again)

    def _once_more(self, run: ReconRun) -> None:
        """Now and then: the same inputs again add nothing."""
        if self.random.random() < 0.2:
            rows = Break.objects.filter(account=self.house.account).count()
            again = self.house.run(run.session)
            for name in ("proofs", "closing", "pnl"):
                assert getattr(again, name) == getattr(run, name), (name, run.session, self.plan[run.session])
            assert again.result_digest == run.result_digest
            assert Break.objects.filter(account=self.house.account).count() == rows

    def _earlier_once_more(self, day: date) -> None:
        """Now and then an earlier session is run again, and all after it with it: nothing is opened nor cleared."""
        before = [each for each in self.plan if each < day]
        if len(before) > 3 and self.random.random() < 0.15:
            events = BreakEvent.objects.filter(found_break__account=self.house.account)
            told = list(events.values_list("kind", "found_break__subject"))
            assert self.house.run(self.random.choice(before[-3:])).state == "completed"
            assert list(events.values_list("kind", "found_break__subject")) == told, (day, self.plan[day])

    def _spoiled(self, day: date, raw: bytes, fault: Planted) -> None:
        house = self.house
        content = fault.content(raw) if fault.content else None
        if content is not None and fault.refused:
            with pytest.raises(StatementError) as caught:
                house.upload(day, content)
            assert caught.value.code == fault.refused
        elif content is not None:
            house.upload(day, content)
        assert house.run(day).state in ("failed", "incomplete")

    def _people(self, fault: Planted) -> None:
        """One person resolves each break, another closes it."""
        for kind, subject in fault.found:
            found = Break.objects.exclude(status="closed").get(
                account=self.house.account, kind=kind, subject=subject, opened_by="reconciliation"
            )
            options = {"reason": "seen", "clock": self.house.clock}
            work.resolve(found.pk, resolution=fault.people, actor="maker", **options)
            work.close(found.pk, actor="checker", **options)

    def _expect(self, day: date, expected: set[tuple[str, str]]) -> None:
        """Exactly these breaks stand, and the next session is blocked by them or free."""
        rows = Break.objects.exclude(status="closed").filter(account=self.house.account, opened_by="reconciliation")
        shown = {(row.kind, row.subject): (row.difference, row.theirs) for row in rows}
        assert set(shown) == expected, f"{self.house.code} {day}: planted {self.plan[day]}\n{shown}"
        now = self.house.clock.now()
        for moment in (now, datetime.combine(day, now.time(), now.tzinfo) + timedelta(hours=15)):
            blocks = [block.reason for block in open_blocks(self.house.account, max(now, moment))]
            assert bool(blocks) is bool(expected), (day, blocks, expected)

    def _proofs(self, run: ReconRun, equity_planted: bool) -> None:
        """Ours add up exactly; the broker's show what it did not tell, to the cent; equity has nothing left over."""
        assert {proof["unexplained"] for proof in run.proofs["ours"]} <= {"0"}, (
            run,
            self.plan[run.session],
            run.proofs,
        )
        untold = {name: qty for name, qty in self.house.untold.items() if qty}
        shown = {proof["name"]: D(proof["unexplained"]) for proof in run.proofs["theirs"]}
        assert {name: value for name, value in shown.items() if value} == untold, (run, self.plan[run.session])
        assert run.proofs["equity"], (run, run.pnl["unmarked"], self.plan[run.session])
        assert (abs(D(run.proofs["unexplained"])) > D("0.01")) is equity_planted, (
            run,
            run.proofs,
            self.plan[run.session],
        )

    def _ticks(self) -> None:
        """The last ticks of the day, for what only one side holds."""
        names = {*SYMBOLS, *(row.symbol for row in self.house.happened)}
        row = {"bid": None, "ask": None, "as_of": self.house.clock.now().isoformat()}
        hot_state().store([(name, {**row, "price": str(self.house.mark(name))}) for name in names])

    def _move_marks(self) -> None:
        for symbol in SYMBOLS:
            self.house.marks[symbol] += Decimal(self.random.randint(-150, 170)) / 100


def keys_of(faults: list[Planted]) -> set[tuple[str, str]]:
    return {key for each in faults for key in each.found}


def planned(accounts: int, seed: int, days: list[date]) -> list[dict[date, list[str]]]:
    """Which faults come when, by account: none, one or two a day; each kind about equally often over all of them."""
    dealer, pack = random.Random(seed), list[str]()
    plans: list[dict[date, list[str]]] = []
    for _ in range(accounts):
        plan: dict[date, list[str]] = {}
        for day in days:
            names: list[str] = []
            for _ in range(dealer.choice((0, 1, 1, 1, 2))):
                if not pack:
                    pack = sorted(FAULTS)
                    dealer.shuffle(pack)
                if not (names and names[0] in BOOKS_SPOILED):
                    names.append(pack.pop())
            plan[day] = names
        plans.append(plan)
    return plans


def live_through(number: int, plan: dict[date, list[str]], seed: int) -> None:
    month = Month(number, seed * 1_000 + number, plan)
    for day in plan:
        month.day(day)
    house = month.house
    assert house.row().reconciled_through == max(plan)
    assert Affirmation.objects.filter(account=house.account, replaced_at=None).count() == len(plan)
    assert journal.verify(f"account:{house.code}").intact


SEED, FEW, MANY = 20260105, 6, 50
REDUCED = planned(FEW, SEED, sessions())


def test_every_kind_of_fault_is_planted():
    planted = {name for plan in REDUCED for names in plan.values() for name in names}
    assert planted == set(FAULTS)
    assert len(FAULTS) >= 20


@pytest.mark.parametrize("number", range(FEW))
def test_every_planted_fault_is_found_under_its_kind_and_nothing_else_is(number):
    live_through(number, REDUCED[number], SEED)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(MANY))
def test_every_planted_fault_is_found_in_a_market_of_fifty_accounts(number):
    live_through(number, planned(MANY, SEED + 1, sessions())[number], SEED + 1)
