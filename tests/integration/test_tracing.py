"""One trace id from the request to the log, the journal, the task and the broker; and spans exported for real."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from celery.contrib.testing.worker import start_worker

from backend.celery_app import app
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.ids import new_trace_id, read_traceparent
from backend.tradingbot.infra import tracing
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import JournalEntry, Order
from backend.tradingbot.services import recovery

ROOT = Path(__file__).resolve().parents[2]
SPAN = "00f067aa0ba902b7"


@pytest.fixture
def trace() -> str:
    return new_trace_id()


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """Every (method, traceparent) that goes out to the broker from here on, as it is on the wire."""
    sent: list[tuple[str, str]] = []
    send = requests.adapters.HTTPAdapter.send

    def noting(self: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        if "/v2/" in request.url:
            sent.append((request.method, request.headers.get("traceparent", "")))
        return send(self, request, *arguments, **options)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", noting)
    return sent


def place(gateway, name: str, traceparent: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {gateway.trader}", "Content-Type": "application/json"}
    headers |= {} if traceparent is None else {"traceparent": traceparent}
    body = json.dumps(gateway.body(name))
    return requests.post(f"{gateway.url}/api/v1/orders", data=body, headers=headers, timeout=30)


@pytest.mark.django_db(transaction=True)
class TestOneId:
    def test_of_a_callers_traceparent_is_in_the_answer_the_order_the_journal_and_the_call(self, gateway, calls, trace):
        gateway.tick()
        answer = place(gateway, "a", f"00-{trace}-{SPAN}-01")
        assert (answer.status_code, answer.headers["X-Trace-Id"], answer.json()["trace_id"]) == (201, trace, trace)
        order = Order.objects.get()
        entries = JournalEntry.objects.filter(subject=order.client_order_id)
        assert entries.count() >= 2 and set(entries.values_list("trace_id", flat=True)) == {trace}
        ((method, header),) = [call for call in calls if call[0] == "POST"]
        sent = read_traceparent(header)
        assert (sent.trace_id, sent.sampled, sent.span_id != SPAN) == (trace, True, True)

    def test_a_caller_that_does_not_record_is_not_recorded_further_on(self, gateway, calls, trace):
        gateway.tick()
        place(gateway, "a", f"00-{trace}-{SPAN}-00")
        assert [read_traceparent(header).sampled for method, header in calls if method == "POST"] == [False]

    @pytest.mark.parametrize(
        "header", [None, "", "00-" + "0" * 32 + f"-{SPAN}-01", "nonsense", f"ff-{'a' * 32}-{SPAN}-01"]
    )
    def test_is_made_anew_where_none_can_be_read(self, gateway, header):
        first, second = (place(gateway, name, header).headers["X-Trace-Id"] for name in ("a", "b"))
        assert len(first) == len(second) == 32 and first != second
        assert "0" * 32 not in (first, second) and "a" * 32 not in (first, second)

    def test_stays_the_requests_when_the_order_is_recovered_by_a_task(self, gateway, broker, calls, trace, monkeypatch):
        gateway.tick()
        broker.fault("drop_after_accept")
        assert place(gateway, "a", f"00-{trace}-{SPAN}-01").status_code == 202
        broker.heal()
        calls.clear()
        Order.objects.update(next_lookup_at=None)
        recovery.recover(clock=SYSTEM_CLOCK)
        looked = [read_traceparent(header).trace_id for method, header in calls if method == "GET"]
        assert looked and set(looked) == {trace}
        assert set(JournalEntry.objects.filter(subject__contains="-a").values_list("trace_id", flat=True)) == {trace}
        assert TRACE_ID.get() == ""


@contextmanager
def worker(queue: str) -> Iterator[None]:
    with start_worker(app, pool="solo", queues=[queue], perform_ping_check=False, shutdown_timeout=20):
        yield


def test_a_task_belongs_to_the_trace_that_sent_it_over_the_real_queue(trace):
    seen: list[tuple[str, str]] = []
    done = threading.Event()

    @app.task(name=f"tests.{trace}", bind=True)
    def told(self: Any) -> None:
        seen.append((TRACE_ID.get(), self.request.get("traceparent") or ""))
        if len(seen) == 2:
            done.set()

    queue = f"trace-{trace}"
    with tracing.continued(f"00-{trace}-{SPAN}-01"):
        told.apply_async(queue=queue)
    told.apply_async(queue=queue)  # as beat sends: of no trace
    try:
        with worker(queue):
            assert done.wait(60)
    finally:
        app.tasks.pop(told.name, None)
    (of_request, header), (of_beat, nothing) = seen
    assert (of_request, read_traceparent(header).trace_id) == (trace, trace)
    assert (len(of_beat), of_beat != trace, nothing) == (32, True, "")


# -- OpenTelemetry, over HTTP to a collector of our own


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP: the spans that came, by name, with their ids in hex; and the headers."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                    collector.services.add(names["service.name"])
                    collector.spans += [collector.read(span) for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    @staticmethod
    def read(span: Any) -> dict[str, Any]:
        values = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
        ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
        return {"name": span.name, "kind": span.kind, "failed": span.status.code == 2, **ids, "values": values}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        tracing.start(server.url, service="tradingbot-test", headers="x-tenant=desk")
        yield server
        tracing.stop()
        server.shutdown()
        thread.join()


@pytest.mark.django_db(transaction=True)
def test_request_decision_broker_call_and_task_are_spans_of_one_tree(gateway, collector, calls, trace):
    gateway.tick()
    answer = place(gateway, "a", f"00-{trace}-{SPAN}-01")
    assert answer.status_code == 201
    with tracing.continued(f"00-{trace}-{SPAN}-01"):
        from backend.tradingbot.tasks import recover_orders

        recover_orders()
    tracing.stop()
    spans = {span["name"]: span for span in collector.spans if span["trace"] == trace}
    request, broker_call = spans["POST /api/v1/orders"], spans["broker POST /orders"]
    assert request["parent"] == SPAN and request["values"]["http.response.status_code"] == 201
    assert request["values"]["http.route"] == "/api/v1/orders"
    assert spans["order whole"]["parent"] == request["id"]
    assert spans["order decide"]["parent"] == spans["order whole"]["id"]
    assert (
        broker_call["parent"] == spans["order broker"]["id"]
        and spans["order broker"]["parent"] == spans["order whole"]["id"]
    )
    assert spans["task tradingbot.recover_orders"]["parent"] == SPAN
    assert [read_traceparent(h).span_id for method, h in calls if method == "POST"] == [broker_call["id"]]
    assert collector.services == {"tradingbot-test"}
    assert {headers["x-tenant"] for headers in collector.headers} == {"desk"}
    told = json.dumps(collector.spans)
    assert gateway.trader not in told and "test-secret" not in told


@pytest.mark.django_db(transaction=True)
def test_without_a_callers_trace_the_root_span_bears_the_id_that_the_answer_names(gateway, collector):
    answer = place(gateway, "a")  # no tick: denied
    assert answer.status_code == 422
    tracing.stop()
    root = next(span for span in collector.spans if span["name"] == "POST /api/v1/orders")
    assert (root["trace"], root["parent"]) == (answer.headers["X-Trace-Id"], "")


def test_what_fails_is_marked_by_its_type_and_never_by_its_message(collector, trace):
    with pytest.raises(ValueError), tracing.continued(None, trace), tracing.span("work", account="main"):
        raise ValueError("a-planted-secret")
    tracing.stop()
    (span,) = [span for span in collector.spans if span["trace"] == trace]
    assert (span["name"], span["failed"], span["values"]) == ("work", True, {"account": "main"})
    assert "a-planted-secret" not in json.dumps(collector.spans)


def test_a_collector_that_is_gone_holds_nothing_up(trace):
    tracing.start("http://127.0.0.1:1", service="tradingbot-test")
    try:
        with tracing.continued(None, trace), tracing.span("work"):
            assert read_traceparent(tracing.traceparent()).trace_id == trace
    finally:
        tracing.stop()


WITHOUT_THE_EXTRA = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
import django
django.setup()
print("started")
"""


@pytest.mark.parametrize(
    "endpoint, told",
    [
        ("", "started"),
        ("http://127.0.0.1:4318", "needs the optional extra otel, and this is not installed: opentelemetry.sdk"),
        ("127.0.0.1:4318", "OTEL_EXPORTER_OTLP_ENDPOINT must start with http:// or https://"),
    ],
)
def test_the_extra_is_needed_only_where_a_collector_is_named(endpoint, told):
    import os

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA],
        cwd=ROOT, env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert told in done.stdout + done.stderr
    assert (done.returncode == 0) is (endpoint == "")
