"""The API under requests that nobody means: no server error, nothing its schema does not say, no right overstepped.

`make test` asks a few of each call, always the same; `make soak` at least ten thousand, others each time.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.integration.access import CALLERS, make_callers
from tests.integration.conftest import Gateway
from tests.integration.fuzzing import IN_PATH, Tally, judge, led, rows_by_call, send

pytestmark = pytest.mark.django_db(transaction=True)

FEW, AT_LEAST = 600, 10_000


def operations(url: str) -> list[Any]:
    schema = schemathesis.openapi.from_dict(requests.get(f"{url}/api/schema/?format=json", timeout=60).json())
    return [found.ok() for found in schema.get_all_operations()]


def populate(gateway: Gateway) -> None:
    """Something of everything that a case may be led to."""
    gateway.tick()
    for name in ("known-1", "known-2"):
        assert gateway.call("POST", "orders", {**gateway.body(name), "client_order_id": name}).status_code == 201


def fuzz(gateway: Gateway, cases: int, *, same: bool) -> Tally:
    """About ``cases`` requests, as many of each call; a few of them cannot be written down and are not counted."""
    calls, tokens, tally = operations(gateway.url), {"nobody": None, **make_callers()}, Tally()
    rows = rows_by_call(calls)
    assert {(call.path, call.method) for call in calls} == set(rows)
    each = cases // len(calls) + 1
    for call in calls:
        row = rows[call.path, call.method]
        sound, unsound = (call.as_strategy(generation_mode=mode) for mode in GenerationMode)
        has_input = bool(call.body or call.query or call.path_parameters)

        @settings(
            max_examples=each,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            derandomize=same,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def ask(data: Any) -> None:
            let_in = data.draw(st.integers(0, 3)) > 0  # most of the depth lies behind the door
            who = data.draw(st.sampled_from([name for name in CALLERS if not let_in or name in row.may]))  # noqa: B023
            case = data.draw(unsound if has_input and data.draw(st.booleans()) else sound)  # noqa: B023  called below
            case.path_parameters = led(data.draw, case.path_parameters, IN_PATH)
            case.query, case.body = led(data.draw, case.query), led(data.draw, case.body)
            answer = send(gateway.url, case, tokens[who])
            if answer is not None:
                judge(case, who, answer, row, tally)  # noqa: B023  called below

        ask()
    return tally


def report(tally: Tally) -> str:
    return "\n".join(f"{name}\n    {what}" for name, what in sorted(tally.faults.items()))


def test_no_request_breaks_the_api(gateway: Gateway) -> None:
    populate(gateway)
    tally = fuzz(gateway, FEW, same=True)
    print(f"{tally.cases} cases: {dict(sorted(tally.statuses.items()))}")
    assert not tally.faults, report(tally)
    assert tally.cases >= 400
    assert {200, 400, 401, 403, 404} <= set(tally.statuses)


@pytest.mark.soak
@pytest.mark.timeout(3_000)
def test_ten_thousand_requests_do_not_break_the_api(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    populate(gateway)
    tally = fuzz(gateway, AT_LEAST * 11 // 10, same=False)
    with capsys.disabled():
        print(f"\nfuzzed the API: {tally.cases} cases, answers {dict(sorted(tally.statuses.items()))}")
    assert not tally.faults, report(tally)
    assert tally.cases >= AT_LEAST
