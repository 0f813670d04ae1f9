"""Ticks over real HTTP: judged against their symbol's state in Valkey, stops as rows, and orders that they deny."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import redis
import requests
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pydantic import SecretStr

from backend.tradingbot import hot_state as hot_state_module
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.data.live_ticks import unpack
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import DataStop, JournalEntry, Order
from backend.tradingbot.services import corporate_actions, journal
from backend.tradingbot.services.market_data import post_ticks

pytestmark = pytest.mark.django_db(transaction=True)
MAY = frozenset({"AAPL", "MSFT"})


@pytest.fixture(autouse=True)
def empty_store():
    hot_state()._redis.flushdb()


@pytest.fixture
def clock(settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"broker": "alpaca"})  # nobody fills here
    return FixedClock(datetime(2026, 1, 5, 15, 0, tzinfo=UTC))


def tick(clock, price, symbol="AAPL", behind=0.0, **quote):
    moment = clock.now() - timedelta(seconds=behind)
    return {"symbol": symbol, "price": str(price), "time": moment.isoformat(), **quote}


def feed(clock, *prices, symbol="AAPL"):
    """One batch a price, a second apart."""
    answers = []
    for price in prices:
        answers.append(post_ticks({"ticks": [tick(clock, price, symbol)]}, may_feed=MAY, clock=clock))
        clock.advance(1)
    return answers


def quiet(clock, symbol="AAPL", count=8):
    feed(clock, *(f"100.0{n % 3}" for n in range(count)), symbol=symbol)


@pytest.fixture
def firm():
    from backend.tradingbot.services.accounts import ensure_firm

    ensure_firm()


def test_a_bad_print_is_refused_stops_the_symbol_and_the_next_good_tick_releases_it(clock, firm):
    quiet(clock)
    (bad,) = feed(clock, "103")
    assert (bad["accepted"], bad["refused"][0]["row"], bad["refused"][0]["verdict"]["check"]) == (0, 0, "price_jump")
    assert bad["stopped"] == [
        {
            "symbol": "AAPL",
            "check": "price_jump",
            "since": "2026-01-05T15:00:08Z",
            "released_by": ["a clean second tick", "an operator with a reason"],
        }
    ]
    quote = hot_state().quote("AAPL")
    assert (quote.price, quote.stopped_by) == (Decimal("100.01"), "price_jump")
    stop = DataStop.objects.get()
    assert (stop.symbol, stop.check_name, stop.source, stop.released_at) == ("AAPL", "price_jump", "ticks", None)
    assert (stop.evidence["price"], stop.evidence["reference"]) == (103.0, 100.01)

    (good,) = feed(clock, "100.02")
    assert (good["accepted"], good["stopped"]) == (1, [])
    stop.refresh_from_db()
    assert (stop.released_by, stop.reason) == ("feed", "a clean second tick")
    assert hot_state().quote("AAPL").stopped_by is None
    kinds = list(JournalEntry.objects.order_by("seq").values_list("kind", "subject"))
    assert kinds == [("data_stop", "symbol:AAPL"), ("data_stop_released", "symbol:AAPL")]
    assert journal.verify("firm").intact


def test_a_real_gap_is_released_by_the_confirming_tick(clock, firm):
    quiet(clock)
    refused, confirmed = feed(clock, "108", "108.01")
    assert (refused["accepted"], confirmed["accepted"]) == (0, 1)
    assert [(v["check"], v["severity"]) for v in confirmed["verdicts"]] == [("price_jump", "W")]
    assert hot_state().quote("AAPL").price == Decimal("108.01")
    assert DataStop.objects.get().reason == "a clean second tick"


def test_a_thousandfold_price_stays_stopped_until_an_operator_gives_a_reason(clock, firm):
    from backend.tradingbot.services.data_stops import release_symbol

    quiet(clock)
    answers = feed(clock, "100000", "100000", "100001")
    assert [answer["accepted"] for answer in answers] == [0, 0, 0]
    assert DataStop.objects.count() == 1
    (row,) = release_symbol("AAPL", check=None, actor="key:risk", reason="the unit changed", clock=clock)
    assert (row.released_by, row.reason) == ("key:risk", "the unit changed")
    assert hot_state().quote("AAPL") is None
    assert feed(clock, "100002")[0]["accepted"] == 1


def test_a_stop_that_begins_and_ends_within_a_batch_is_kept_as_a_row(clock, firm):
    quiet(clock)
    clock.advance(3)
    rows = [tick(clock, price, behind=3 - n) for n, price in enumerate(["100.01", "103", "100.02"])]
    answer = post_ticks({"ticks": rows}, may_feed=MAY, clock=clock)
    assert (answer["accepted"], [row["row"] for row in answer["refused"]], answer["stopped"]) == (2, [1], [])
    stop = DataStop.objects.get()
    assert (stop.check_name, stop.released_by, stop.released_at) == ("price_jump", "feed", clock.now())
    assert JournalEntry.objects.count() == 0


@pytest.mark.parametrize(
    "row, check",
    [
        ({"bid": "100.02", "ask": "100.01"}, "crossed_quote"),
        ({"ahead": 2.001}, "future_time"),
        ({"ahead": -2.001}, "time_reversed"),
        ({"price": "NaN"}, "bad_tick"),
        ({"price": "-1"}, "bad_tick"),
        ({"bid": "0"}, "bad_tick"),
    ],
)
def test_each_check_of_a_tick_stops_until_a_clean_one(clock, firm, row, check):
    quiet(clock)
    clock.step_wall(-1)  # now is the time of the last good tick
    moment = clock.now() + timedelta(seconds=row.pop("ahead", 0))
    body = {"ticks": [{"symbol": "AAPL", "price": "100.00", "time": moment.isoformat(), **row}]}
    answer = post_ticks(body, may_feed=MAY, clock=clock)
    assert (answer["accepted"], answer["stopped"][0]["check"]) == (0, check)
    assert DataStop.objects.get().check_name == check
    assert hot_state().quote("AAPL").price == Decimal("100.01")
    clock.advance(1)
    assert feed(clock, "100.00")[0]["stopped"] == []
    assert DataStop.objects.get().released_at is not None


def test_a_wide_spread_is_refused_against_the_spreads_before_it(clock, firm):
    for _ in range(20):
        post_ticks({"ticks": [tick(clock, 100, bid="99.99", ask="100.01")]}, may_feed=MAY, clock=clock)
        clock.advance(1)
    at = post_ticks({"ticks": [tick(clock, 100, bid="99.50", ask="100.50")]}, may_feed=MAY, clock=clock)
    assert at["accepted"] == 1
    beyond = post_ticks({"ticks": [tick(clock, 100, bid="99.49", ask="100.50")]}, may_feed=MAY, clock=clock)
    assert beyond["stopped"][0]["check"] == "wide_spread"


def test_a_tick_that_is_a_little_late_is_passed_over_and_stops_nothing(clock, firm):
    quiet(clock)
    late = {"ticks": [tick(clock, "100.05", behind=3)]}
    answer = post_ticks(late, may_feed=MAY, clock=clock)
    assert (answer["accepted"], answer["late"], answer["stopped"]) == (0, [0], [])
    assert hot_state().quote("AAPL").price == Decimal("100.01")


def test_every_row_is_answered_for_and_good_rows_are_taken(clock, firm):
    rows = [
        tick(clock, 100),
        "no object",
        tick(clock, 100, symbol="TSLA"),
        {**tick(clock, 100), "venue": "X"},
        {**tick(clock, 100), "time": "2026-01-05T15:00:00"},
        {**tick(clock, 100), "price": 100},
        tick(clock, "50.5", symbol="MSFT"),
    ]
    answer = post_ticks({"ticks": rows}, may_feed=MAY, clock=clock)
    told = {row["row"]: [error["field"] for error in row["errors"]] for row in answer["refused"]}
    assert told == {
        1: ["ticks[1]"],
        2: ["ticks[2].symbol"],
        3: ["ticks[3].venue"],
        4: ["ticks[4].time"],
        5: ["ticks[5].price"],
    }
    assert answer["accepted"] == 2
    assert hot_state().quote("MSFT").price == Decimal("50.5")
    # a price that cannot be read stops its symbol; a row that is not understood at all does not
    assert [stop["symbol"] for stop in answer["stopped"]] == ["AAPL"]


@pytest.mark.parametrize(
    "body", [{}, {"ticks": []}, {"ticks": {}}, [], {"ticks": [1], "more": 1}, {"ticks": [{}] * 10_001}]
)
def test_what_is_no_batch_is_refused_as_a_whole(clock, body):
    with pytest.raises(ValueError):
        post_ticks(body, may_feed=MAY, clock=clock)


class Counted:
    def __init__(self, client):
        self.client, self.calls = client, 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        return self.client(*arguments, **options)


def test_a_batch_of_many_symbols_is_one_round_trip(clock, monkeypatch):
    symbols = [f"S{n}" for n in range(300)]
    body = {"ticks": [tick(clock, 100, symbol=symbol) for symbol in symbols * 3]}
    post_ticks(body, may_feed=frozenset(symbols), clock=clock)
    counted = Counted(redis.Redis.execute_command)
    monkeypatch.setattr(redis.Redis, "execute_command", lambda *a, **k: counted(*a, **k))
    clock.advance(1)
    body = {"ticks": [tick(clock, 100, symbol=symbol) for symbol in symbols * 3]}
    assert post_ticks(body, may_feed=frozenset(symbols), clock=clock)["accepted"] == 900
    assert counted.calls == 1


def test_many_writers_of_one_symbol_lose_no_tick(clock):
    """32 batches of one symbol at once: the state at the end has met every tick, whoever judged it."""
    bodies = [{"ticks": [tick(clock, f"100.{n:02d}")]} for n in range(32)]

    def post(body):
        try:
            return post_ticks(body, may_feed=MAY, clock=clock)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(post, bodies))
    assert sum(answer["accepted"] for answer in answers) == 32
    raw = hot_state()._redis.get("track:AAPL")
    assert len(unpack(raw[17:]).track.returns) == 31


def test_without_the_token_writers_lose_ticks(clock, monkeypatch):
    """The control: a store that takes every write forgets what the others wrote."""
    blind = hot_state_module.EXCHANGE_SCRIPT.replace("string.sub(held, 1, 16) == ARGV[3 * i - 2]", "true")
    assert blind != hot_state_module.EXCHANGE_SCRIPT
    client = hot_state()._redis
    script = client.register_script(blind)
    monkeypatch.setattr(hot_state_module, "_exchange_script", lambda _: script)
    stale = hot_state_module._met
    for n in range(8):
        stale.clear()  # each writer begins from what it met: nothing
        post_ticks({"ticks": [tick(clock, f"100.{n:02d}")]}, may_feed=MAY, clock=clock)
    assert len(unpack(client.get("track:AAPL")[17:]).track.returns) == 0


def test_an_emptied_store_begins_anew_and_the_open_stop_is_released_by_the_next_clean_tick(clock, firm):
    quiet(clock)
    feed(clock, "103")
    hot_state()._redis.flushdb()
    assert hot_state().quote("AAPL") is None
    assert feed(clock, "100.01")[0]["accepted"] == 1
    assert DataStop.objects.get().reason == "a clean second tick"


def test_a_state_that_cannot_be_read_is_begun_anew(clock, firm):
    quiet(clock)
    hot_state()._redis.set("track:AAPL", "0123456789abcdef:{broken")
    assert feed(clock, "100.01")[0]["accepted"] == 1
    assert feed(clock, "100.02")[0]["accepted"] == 1


# -- with a gateway in front, and orders


def body_of(gateway, price, **changes):
    moment = datetime.now(UTC).isoformat()
    return {"ticks": [{"symbol": "AAPL", "price": price, "bid": price, "ask": price, "time": moment, **changes}]}


def settle(gateway):
    for price in ("100.00", "100.01", "100.02", "100.01", "100.00", "100.01", "100.02"):
        assert gateway.call("POST", "market-data/ticks", body_of(gateway, price)).json()["accepted"] == 1


def failed(answer):
    return {c["gate"]: c for c in answer.json()["order"]["decision"]["checks"] if not c["passed"]}


def test_a_stopped_symbol_denies_with_the_check_and_its_time_and_trades_again_after_a_clean_tick(gateway):
    settle(gateway)
    assert gateway.call("POST", "market-data/ticks", body_of(gateway, "150")).json()["accepted"] == 0
    denied = gateway.order("a")
    assert denied.status_code == 422
    check = failed(denied)["data_quality"]
    stop = DataStop.objects.get()
    since = stop.since.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert (check["code"], check["message"]) == ("data_stopped", f"AAPL is stopped by price_jump since {since}")
    assert "150.0" in Order.objects.get().snapshot["data_stops"][0]["evidence"]
    gateway.call("POST", "market-data/ticks", body_of(gateway, "100.03"))
    assert gateway.order("b").status_code == 201


def test_a_stop_in_the_database_denies_although_the_tick_is_fresh(gateway):
    settle(gateway)
    DataStop.objects.create(
        symbol="AAPL", check_name="missing_bars", source="bars", since=datetime.now(UTC), build_id="x"
    )
    assert failed(gateway.order("a"))["data_quality"]["code"] == "data_stopped"
    assert gateway.order("b", symbol="MSFT").status_code == 422  # never seen
    DataStop.objects.update(released_at=datetime.now(UTC), released_by="x", reason="y")
    assert gateway.order("c").status_code == 201


def test_data_quality_shows_each_stop_and_the_risk_role_releases_it_with_a_reason(gateway):
    settle(gateway)
    gateway.call("POST", "market-data/ticks", body_of(gateway, "100000"))
    shown = gateway.call("GET", "data-quality?symbol=AAPL").json()["symbols"][0]
    assert (shown["symbol"], shown["last"]["price"], shown["stopped"]) == ("AAPL", "100.02", True)
    stop = shown["stops"][0]
    assert (stop["check"], stop["released_by"][-1]) == ("price_jump", "an operator with a reason")
    path = "data-quality/AAPL/release"
    assert gateway.call("POST", path, {"reason": "x"}).status_code == 403
    assert gateway.call("POST", path, {}, token=gateway.risk).json()["errors"][0]["field"] == "reason"
    assert gateway.call("POST", path, {"reason": "x", "check": "none"}, token=gateway.risk).status_code == 404
    answer = gateway.call("POST", path, {"reason": "the vendor confirmed"}, token=gateway.risk)
    assert answer.json()["released"][0]["release"] == {"by": "key:risk", "reason": "the vendor confirmed"}
    assert gateway.call("GET", "data-quality?symbol=AAPL").json()["symbols"][0]["stopped"] is False
    assert gateway.call("POST", path, {"reason": "again"}, token=gateway.risk).json()["code"] == "data_stop_not_found"


def test_lines_are_taken_one_by_one_and_a_broken_one_costs_only_itself(gateway):
    moment = datetime.now(UTC).isoformat()
    good = [json.dumps({"symbol": s, "price": "100", "time": moment}) for s in ("AAPL", "MSFT")]
    lines = "\n".join([good[0], "{broken", '{"symbol": "AAPL", "price": NaN}', "", good[1]])
    headers = {"Authorization": f"Bearer {gateway.trader}", "Content-Type": "application/x-ndjson"}
    url = f"{gateway.url}/api/v1/market-data/ticks"
    answer = requests.post(url, data=lines, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 2)
    assert [(row["row"], row["errors"][0]["problem"]) for row in answer.json()["refused"]] == [
        (1, "must be an object"),
        (2, "must be an object"),
    ]


def test_a_store_that_does_not_answer_is_a_503_and_nothing_is_taken(gateway, settings):
    changes = {"redis_url": SecretStr("redis://127.0.0.1:1/0")}
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)
    answer = gateway.call("POST", "market-data/ticks", body_of(gateway, "100"))
    assert (answer.status_code, answer.json()["code"]) == (503, "market_data_unavailable")
    shown = gateway.call("GET", "data-quality?symbol=AAPL")
    assert (shown.status_code, "does not answer" in shown.json()["problem"]) == (200, True)


def test_the_first_tick_after_a_split_on_file_is_good_and_without_one_it_stops(clock, firm):
    quiet(clock)
    quiet(clock, symbol="MSFT")
    corporate_actions.enter(
        {"symbol": "AAPL", "ex_date": "2026-01-06", "ratio": "10", "source": "the exchange", "reason": "ten for one"},
        actor="ann", clock=clock,
    )  # fmt: skip
    clock.advance(86_400)
    (aapl,), (msft,) = feed(clock, "10.001"), feed(clock, "10.001", symbol="MSFT")
    assert (aapl["accepted"], aapl["stopped"], aapl["refused"]) == (1, [], [])
    assert (msft["accepted"], msft["stopped"][0]["check"]) == (0, "price_jump")
    with CaptureQueriesContext(connection) as seen:
        feed(clock, "10.002")
    assert not [query for query in seen if "corporateaction" in query["sql"]], "asked by the first ticks of a day only"
    assert DataStop.objects.get(released_at=None).symbol == "MSFT"
    corporate_actions.enter(
        {"symbol": "MSFT", "ex_date": "2026-01-06", "ratio": "10", "source": "the exchange", "reason": "came late"},
        actor="ann", clock=clock,
    )  # fmt: skip
    assert feed(clock, "10.001", symbol="MSFT")[0]["stopped"] == []
    assert not DataStop.objects.filter(released_at=None).exists()
