"""Whatever happens to orders, in whatever order: no id is two orders at the broker, and no order ends otherwise there.

A hypothesis state machine over the real thing: orders, cancels and ticks over HTTP, the broker's faults, fills, partial
fills, polling, recovery and the watch, against a paper broker that is a process of its own and is new for each example.
At the end the faults are over, what is open is cancelled, and the judge of the chaos runs compares the books.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase
from hypothesis import settings as HypothesisSettings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.chaos.judge import Answer, Execution, OurBooks, OurOrder, TheirBooks, TheirOrder, judge
from tests.integration.conftest import BROKER_HEADERS, KEY, MAY_HAMMER, SECRET

CASH, SYMBOLS, ROUNDS = Decimal(100_000), ["AAPL", "MSFT"], 40
SUBMIT_FAULTS = [
    "drop_before", "drop_after_accept", "error_500", "error_500_after_accept", "garbage", "garbage_after_accept",
    "fill_before_ack", "late_arrival", "reject", "reject_later", "rate_limit",
]  # fmt: skip
OTHER_FAULTS = [
    ("lag_lookup", "lookup"), ("error_500", "lookup"), ("garbage", "lookup"), ("drop_before", "read"),
    ("drop_before", "cancel"), ("drop_after_accept", "cancel"), ("error_500", "cancel"),
]  # fmt: skip
ORDER = st.tuples(
    st.sampled_from(SYMBOLS),
    st.sampled_from(["buy", "buy", "sell"]),
    st.integers(1, 9),
    st.sampled_from([None, 97, 99, 100, 101, 103]),
    st.booleans(),  # patient: good till cancelled, else immediate or cancel
)
_numbers = itertools.count(1)


@contextmanager
def paper_broker() -> Iterator[str]:
    """The address of a broker with an empty ledger."""
    with tempfile.TemporaryDirectory(prefix="paper-broker-") as folder:
        command = [sys.executable, "-m", "backend.paperbroker", "--port", "0", "--ledger", f"{folder}/ledger.sqlite3"]
        environment = {**os.environ, "ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET, "PAPER_FAULTS": "1"}
        root = Path(__file__).resolve().parents[2]
        with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = next(text for text in process.stdout if "ready on" in text)
            try:
                yield line.split("ready on ")[1].strip()
            finally:
                process.terminate()


class SteppingClock:
    """The machine's clock, and as far ahead of it as the test has stepped."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def time(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return self.time()


