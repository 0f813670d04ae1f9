"""The API under requests that nobody means: no server error, nothing its schema does not say, no right overstepped.

`make test` asks a few of each call, always the same; `make soak` at least ten thousand, others each time.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services.keys import create_key, revoke_key
from tests.integration.access import CALLERS, make_callers
from tests.integration.conftest import Gateway
from tests.integration.fuzzing import (
    IN_PATH,
    ORDER_CALLS,
    Tally,
    an_order,
    judge,
    led,
    let_in_by,
    rows_by_call,
    send,
)

# both accounts trade, so that an order of either trader can come all the way to the broker
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("keys_of_every_account")]

FEW, AT_LEAST_OF_FEW = 600, 400
MANY, AT_LEAST = 13_000, 10_000


def operations(url: str) -> list[Any]:
    schema = schemathesis.openapi.from_dict(requests.get(f"{url}/api/schema/?format=json", timeout=60).json())
    return [found.ok() for found in schema.get_all_operations()]


def populate(gateway: Gateway) -> None:
    """Something of everything that a case may be led to."""
    gateway.tick()
    for name in ("known-1", "known-2"):
        assert gateway.call("POST", "orders", {**gateway.body(name), "client_order_id": name}).status_code == 201


def callers() -> dict[str, str | None]:
    """A token for each role, for a key that was revoked, and none for nobody."""
    key, revoked = create_key(name="m-revoked", role="risk")
    assert revoke_key(key, reason="the fuzzer has it", actor="test", clock=SYSTEM_CLOCK)
    return {"nobody": None, "revoked": revoked, **make_callers()}


class Fuzzer:
    """Asks the calls of the schema as every caller and counts the answers."""

    def __init__(self, gateway: Gateway, *, same: bool) -> None:
        self.gateway, self.same, self.tally = gateway, same, Tally()
        self.tokens, self.calls = callers(), operations(gateway.url)
        self.rows = rows_by_call(self.calls)
        assert {(call.path, call.method) for call in self.calls} == set(self.rows)
        self.order: dict[str, Any] = {}
        self.numbers = itertools.count()

    def run(self, cases: int) -> Tally:
        """About ``cases`` requests, as many of each call; a few of them cannot be written down and are not counted.

        A tenth more are orders while nothing is stopped yet, and a few more after all that the others have done.
        """
        posting = [call for call in self.calls if (call.path, call.method) in ORDER_CALLS]
        assert len(posting) == len(ORDER_CALLS)
        for call in posting:
            self.ask(call, cases // 15, self.an_order)
        for call in self.calls:
            self.ask(call, cases * 7 // 10 // len(self.calls), self.anything)
        for call in posting:
            self.ask(call, cases // 60, self.an_order)
        return self.tally

    def ask(self, call: Any, count: int, make: Any) -> None:
        row = self.rows[call.path, call.method]

        @settings(
            max_examples=count,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            derandomize=self.same,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def one(data: Any) -> None:
            allowed = sorted(let_in_by(row))
            let_in = data.draw(st.integers(0, 3)) > 0  # most of the depth lies behind the door
            who = data.draw(st.sampled_from(allowed if let_in else sorted(self.tokens)))
            case = make(data.draw, call, who)
            answer = send(self.gateway.url, case, self.tokens[who])
            if answer is not None:
                judge(case, who, answer, row, self.tally)

        one()

    def an_order(self, draw: Any, call: Any, who: str) -> Any:
        """A new order that somebody may have meant; one in ten is the one before, sent again."""
        number = next(self.numbers)
        if number % 20 == 0:
            self.gateway.tick()  # a price that has aged would be all that the gates speak of,
            self.gateway.call("POST", "orders/cancel-all", {"account": "main"})  # as would what rests for good
        order, again = an_order(draw, who, f"{self.gateway.prefix}-{number}"), draw(st.integers(0, 9)) == 0
        self.order = self.order if again and self.order else order
        return call.Case(body=self.order, media_type="application/json")

    def anything(self, draw: Any, call: Any, who: str) -> Any:
        has_input = bool(call.body or call.query or call.path_parameters)
        mode = GenerationMode.NEGATIVE if has_input and draw(st.booleans()) else GenerationMode.POSITIVE
        case = draw(call.as_strategy(generation_mode=mode))
        case.path_parameters = led(draw, case.path_parameters, IN_PATH)
        case.query, case.body = led(draw, case.query), led(draw, case.body)
        return case


def assert_sound(tally: Tally) -> None:
    """Nothing is wrong, everybody asked, each role came in, and orders were taken as well as refused by a gate."""
    assert not tally.faults, "\n".join(f"{name}\n    {what}" for name, what in sorted(tally.faults.items()))
    assert set(tally.by(0)) == {*CALLERS, "revoked"}
    assert tally.let_in() == set(CALLERS) - {"nobody"}  # the schema has no public call
    assert tally.orders[201]
    assert tally.orders[422]
    assert {"order_size", "price_collar", "restricted_symbol"} <= set(tally.gates)
    assert {200, 201, 400, 401, 403, 404, 422} <= set(tally.by(1))


def test_no_request_breaks_the_api(gateway: Gateway) -> None:
    populate(gateway)
    tally = Fuzzer(gateway, same=True).run(FEW)
    print(tally)
    assert_sound(tally)
    assert tally.cases >= AT_LEAST_OF_FEW


@pytest.mark.soak
@pytest.mark.timeout(3_000)
def test_ten_thousand_requests_do_not_break_the_api(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    populate(gateway)
    tally = Fuzzer(gateway, same=False).run(MANY)
    with capsys.disabled():
        print(f"\nfuzzed the API: {tally}")
    assert_sound(tally)
    assert tally.cases >= AT_LEAST
    assert {202, 409} <= set(tally.by(1))
