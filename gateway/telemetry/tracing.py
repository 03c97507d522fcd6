"""OpenTelemetry traces: one span for each call and one for each attempt, with the attributes of the GenAI conventions.

W3C `traceparent` is taken from callers and given to upstreams. Spans go out in batches over OTLP/HTTP from a thread of the exporter's own:
a collector that is away costs calls nothing, and what waits for it is bounded. Prompts and answers are in them with `capture_content`
alone. OpenTelemetry is imported only where traces are configured (the extra `otel`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway.call import Attempt, Call
from gateway.config.telemetry import TracesConfig
from gateway.config.types import Config
from gateway.metrics.names import system_of
from gateway.telemetry import trace_content
from gateway.telemetry.call_log import shown_name
from providers.base import Usage, WireRequest

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

QUEUE, BATCH = 2048, 256
"""Spans that wait for the collector at most, and of one request to it."""
EXPORT_TIMEOUT = 3.0
LINGER_MS = 1000
_OPERATIONS = {"completions": "text_completion"}
_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
"""Parameters and the attributes that show them."""


class Trace:
    """The spans of one call."""

    __slots__ = ("_attempts", "_captured", "_context", "_span", "_tracer", "captures", "header", "id")

    def __init__(self, tracer: Any, parent: Context, *, captures: bool) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._tracer = tracer
        self._span: Span = tracer.start_span("call", parent, kind=SpanKind.SERVER)
        self._context = set_span_in_context(self._span)
        self._attempts: list[tuple[Attempt, Span, int]] = []
        self._captured: trace_content.Captured | None = trace_content.Captured() if captures and self._span.is_recording() else None
        self.captures = self._captured is not None
        self.id = f"{self._span.get_span_context().trace_id:032x}" if self._span.is_recording() else ""
        """The trace's id in hexadecimal; empty when this call is not sampled."""
        self.header = _traceparent(self._span)

    def tap(self, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The caller's `send`, seen by the trace."""
        return self._captured.tap(send) if self._captured is not None else send

    def begin(self, attempt: Attempt) -> None:
        """An attempt is about to be made."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.INTERNAL if attempt.target.kind.type == "local" else SpanKind.CLIENT
        now = time.time_ns()
        span = self._tracer.start_span("attempt", self._context, kind=kind, start_time=now)
        self._attempts.append((attempt, span, now))
        self.header = _traceparent(span)

    def mark(self, request: WireRequest) -> None:
        """Tell the upstream which attempt this is."""
        request.headers.append(("traceparent", self.header))

    def end(self, call: Call, model: str) -> None:
        """The call is over; `model` is its label."""
        operation = _OPERATIONS.get(call.operation, call.operation)
        for attempt, span, began in self._attempts:
            if span.is_recording():
                span.update_name(f"{operation} {attempt.target.model}")
                _set(span, _of_attempt(attempt, operation))
                if attempt.outcome != "ok":
                    _fail(span, attempt.outcome)
            span.end(began + int(attempt.ms * 1e6))
        span = self._span
        if span.is_recording():
            span.update_name(f"{operation} {model}")
            _set(span, _of_call(call, operation))
            if self._captured is not None:
                _set(span, self._captured.attributes(call))
            if call.abort_phase:
                span.set_attribute("error.type", "client_closed")
            elif call.error is not None:
                _fail(span, shown_name(call.error.code) or str(call.status))
        span.end()


class Tracer:
    """Begins the trace of each call, and sends finished spans to the collector."""

    def __init__(self, config: TracesConfig, report: Callable[[str], None]) -> None:
        """ImportError where OpenTelemetry is not installed. What `config` leaves out is taken from OTEL_* variables, as usual."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        for name in ("opentelemetry", "urllib3"):  # their lines about a collector that is away are one of ours
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._capture = config.capture_content
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(config.sample)),
            resource=Resource.create({"service.name": "lockgate"}),
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(
            _exporter(config, report), max_queue_size=QUEUE, max_export_batch_size=BATCH, schedule_delay_millis=LINGER_MS
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("lockgate")

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        """The trace of a call with these headers: the caller's own, if it sent one that can be read."""
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in (b"traceparent", b"tracestate")}
        return Trace(self._tracer, self._propagator.extract(carrier), captures=self._capture)

    def stop(self) -> None:
        """Send what waits, for as long as one export may take. Blocks: for a thread."""
        self._provider.shutdown()


