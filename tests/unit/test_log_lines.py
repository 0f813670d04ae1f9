"""Log lines in both formats: what they bear, and that a secret never leaves in one, wherever it slipped in."""

from __future__ import annotations

import io
import json
import logging
import logging.config

import pytest
import structlog

from backend.tradingbot.core.ids import read_traceparent
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import MASK, TRACE_ID, logging_config

PLANTED, AWKWARD = "planted-7f3a91", 'with "quotes" & spaces/\\'
KEY = "tb_" + "Zk3-_" * 8
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(params=["json", "text"])
def log(request, settings):
    """A logger whose lines land in a buffer, in each format; the process's own configuration comes back after."""
    buffer = io.StringIO()
    config = logging_config(log_format=request.param, level="DEBUG", secrets=[PLANTED, AWKWARD, "", "abc"])
    config["handlers"]["stream"]["stream"] = buffer
    logging.config.dictConfig(config)
    yield request.param, buffer
    logging.config.dictConfig(settings.LOGGING)


def test_a_line_bears_event_fields_trace_and_build(log):
    form, buffer = log
    token = TRACE_ID.set(TRACE)
    structlog.get_logger("desk").info("order_sent", client_order_id="a-1")
    logging.getLogger("elsewhere").warning("plain %s", "words")
    TRACE_ID.reset(token)
    lines = buffer.getvalue().splitlines()
    assert len(lines) == 2 and all(TRACE in line and build_id() in line for line in lines)
    if form == "json":
        first, second = map(json.loads, lines)
        assert (first["event"], first["client_order_id"], first["level"]) == ("order_sent", "a-1", "info")
        assert (second["event"], second["logger"]) == ("plain words", "elsewhere")
    else:
        assert "order_sent" in lines[0] and "a-1" in lines[0]


def test_no_secret_leaves_in_a_message_a_value_or_a_traceback(log):
    _, buffer = log
    logger = structlog.get_logger("desk")
    logger.info(f"connecting with {PLANTED}", password=PLANTED, nested={"deep": [f"x{PLANTED}y", AWKWARD]})
    logging.getLogger("library").error("postgresql://user:%s@host/name failed", PLANTED)
    logger.info("odd", value=AWKWARD, text=f"({AWKWARD})", address="with%20%22quotes%22%20%26%20spaces%2F%5C")
    logger.info("request", headers={"Authorization": f"Bearer {KEY}"}, other=KEY)
    logger.info("foreign", header="Authorization: Bearer of-another-system")
    try:
        local_value = PLANTED
        raise RuntimeError(f"cannot sign in with {local_value} or {AWKWARD}")
    except RuntimeError:
        logger.exception("it_broke")
        logging.getLogger("library").exception("it broke there")
    told = buffer.getvalue()
    for planted in (PLANTED, AWKWARD, json.dumps(AWKWARD)[1:-1], KEY, "%22quotes", "of-another-system"):
        assert planted not in told, planted
    assert told.count(MASK) >= 10
    assert "RuntimeError" in told and "it_broke" in told


def test_words_too_short_to_be_secrets_are_left_alone(log):
    _, buffer = log
    structlog.get_logger("desk").info("abc_is_no_secret")
    assert "abc_is_no_secret" in buffer.getvalue()


@pytest.mark.parametrize(
    "header, sampled",
    [(f"00-{TRACE}-{SPAN}-01", True), (f"00-{TRACE}-{SPAN}-00", False), (f" 00-{TRACE}-{SPAN}-03 ", True),
     (f"01-{TRACE}-{SPAN}-01-what-comes-later", True)],
)  # fmt: skip
def test_a_traceparent_is_read_as_w3c_has_it(header, sampled):
    found = read_traceparent(header)
    assert (found.trace_id, found.span_id, found.sampled) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [None, "", "x", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
     f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE[:-1]}-{SPAN}-01", f"00-{TRACE}-{SPAN}", f"00-{TRACE[:-1]}g-{SPAN}-01"],
)  # fmt: skip
def test_what_is_no_traceparent_is_none(header):
    assert read_traceparent(header) is None