class Orders(RuleBasedStateMachine):
    """One account with an account of its own at a broker of its own."""

    url: str
    point_at: Callable[[str], None]
    reached_the_broker = 0

    def __init__(self) -> None:
        super().__init__()
        from backend.tradingbot.services.accounts import create_account, create_strategy
        from backend.tradingbot.services.keys import create_key

        self._broker = paper_broker()
        self.broker = self._broker.__enter__()
        type(self).point_at(self.broker)
        self.code = f"m{next(_numbers)}"
        number = self.control("GET", "/v2/account")["account_number"]
        breaker = {"max_error_rate_per_min": 10_000, "cooldown_sec": 0}
        self.account = create_account(
            code=self.code, cash=CASH, broker_account=number, symbols=SYMBOLS, session_calendar="24/7",
            breaker=breaker, limits={**MAY_HAMMER, "concentration_max_bps": Decimal(10_000)},
        )  # fmt: skip
        strategy = create_strategy(code=self.code, mode="live", breaker=breaker)
        _, token = create_key(
            name=self.code, role="trader", capabilities=["feed"], feed_symbols=SYMBOLS, account=self.account,
            strategy=strategy,
        )  # fmt: skip
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.clock = SteppingClock()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.answers: list[Answer] = []
        for symbol in SYMBOLS:
            self.tick(symbol, 100)

    # -- what clients do

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.session.request(method, f"{self.url}/api/v1/{path}", json=body, timeout=30)

    @rule(symbol=st.sampled_from(SYMBOLS), price=st.integers(98, 102))
    def tick(self, symbol: str, price: int) -> None:
        now = datetime.now(UTC).isoformat()
        tick = {"symbol": symbol, "price": str(price), "bid": str(price), "ask": str(price), "time": now}
        assert self.call("POST", "market-data/ticks", {"ticks": [tick]}).status_code == 200

    @initialize(story=st.lists(st.tuples(st.none() | st.sampled_from(SUBMIT_FAULTS), ORDER), min_size=3, max_size=8))
    def begin(self, story: list[tuple[str | None, tuple[str, str, int, int | None, bool]]]) -> None:
        """Every example has orders, some of which go wrong at once."""
        for fault, order in story:
            if fault is not None:
                self.the_next_orders_go_wrong(fault, 1)
            self.order(order)

    @rule(order=ORDER)
    def order(self, order: tuple[str, str, int, int | None, bool]) -> None:
        symbol, side, qty, limit, patient = order
        name = f"{self.code}-{len(self.bodies)}"
        body = {"client_order_id": name, "account": self.code, "strategy": self.code, "symbol": symbol, "side": side}
        body |= {"qty": str(qty), "type": "market" if limit is None else "limit"}
        body |= {"time_in_force": "gtc" if patient else "ioc"}
        self.bodies[name] = body if limit is None else {**body, "limit_price": str(limit)}
        assert "Idempotent-Replayed" not in self.post(self.bodies[name]).headers

    def post(self, body: dict[str, Any]) -> requests.Response:
        response = self.call("POST", "orders", body)
        assert response.status_code in (200, 201, 202, 422), response.text
        shown = response.json().get("order", response.json())
        if "status" in shown and "client_order_id" in shown:
            broker_id = shown["broker_order_id"]
            self.answers.append(Answer(body["client_order_id"], response.status_code, shown["status"], broker_id))
        return response

    @precondition(lambda self: self.bodies)
    @rule(data=st.data())
    def the_same_again(self, data: st.DataObject) -> None:
        body = self.bodies[data.draw(st.sampled_from(sorted(self.bodies)))]
        again = self.post(body)
        assert (again.headers["Idempotent-Replayed"], again.status_code == 201) == ("true", False)

    @precondition(lambda self: self.bodies)
    @rule(data=st.data())
    def the_same_id_with_another_quantity(self, data: st.DataObject) -> None:
        body = self.bodies[data.draw(st.sampled_from(sorted(self.bodies)))]
        refused = self.call("POST", "orders", {**body, "qty": "77"})
        assert (refused.status_code, refused.json()["code"]) == (422, "client_order_id_reused")

    @precondition(lambda self: self.bodies)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.bodies)))
        response = self.call("DELETE", f"orders/{name}?account={self.code}")
        assert response.status_code in (202, 409, 503), response.text

    # -- what the broker does

    def control(self, method: str, path: str, body: Any = None) -> Any:
        response = requests.request(method, f"{self.broker}{path}", json=body, headers=BROKER_HEADERS, timeout=10)
        response.raise_for_status()
        return response.json() if response.content else None

    @rule(mode=st.sampled_from(SUBMIT_FAULTS), times=st.integers(1, 2))
    def the_next_orders_go_wrong(self, mode: str, times: int) -> None:
        self.control("POST", "/control/faults", {"mode": mode, "times": times, "seconds": 0.1})

    @rule(fault=st.sampled_from(OTHER_FAULTS), times=st.integers(1, 3))
    def the_next_questions_go_wrong(self, fault: tuple[str, str], times: int) -> None:
        mode, target = fault
        self.control("POST", "/control/faults", {"mode": mode, "target": target, "times": times, "seconds": 0})

    @rule()
    def the_broker_is_well_again(self) -> None:
        self.control("DELETE", "/control/faults")

    @rule(symbol=st.sampled_from(SYMBOLS), size=st.integers(0, 5), price=st.integers(96, 104))
    def the_market_is_thin(self, symbol: str, size: int, price: int) -> None:
        quote = {"symbol": symbol, "bid": str(price), "ask": str(price), "bid_size": str(size), "ask_size": str(size)}
        self.control("POST", "/paper/quotes", {"quotes": [quote]})

    # -- what beat does

    @rule()
    def poll(self) -> None:
        from backend.tradingbot import tasks

        tasks.poll_broker()

    @rule(seconds=st.sampled_from([0, 1, 30, 300]))
    def recover(self, seconds: int) -> None:
        from backend.tradingbot.services import cancels, recovery

        self.clock.ahead += seconds
        recovery.recover(clock=self.clock)
        recovery.watch(clock=self.clock)
        cancels.send_wished_cancels(clock=self.clock)

    # -- what must hold

    @invariant()
    def the_broker_was_asked_at_most_once_for_each_id(self) -> None:
        if self.bodies:
            orders = self.control("GET", "/control/ledger")["orders"]
            assert [o["client_order_id"] for o in orders if o["refused_duplicates"]] == []

    def teardown(self) -> None:
        try:
            self.end_well()
        finally:
            self.account.active = False
            self.account.save()
            self._broker.__exit__(None, None, None)

    def end_well(self) -> None:
        """Faults are over; what works is cancelled; then nothing is open or in doubt and the books agree."""
        from backend.tradingbot.models import Order

        self.the_broker_is_well_again()
        for _ in range(ROUNDS):
            self.recover(60)
            self.poll()
            left = Order.objects.filter(account=self.account).exclude(status__in=ENDED)
            for name in left.values_list("client_order_id", flat=True):
                self.call("DELETE", f"orders/{name}?account={self.code}")
            if not left.exists() and self.all_arrived():
                break
        theirs, ours = self.their_books(), self.our_books()
        type(self).reached_the_broker += len(theirs.orders)
        sends = dict.fromkeys((order.client_order_id for order in theirs.orders), 1)
        assert judge(theirs, ours, sends, self.answers).findings == []

    def all_arrived(self) -> bool:
        """Late arrivals included: nothing at the broker is unknown to our rows."""
        from backend.tradingbot.models import Order

        there = {order["id"] for order in self.control("GET", "/control/ledger")["orders"]}
        ours = Order.objects.filter(account=self.account, broker_order_id__isnull=False)
        return there == set(ours.values_list("broker_order_id", flat=True))

    def their_books(self) -> TheirBooks:
        ledger = self.control("GET", "/control/ledger")
        return TheirBooks(
            orders=[
                TheirOrder(
                    o["client_order_id"], o["id"], o["symbol"], o["side"], Decimal(o["qty"]), o["status"],
                    Decimal(o["filled_qty"]), Decimal(o["filled_qty"]) * Decimal(o["filled_avg_price"] or 0),
                    o["refused_duplicates"],
                )
                for o in ledger["orders"]
            ],
            executions=[
                Execution(
                    e["execution_id"], e["order_id"], e["symbol"], e["side"], Decimal(e["qty"]), Decimal(e["price"])
                )
                for e in ledger["executions"]
            ],
            positions={symbol: Decimal(qty) for symbol, qty in ledger["positions"].items() if Decimal(qty)},
            cash=Decimal(ledger["cash"]) - (BROKER_CASH - CASH),
        )  # fmt: skip

    def our_books(self) -> OurBooks:
        from backend.tradingbot.models import Execution as Booked
        from backend.tradingbot.models import JournalEntry, Order, Position, RiskRow
        from backend.tradingbot.services import journal

        row = RiskRow.objects.get(account=self.account)
        entries = JournalEntry.objects.filter(chain=row.scope, data__has_key="after").order_by("seq")
        left_at = {entry.subject: entry.data["after"] for entry in entries}
        chain = journal.verify(row.scope)
        orders = Order.objects.filter(account=self.account)
        return OurBooks(
            orders=[
                OurOrder(
                    o.client_order_id, o.broker_order_id, o.symbol, o.side, o.qty, o.status, o.filled_qty, o.avg_price,
                    o.reserved_price, left_at.get(o.client_order_id), watched=o.watch_until is not None,
                )
                for o in orders
            ],
            executions=[
                Execution(e.execution_id, e.order.broker_order_id, e.symbol, e.side, e.qty, e.price)
                for e in Booked.objects.select_related("order").filter(account=self.account)
            ],
            positions={p.symbol: p.qty for p in Position.objects.filter(account=self.account) if p.qty},
            cash=row.cash,
            reserved_cash=row.reserved_cash,
            journal_problems=[] if chain.intact else [chain.problem],
        )  # fmt: skip


