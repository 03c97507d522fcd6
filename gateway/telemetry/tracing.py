"""OpenTelemetry traces: one span for each call, for each attempt that was sent, and for each wait in a target's queue.

The spans of calls and attempts have the attributes of the GenAI conventions.

W3C `traceparent` and `tracestate` are read from callers and sent to upstreams. The exporter sends spans in batches over OTLP/HTTP from
its own thread, so an unavailable collector does not delay calls; the queue is bounded. Spans contain prompts and
answers only with `capture_content`. OpenTelemetry is imported only if traces are configured (extra `otel`).
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
from gateway.telemetry.log_record import safe_name
from gateway.telemetry.trace_content import CapturedAnswer
from providers.base import Usage, WireRequest

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

MAX_QUEUED_SPANS, MAX_BATCH_SPANS = 2048, 256
EXPORT_TIMEOUT_S = 3.0
EXPORT_INTERVAL_MS = 1000
_OPERATIONS = {"completions": "text_completion"}
_PARAMETER_ATTRIBUTES = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
"""Span attributes of request parameters."""


class Trace:
    """The spans of one call."""

    __slots__ = ("_attempts", "_captured", "_context", "_span", "_state", "_tracer", "header", "id")

    def __init__(self, tracer: Any, parent: Context, *, captures: bool) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._tracer = tracer
        self._span: Span = tracer.start_span("call", parent, kind=SpanKind.SERVER)
        self._context = set_span_in_context(self._span)
        self._attempts: list[tuple[Attempt, Span, int]] = []
        sampled = self._span.is_recording()
        self._captured = CapturedAnswer() if captures and sampled else None
        self.id = f"{self._span.get_span_context().trace_id:032x}" if sampled else ""
        """The trace id in hexadecimal; empty if the call is not sampled."""
        self.header = _traceparent(self._span)
        self._state = self._span.get_span_context().trace_state.to_header()

    def wrap_send(self, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a `send` that captures the answer, if this trace captures content."""
        return self._captured.wrap_send(send) if self._captured is not None else send

    def begin(self, attempt: Attempt) -> None:
        """Begin the span of an attempt."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.INTERNAL if attempt.target.kind.type == "local" else SpanKind.CLIENT
        now = time.time_ns()
        span = self._tracer.start_span("attempt", self._context, kind=kind, start_time=now)
        self._attempts.append((attempt, span, now))
        self.header = _traceparent(span)

    def mark(self, request: WireRequest) -> None:
        """Add the attempt's traceparent header, and the caller's tracestate, to an upstream request."""
        request.headers.append(("traceparent", self.header))
        if self._state:
            request.headers.append(("tracestate", self._state))

    def end(self, call: Call, model: str) -> None:
        """End all spans of the call. `model` is the label value of the call's model."""
        operation = _OPERATIONS.get(call.operation, call.operation)
        for attempt, span, began in self._attempts:
            if span.is_recording():
                span.update_name(f"{operation} {attempt.target.model}")
                _set(span, _attempt_attributes(attempt, operation))
                if attempt.outcome not in ("ok", "left"):
                    _fail(span, attempt.outcome)
            span.end(began + int(attempt.ms * 1e6))
        if any(attempt.queue_s for attempt in call.attempts):
            self._add_queues(call)
        span = self._span
        if span.is_recording():
            span.update_name(f"{operation} {model}")
            _set(span, _call_attributes(call, operation))
            if self._captured is not None:
                _set(span, self._captured.attributes(call))
            if call.abort_phase:
                span.set_attribute("error.type", "client_closed")
            elif call.error is not None:
                _fail(span, safe_name(call.error.code) or str(call.status))
        span.end()


    def _add_queues(self, call: Call) -> None:
        """Add a span for each wait for a slot of a target. The span ends when the attempt is sent or stops waiting."""
        sent = {id(attempt): began for attempt, _, began in self._attempts}
        offset = time.time_ns() - int(time.monotonic() * 1e9)
        for attempt in call.attempts:
            if attempt.queue_s:
                ended = sent.get(id(attempt)) or offset + int(attempt.sent_at * 1e9)
                span = self._tracer.start_span("queue", self._context, start_time=ended - int(attempt.queue_s * 1e9))
                span.set_attribute("lockgate.target", attempt.target.name)
                span.end(ended)


