"""Traces by W3C Trace Context: one id from the request through tasks to the journal and the broker, exported on demand.

Invariants: the id is there without any library; with a collector named, spans go to it by OTLP over HTTP, and one that
is slow or gone never holds up an order. OpenTelemetry is an optional extra: it is imported by ``start`` alone. A span
bears names and ids, never a body, a header or an exception's message.
"""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from backend.tradingbot.core.ids import new_trace_id, read_traceparent
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID

NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
LONGEST_EXPORT_SECONDS = 3  # with every retry; a process that ends waits no longer for a collector that is gone
SAMPLED: ContextVar[bool] = ContextVar("sampled", default=True)

_exporter: _Exporter | None = None


def missing_packages() -> list[str]:
    """What the optional extra would bring and is not installed."""
    return [name for name in NEEDED if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def continued(traceparent: str | None, trace_id: str | None = None) -> Iterator[str]:
    """What happens inside belongs to the trace of the header, else to ``trace_id``, else to a new one; gives its id."""
    came = read_traceparent(traceparent)
    chosen = came.trace_id if came else trace_id or new_trace_id()
    tokens = TRACE_ID.set(chosen), SAMPLED.set(came.sampled if came else True)
    attached = None if _exporter is None else _exporter.attach(chosen, came.span_id if came else None, SAMPLED.get())
    try:
        yield chosen
    finally:
        if attached is not None and _exporter is not None:
            _exporter.detach(attached)
        TRACE_ID.reset(tokens[0])
        SAMPLED.reset(tokens[1])


@contextmanager
def span(name: str, *, kind: str = "INTERNAL", **attributes: str | int | bool) -> Iterator[Span]:
    """Time what happens inside as a span of the current trace; nothing at all when nothing is exported.

    ``kind`` is OpenTelemetry's: INTERNAL, SERVER, CLIENT or CONSUMER. An exception marks it as failed by its type.
    """
    if _exporter is None:
        yield NO_SPAN
        return
    with _exporter.span(name, kind, attributes) as opened:
        yield opened


def traceparent() -> str:
    """The header for a call that goes out now: this trace, and the open span where one is recorded."""
    current = None if _exporter is None else _exporter.current()
    trace_id, span_id = current or (TRACE_ID.get() or new_trace_id(), secrets.token_hex(8))
    return f"00-{trace_id}-{span_id}-{'01' if SAMPLED.get() else '00'}"


class Span:
    """An open span. ``note`` adds attributes, ``rename`` gives it the name that is known only later."""

    def note(self, **attributes: str | int | bool) -> None:
        """Nothing is recorded."""

    def rename(self, name: str) -> None:
        """Nothing is recorded."""


NO_SPAN = Span()


def start(endpoint: str, *, service: str, headers: str = "") -> None:
    """Export spans to the collector at ``endpoint`` (its base address, as OTEL_EXPORTER_OTLP_ENDPOINT is) from now on.

    ``headers`` is ``name=value,...``. Raises ImportError naming what is not installed. A second start changes nothing.
    """
    global _exporter
    if _exporter is None:
        if absent := missing_packages():
            raise ImportError(f"OpenTelemetry is not installed: {', '.join(absent)}; install the extra otel")
        _exporter = _Exporter(endpoint, service, headers)


def stop() -> None:
    """Hand over what is left, and export nothing any more."""
    global _exporter
    if _exporter is not None:
        _exporter.provider.shutdown()
        _exporter = None


class _Exporter:
    """OpenTelemetry's tracer, with trace ids that are ours. It is not set as the process's global one."""

    def __init__(self, endpoint: str, service: str, headers: str) -> None:
        from opentelemetry import context, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class OurIds(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                """A span without a parent begins the trace that the log and the journal name already."""
                return int(TRACE_ID.get() or new_trace_id(), 16)

        self._context, self._trace = context, trace
        pairs = (pair.partition("=") for pair in headers.split(",") if pair.strip())
        exporter = OTLPSpanExporter(
            endpoint=endpoint.rstrip("/") + "/v1/traces",
            headers={name.strip(): value.strip() for name, _, value in pairs},
            timeout=LONGEST_EXPORT_SECONDS,
        )
        resource = Resource.create({"service.name": service, "service.version": build_id()})
        self.provider = TracerProvider(resource=resource, id_generator=OurIds())
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self.provider.get_tracer("tradingbot", build_id())

    def attach(self, trace_id: str, span_id: str | None, sampled: bool) -> Any:
        """Begin in a context without spans, or below the caller's span."""
        trace, clean = self._trace, self._context.Context()
        if span_id is not None:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
            remote = trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)
            clean = trace.set_span_in_context(trace.NonRecordingSpan(remote), clean)
        return self._context.attach(clean)

    def detach(self, token: Any) -> None:
        self._context.detach(token)

    @contextmanager
    def span(self, name: str, kind: str, attributes: dict[str, Any]) -> Iterator[Span]:
        trace = self._trace
        with self._tracer.start_as_current_span(
            name,
            kind=trace.SpanKind[kind],
            attributes={key.replace("__", "."): value for key, value in attributes.items()},
            record_exception=False,
            set_status_on_exception=False,
        ) as opened:
            try:
                yield _RecordedSpan(opened)
            except BaseException as error:
                opened.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
                raise

    def current(self) -> tuple[str, str] | None:
        """The ids of the open span, or None outside of one."""
        found = self._trace.get_current_span().get_span_context()
        return (f"{found.trace_id:032x}", f"{found.span_id:016x}") if found.is_valid else None


class _RecordedSpan(Span):
    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def note(self, **attributes: str | int | bool) -> None:
        for name, value in attributes.items():
            self._opened.set_attribute(name.replace("__", "."), value)

    def rename(self, name: str) -> None:
        self._opened.update_name(name)