def _exporter(config: TracesConfig, report: Callable[[str], None]) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    endpoint = f"{config.endpoint.rstrip('/')}/v1/traces" if config.endpoint else None
    headers = {name: value.reveal() for name, value in config.headers.items()}
    inner = OTLPSpanExporter(endpoint, headers=headers or None, timeout=EXPORT_TIMEOUT)

    class Reporting(SpanExporter):
        """Says once that the collector is away, and once that it is back."""

        def __init__(self) -> None:
            self._away = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result: SpanExportResult = inner.export(spans)
            away = result is not SpanExportResult.SUCCESS
            if away != self._away:
                self._away = away
                report("traces: the collector takes no spans; they are dropped" if away else "traces: the collector takes spans again")
            return result

        def shutdown(self) -> None:
            inner.shutdown()  # type: ignore[no-untyped-call]

    return Reporting()


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _set(span: Span, attributes: dict[str, Any]) -> None:
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def _fail(span: Span, error: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


def _of_attempt(attempt: Attempt, operation: str) -> dict[str, Any]:
    target = attempt.target
    url = urlsplit(target.base_url)
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": system_of(target.provider, target.kind.type),
        "gen_ai.request.model": target.model,
        "server.address": target.socket or url.hostname,
        "server.port": None if target.socket else url.port or (443 if url.scheme == "https" else 80),
        "lockgate.target": target.name,
        "lockgate.outcome": attempt.outcome,
    }


def _of_call(call: Call, operation: str) -> dict[str, Any]:
    attempt = call.final_attempt
    adjustments = attempt.adjustments[:32] if attempt is not None else ()
    found: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": call.model[:256] or None,
        "gen_ai.request.stream": call.stream,
        "http.response.status_code": call.status or None,
        "lockgate.request_id": call.id,
        "lockgate.key": call.key.name if call.key is not None else None,
        "lockgate.attempts": len(call.attempts),
        "lockgate.adjustments": [f"{shown_name(each.param)}:{each.action}" for each in adjustments] or None,
    }
    if call.body is not None:
        asked = {attribute: call.body.get(name) for name, attribute in _ASKED.items() if name in call.body}
        found |= {name: value for name, value in asked.items() if type(value) in (int, float) and abs(value) < 1 << 53}
    if attempt is not None:
        target = attempt.target
        found["gen_ai.provider.name"] = system_of(target.provider, target.kind.type)
        found["gen_ai.response.model"] = target.model
        found["lockgate.target"] = target.name
    if call.stream and call.first_byte_at:
        found["gen_ai.response.time_to_first_chunk"] = call.first_byte_at - call.started
    if attempt is not None and attempt.finish_reasons:
        reasons = attempt.finish_reasons[:32]
        found["gen_ai.response.finish_reasons"] = [str(shown_name(reason)) for reason in reasons if reason is not None]
    return found | _of_usage(attempt.usage if attempt is not None else None)


def _of_usage(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    numbers = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
    }
    return {name: value for name, value in numbers.items() if value is not None and abs(value) < 1 << 53}


def tracer_of(config: Config, report: Callable[[str], None]) -> Tracer | None:
    """Return the tracer of a configuration; None if traces are not configured or OpenTelemetry is not installed."""
    if config.traces is None:
        return None
    try:
        return Tracer(config.traces, report)
    except ImportError:
        report("traces is ignored: install lockgate[otel]")
        return None