class Tracer:
    """Begins the trace of each call and sends finished spans to the collector."""

    def __init__(self, config: TracesConfig, report: Callable[[str], None]) -> None:
        """Raise ImportError if OpenTelemetry is not installed.

        Settings that `config` lacks come from OTEL_* variables.
        """
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        for name in ("opentelemetry", "urllib3"):  # the gateway reports an unavailable collector in one line instead
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._capture = config.capture_content
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(config.sample)),
            resource=Resource.create({"service.name": "lockgate"}),
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(
            _exporter(config, report),
            max_queue_size=MAX_QUEUED_SPANS,
            max_export_batch_size=MAX_BATCH_SPANS,
            schedule_delay_millis=EXPORT_INTERVAL_MS,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("lockgate")

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        """Begin the trace of a call.

        The trace continues that of the caller if the headers have a valid `traceparent`.
        """
        carrier = {
            name.decode(): value.decode("latin-1") for name, value in headers if name in (b"traceparent", b"tracestate")
        }
        return Trace(self._tracer, self._propagator.extract(carrier), captures=self._capture)

    def stop(self) -> None:
        """Send the queued spans; each batch takes at most EXPORT_TIMEOUT_S. This method blocks, so call it in a thread."""
        self._provider.shutdown()


def _exporter(config: TracesConfig, report: Callable[[str], None]) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    endpoint = f"{config.endpoint.rstrip('/')}/v1/traces" if config.endpoint else None
    headers = {name: value.reveal() for name, value in config.headers.items()}
    inner = OTLPSpanExporter(endpoint, headers=headers or None, timeout=EXPORT_TIMEOUT_S)

    class Reporting(SpanExporter):
        """Reports once that the collector is unavailable, and once that it is available again."""

        def __init__(self) -> None:
            self._failing = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result: SpanExportResult = inner.export(spans)
            failing = result is not SpanExportResult.SUCCESS
            if failing != self._failing:
                self._failing = failing
                lost = "does not accept spans, so they are dropped; check traces.endpoint"
                report(f"traces: the collector {lost if failing else 'accepts spans again'}")
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


def _attempt_attributes(attempt: Attempt, operation: str) -> dict[str, Any]:
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


def _call_attributes(call: Call, operation: str) -> dict[str, Any]:
    attempt = call.final_attempt
    adjustments = attempt.adjustments[:32] if attempt is not None else ()
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": call.model[:256] or None,
        "gen_ai.request.stream": call.stream,
        "http.response.status_code": call.status or None,
        "lockgate.request_id": call.id,
        "lockgate.key": call.key.name if call.key is not None else None,
        "lockgate.attempts": len(call.attempts),
        "lockgate.adjustments": [f"{safe_name(each.param)}:{each.action}" for each in adjustments] or None,
    }
    if call.body is not None:
        parameters = {
            attribute: call.body.get(name) for name, attribute in _PARAMETER_ATTRIBUTES.items() if name in call.body
        }
        attributes |= {
            name: value for name, value in parameters.items() if type(value) in (int, float) and abs(value) < 1 << 53
        }
    if attempt is not None:
        target = attempt.target
        attributes["gen_ai.provider.name"] = system_of(target.provider, target.kind.type)
        attributes["gen_ai.response.model"] = target.model
        attributes["lockgate.target"] = target.name
    if call.stream and call.first_byte_at:
        attributes["gen_ai.response.time_to_first_chunk"] = call.first_byte_at - call.started
    if attempt is not None and attempt.finish_reasons:
        reasons = attempt.finish_reasons[:32]
        attributes["gen_ai.response.finish_reasons"] = [
            str(safe_name(reason)) for reason in reasons if reason is not None
        ]
    return attributes | _usage_attributes(attempt.usage if attempt is not None else None)


def _usage_attributes(usage: Usage | None) -> dict[str, Any]:
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
    """Return the tracer of a configuration; None without `traces`."""
    return None if config.traces is None else Tracer(config.traces, report)
