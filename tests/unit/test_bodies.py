"""What the parsers of bodies refuse before anything reads them, and what an address may not hold."""

from __future__ import annotations

import io

import pytest

from backend.tradingbot.api.parsing import MAX_DEPTH, ExactJSONParser, NdjsonParser
from backend.tradingbot.core.errors import InvalidInputError


def parsed(raw: bytes):
    return ExactJSONParser().parse(io.BytesIO(raw))


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"reason": "a\u0000b"}',
        rb'{"a": [{"b\u0000": 1}]}',
        rb'{"reason": "\ud800"}',
        rb'{"reason": "\uDFFF"}',
    ],
)
def test_text_that_cannot_be_stored_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInputError, match="cannot be stored"):
        parsed(raw)


def test_text_that_only_looks_so_is_taken() -> None:
    assert parsed(rb'{"reason": "a whole pair \ud83d\ude00 and a written \\u0000"}') == {
        "reason": "a whole pair \U0001f600 and a written \\u0000"
    }


@pytest.mark.parametrize("raw", [b'{"a": "\xed\xa0\x80"}', '{"a": "\\ud800"}'.encode("utf-16"), b"\xff\xfe{}"])
def test_only_utf8_is_json_here(raw: bytes) -> None:
    with pytest.raises(InvalidInputError, match="is not JSON"):
        parsed(raw)


def nested(depth: int) -> bytes:
    return b'{"qty": ' + b"[" * depth + b"]" * depth + b"}"


def test_depth_is_bounded() -> None:
    assert parsed(nested(MAX_DEPTH - 1))
    with pytest.raises(InvalidInputError, match="more than 32 deep"):
        parsed(nested(MAX_DEPTH))
    with pytest.raises(InvalidInputError):
        parsed(nested(100_000))


def test_many_rows_are_not_depth() -> None:
    assert len(parsed(b'{"ticks": [' + b",".join([b'{"a": [1]}'] * 1_000) + b"]}")["ticks"]) == 1_000


def test_one_line_that_cannot_be_stored_costs_that_line_only() -> None:
    good, bad = b'{"symbol": "AAPL"}', rb'{"symbol": "A\u0000"}'
    assert NdjsonParser().parse(io.BytesIO(good + b"\n" + bad)) == [{"symbol": "AAPL"}, bad.decode()]


@pytest.mark.parametrize("address", ["/api/v1/orders?account=a%00b", "/api/v1/breakers/a%00b/trip", "/healthz?%00"])
def test_a_nul_in_the_address_is_refused(client, address: str) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


def test_an_address_of_the_api_that_is_not_there_is_answered_as_a_problem(client) -> None:
    answer = client.get("/api/v1/nothing")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["remedy"] == "see /api/docs/"
