"""The refusals that a strategy's author meets first: each names the field, the value and the way out."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from backend.tradingbot.services.keys import create_key

pytestmark = pytest.mark.django_db(transaction=True)
SEND_THE_KEY = "send the header Authorization: Bearer <key>"


def told(answer: requests.Response) -> tuple[int, str, str, str]:
    body = answer.json()
    return answer.status_code, body["code"], body["detail"], body["remedy"]


@pytest.mark.parametrize(
    ("header", "detail", "remedy"),
    [
        (None, "there is no header Authorization", SEND_THE_KEY),
        ("Token abc", "the header Authorization begins with 'Token', not with 'Bearer'", SEND_THE_KEY),
        ("Bearer ", "the header Authorization bears no key after Bearer", SEND_THE_KEY),
        (
            "Bearer abc",
            "this key is not known here, or was revoked",
            "check that the whole key was copied and that this server made it; an administrator makes a new one",
        ),
    ],
)
def test_a_missing_and_a_wrong_key_are_told_apart(gateway, header, detail, remedy):
    headers = {} if header is None else {"Authorization": header}
    answer = requests.post(f"{gateway.url}/api/v1/orders", json=gateway.body("a"), headers=headers, timeout=10)
    assert told(answer) == (401, "unauthorized", detail, remedy)


def test_a_key_that_may_not_says_what_it_is_bound_to(gateway):
    for field, own in (("account", "main"), ("strategy", "mean")):
        assert told(gateway.order("a", **{field: "other"})) == (
            403, "not_your_account", f"{field}: this key is bound to {own} and may not act for other",
            f"name {own}, or use a key that is bound to other",
        )  # fmt: skip
    _, viewer = create_key(name="looks", role="viewer")
    assert told(gateway.call("POST", "orders", gateway.body("a"), token=viewer)) == (
        403, "role_not_allowed", "this key has the role viewer, which may not do this",
        "ask with a key of the role trader",
    )  # fmt: skip


def sent(gateway: Any, data: bytes, kind: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {gateway.trader}", "Content-Type": kind}
    return requests.post(f"{gateway.url}/api/v1/orders", data=data, headers=headers, timeout=10)


def test_a_body_that_is_no_json_is_shown_with_the_place(gateway):
    answer = sent(gateway, b'{"qty": 5,}', "application/json")
    assert told(answer)[:3] == (400, "invalid_json", "body: is not JSON at line 1, column 11")
    assert answer.json()["errors"][0]["value"] == repr('{"qty": 5,}')
    answer = sent(gateway, b"qty=5", "application/x-www-form-urlencoded")
    assert told(answer)[::3] == (415, "send JSON with the header Content-Type: application/json")


def test_a_field_that_is_missing_is_told_from_one_that_is_wrong(gateway):
    errors = {e["field"]: e for e in gateway.call("POST", "orders", {"side": "BUY"}).json()["errors"]}
    assert {name: e["problem"] for name, e in errors.items()} == {
        **dict.fromkeys(["account", "client_order_id", "qty", "strategy", "symbol", "type"], "is missing"),
        "side": "is not one of the allowed values",
    }
    assert (errors["side"]["value"], errors["side"]["remedy"]) == ("'BUY'", 'use "buy" or "sell"')
    assert errors["qty"]["remedy"] == 'send it as a string, for example "qty": "10"'


def test_an_id_that_was_used_says_what_differs(gateway, broker):
    gateway.tick()
    gateway.order("a")
    name = f"{gateway.prefix}-a"
    assert told(gateway.order("a", qty="6", type="limit", limit_price="99.00")) == (
        422, "client_order_id_reused",
        f"client_order_id: {name} was used for another order (type was market, and is limit now; "
        "qty was 5, and is 6 now; limit_price was None, and is 99 now)",
        "send a new id, or repeat the same body",
    )  # fmt: skip


def test_a_denial_says_what_each_gate_advises(gateway, broker):
    gateway.tick()
    denied = gateway.order("a", side="sell")
    assert told(denied) == (
        422, "order_denied",
        "position_limit: the position would be -5 at worst, and account:main has no short limit; "
        "buying_power: 0 may be sold; selling 5 would be short",
        "sell what is held, or ask for a position_short_max; "
        "sell at most 0, or ask the risk role for a short limit, then send a new id",
    )  # fmt: skip
    unseen = gateway.order("b", symbol="MSFT").json()["remedy"]
    assert unseen.startswith("post a tick for MSFT to market-data/ticks first; ")
    assert unseen.count("send a new id") == 1