BROKER_CASH = Decimal(1_000_000)
ENDED = ["denied", "filled", "canceled", "expired", "rejected", "never_arrived"]


@pytest.mark.parametrize(("examples", "steps"), [(6, 20), pytest.param(300, 40, marks=pytest.mark.soak)])
@pytest.mark.timeout(3_600)
@pytest.mark.django_db(transaction=True)
def test_no_sequence_doubles_an_order_or_ends_it_otherwise_than_the_broker(
    live_server: Any, settings: Any, examples: int, steps: int
) -> None:
    def point_at(broker_url: str) -> None:
        from pydantic import SecretStr

        changes = {
            "broker": "paper",
            "alpaca_base_url": broker_url,
            "alpaca_api_key": SecretStr(KEY),
            "alpaca_secret_key": SecretStr(SECRET),
            "mark_seconds": 1_000.0,
            "quiet_window_seconds": 100.0,
        }
        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)

    Orders.url, Orders.point_at = live_server.url, staticmethod(point_at)
    Orders.reached_the_broker = 0
    run_state_machine_as_test(Orders, settings=how(examples, steps))
    assert Orders.reached_the_broker >= examples


def how(examples: int, steps: int) -> HypothesisSettings:
    """Without the phase that explains a failure: it traces every line, and makes each step many times slower."""
    return HypothesisSettings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
